"""What code raises ends its call or its step, however odd it is, and never the process."""

import asyncio
import sys
from typing import Any

import pytest

from crew import Agent, Context, Fenced, Graph, RunFailed, Runtime, StoreError, tool, workflow
from crew.testing import ScriptedModel, ToolCall
from tests.core.flows import Count, Done
from tests.core.lives import result, until


async def cancelled_by_a_library() -> None:
    raise asyncio.CancelledError


async def awaits_what_was_cancelled() -> None:
    task = asyncio.create_task(asyncio.sleep(60))
    task.cancel()
    await task


async def cancelled_future() -> None:
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    future.cancel()
    await future


async def group() -> None:
    raise BaseExceptionGroup("some", [GeneratorExit(), ValueError("part")])


async def group_of_a_cancel() -> None:
    raise BaseExceptionGroup("some", [asyncio.CancelledError()])


async def generator_exit() -> None:
    raise GeneratorExit


async def own_base_exception() -> None:
    class Halt(BaseException):
        pass

    raise Halt


async def exits() -> None:
    sys.exit(3)


def exits_in_thread() -> None:
    sys.exit("bye")


def raises_exit_in_thread() -> None:
    raise SystemExit


def stops_in_thread() -> None:
    next(iter([]))


def stops_with_a_value() -> None:
    raise StopIteration(7)


def group_in_thread() -> None:
    raise BaseExceptionGroup("some", [SystemExit(3), StopIteration()])


def generator_exit_in_thread() -> None:
    raise GeneratorExit


def cancelled_in_thread() -> None:
    raise asyncio.CancelledError


CANCELS = [cancelled_by_a_library, awaits_what_was_cancelled, cancelled_future, cancelled_in_thread]
GROUPS = [
    group,
    group_of_a_cancel,
    generator_exit,
    own_base_exception,
    group_in_thread,
    generator_exit_in_thread,
]
STOPS = [stops_in_thread, stops_with_a_value]
EXITS = [exits, exits_in_thread, raises_exit_in_thread]


def child_of(raises: Any) -> Any:
    graph = Graph("inner", input=Count, output=Done)

    async def node(value: Count) -> Done:
        await raises()
        return Done(n=0)

    def node_in_thread(value: Count) -> Done:
        raises()
        return Done(n=0)

    graph.node(name="node")(node if asyncio.iscoroutinefunction(raises) else node_in_thread)
    return graph


async def as_node(ctx: Context, raises: Any) -> None:
    await ctx.run(child_of(raises), Count(n=0))


async def as_function(ctx: Context, raises: Any) -> None:
    await ctx.run(raises)


async def as_effect(ctx: Context, raises: Any) -> None:
    await ctx.effect(raises, key="act")


async def as_item(ctx: Context, raises: Any) -> None:
    if asyncio.iscoroutinefunction(raises):

        async def one(item: int) -> None:
            await raises()

        await ctx.map(one, [1, 2, 3])
    else:
        await ctx.map(lambda item: raises(), [1, 2, 3])


async def beside_others(ctx: Context, raises: Any) -> None:
    await asyncio.gather(ctx.effect(raises), ctx.sleep(0.05))


PLACES = [as_function, as_effect, as_item, as_node, beside_others]


def in_turn(names: tuple[str, ...], cases: list[Any]) -> Any:
    """Parametrize by these cases, on the two databases in turn."""
    on = [(*case, ("sqlite", "postgres")[number % 2]) for number, case in enumerate(cases)]
    return pytest.mark.parametrize((*names, "url"), on, indirect=["url"])


def crossed(kinds: list[Any]) -> Any:
    """Each kind is raised in two places at least, and in each place is one of them raised."""
    count = len(PLACES)
    pairs = [(kind, PLACES[(2 * i + j) % count]) for i, kind in enumerate(kinds) for j in (0, 1)]
    pairs += [(kinds[i % len(kinds)], place) for i, place in enumerate(PLACES)]
    return in_turn(("raises", "place"), list(dict.fromkeys(pairs)))


async def failure(url: str, flow: Any, value: Any = 0) -> RunFailed:
    """Return how a run fails; a run beside it goes on, in the same process."""

    @workflow
    async def other(ctx: Context, value: int) -> int:
        return await ctx.run(lambda: 7)

    async with Runtime(url, workflows=[flow, other]) as runtime:
        run = await runtime.start(flow, value)
        assert await until(run, "failed", "completed") == "failed"
        with pytest.raises(RunFailed) as failed:
            await result(run)
        assert await result(await runtime.start(other, 0)) == 7
    return failed.value


def through(place: Any, raises: Any) -> Any:
    @workflow
    async def flow(ctx: Context, value: int) -> str:
        await place(ctx, raises)
        return "nothing was raised"

    return flow


@crossed(CANCELS)
async def test_a_cancel_that_nobody_asked_for_fails_the_call(raises, place, url):
    assert "CancelledError" in str(await failure(url, through(place, raises)))


@crossed(GROUPS)
async def test_what_is_no_exception_fails_the_call(raises, place, url):
    assert "instead" in str(await failure(url, through(place, raises)))


@crossed(STOPS)
async def test_a_stop_iteration_in_a_thread_fails_the_call(raises, place, url):
    assert "StopIteration" in str(await failure(url, through(place, raises)))


@crossed(EXITS)
async def test_an_exit_of_the_process_fails_the_call(raises, place, url):
    assert "SystemExit" in str(await failure(url, through(place, raises)))


ODD = [*CANCELS, *GROUPS, *STOPS, *EXITS]


@in_turn(("raises",), [(kind,) for kind in ODD])
async def test_code_can_catch_what_a_call_raised_and_go_on(raises, url):
    @workflow
    async def flow(ctx: Context, value: int) -> str:
        try:
            await ctx.run(raises)
        except Exception as error:  # noqa: BLE001  as a careless user writes it
            return type(error).__name__
        return "nothing was raised"

    async with Runtime(url) as runtime:
        run = await runtime.start(flow, 0)
        assert await until(run, "failed", "completed") == "completed"
        live = await result(run)
        assert live == "NotAnException"
        assert await result(await runtime.replay(run.id)) == live


def uses(raises: Any, effect: Any) -> Agent:
    async def use(q: str) -> str:
        """Use."""
        return str(await raises())

    def use_in_thread(q: str) -> str:
        """Use."""
        return str(raises())

    made = tool(effect=effect)(use if asyncio.iscoroutinefunction(raises) else use_in_thread)
    name = made.name

    def says(request: Any) -> Any:
        last = request.messages[-1]
        return ToolCall(name, {"q": ""}) if last.role == "user" else last.text

    return Agent("agent", tools=[made], model=ScriptedModel(says))


@in_turn(("raises", "effect"), [(kind, effect) for effect in ("read", "once") for kind in ODD])
async def test_a_model_is_told_what_its_tool_raised(raises, effect, url):
    @workflow
    async def flow(ctx: Context, value: int) -> str:
        return (await ctx.run(uses(raises, effect), "?")).output

    async with Runtime(url) as runtime:
        run = await runtime.start(flow, 0)
        assert await until(run, "failed", "completed") == "completed"
        assert (await result(run)).startswith("error: ")


@in_turn(("raises",), [(kind,) for kind in ODD])
async def test_a_node_that_raises_it_fails_its_run_alone(raises, url):
    failed = await failure(url, child_of(raises), Count(n=0))
    assert failed.path == "node[0]"


@pytest.mark.parametrize("error", [StoreError(message="mine"), Fenced(run="another")], ids=repr)
async def test_an_error_of_a_store_of_the_users_own_fails_the_step(error):
    @workflow
    async def flow(ctx: Context, n: int) -> int:
        raise error

    async with Runtime(":memory:") as runtime:
        run = await runtime.start(flow, 0)
        with pytest.raises(RunFailed) as raised:
            await result(run)
        assert raised.value.cause_type == type(error).__name__
        assert await run.status() == "failed"
