"""What a step may call, and what may come of it."""

import asyncio
import sys
from collections.abc import Callable
from typing import Annotated, Any

import pytest
from pydantic import BaseModel, field_validator

from crew import Agent, Context, EffectUnknown, Graph, Retry, RunFailed, Runtime, workflow
from crew.errors import Diverged, StepTimeout
from crew.journal.memory import MemoryStore
from crew.testing import ScriptedModel


class Odd(BaseModel):
    n: int = 0

    @field_validator("n")
    @classmethod
    def give_up(cls, n: int) -> int:
        raise asyncio.CancelledError


class Called:
    async def __call__(self, text: str) -> str:
        return f"called with {text}"


def named_later(text: str) -> "str":
    return text


def named_nowhere(text: str) -> "Nowhere":  # noqa: F821
    return text


def with_a_list(text: str) -> Annotated[str, ["no hash"]]:
    return text


def stops_the_process() -> None:
    sys.exit(3)


def stops_an_iteration() -> None:
    raise StopIteration


async def gives_up() -> None:
    raise asyncio.CancelledError


async def ends_a_generator() -> None:
    raise GeneratorExit


def coroutine_of(text: str) -> Any:
    async def inner() -> str:
        return text

    return inner()


async def output(runtime, flow, *value):
    return await (await runtime.start(flow, *value)).result()


def calling(callee: Any, *arguments: Any, how: str = "run") -> Any:
    @workflow(name="calling")
    async def flow(ctx: Context) -> Any:
        return await getattr(ctx, how)(callee, *arguments)

    return flow


@pytest.mark.parametrize("how", ["run", "effect"])
@pytest.mark.parametrize(
    ("callee", "given", "result"),
    [
        (Called(), ["a"], "called with a"),
        (named_later, ["a"], "a"),
        (named_nowhere, ["a"], "a"),
        (with_a_list, ["a"], "a"),
        (coroutine_of, ["a"], "a"),
        (dict, [], {}),
    ],
)
async def test_anything_that_can_be_called_is(how, callee, given, result, runtime):
    assert await output(runtime, calling(callee, *given, how=how)) == result


@pytest.mark.parametrize("how", ["run", "effect"])
@pytest.mark.parametrize(
    "callee", [stops_the_process, stops_an_iteration, gives_up, ends_a_generator]
)
async def test_what_would_end_more_than_a_call_ends_the_call(how, callee, runtime):
    with pytest.raises(RunFailed, match="which would end more than this call") as raised:
        await output(runtime, calling(callee, how=how))
    assert raised.value.cause_type == "NotAnException"


async def test_a_value_that_cancels_whoever_stores_it_fails_its_step(runtime):
    @workflow
    async def flow(ctx: Context) -> Odd:
        return Odd.model_construct(n=1)

    with pytest.raises(RunFailed, match="CancelledError, which would end more"):
        await output(runtime, flow)


@pytest.mark.parametrize(
    ("callee", "given", "problem"),
    [
        (Agent("finder", model=ScriptedModel(["x"])), [1], "'finder' takes one text"),
        (3, [], "takes an agent, a workflow or a function, not 3"),
        (calling(named_later, "a"), ["no input wanted"], "must be None"),
    ],
)
async def test_what_cannot_be_called_so_is_refused(callee, given, problem, runtime):
    with pytest.raises(RunFailed, match=problem):
        await output(runtime, calling(callee, *given))


async def test_state_is_for_graphs_that_have_some(runtime):
    for name in ("read", "patch"):

        @workflow(name=name)
        async def flow(ctx: Context, way: str) -> None:
            ctx.state if way == "read" else ctx.patch(last="x")

        with pytest.raises(RunFailed, match="this workflow has no state"):
            await output(runtime, flow, name)


def hopeless(text: str) -> EffectUnknown:
    """Return an error that no further attempt would mend."""
    return EffectUnknown(message=text, run="r", path="p")


class Failing:
    """A function that fails so often, with an error that a retry is for or not."""

    def __init__(self, times: int, error: Callable[[str], Exception]) -> None:
        self.times, self.error = times, error
        self.entered = 0

    async def __call__(self) -> int:
        self.entered += 1
        if self.entered <= self.times:
            raise self.error(f"number {self.entered}")
        return self.entered


@pytest.mark.parametrize(
    ("failing", "entered", "end"),
    [
        (Failing(1, OSError), 2, "2"),
        (Failing(9, OSError), 3, "number 3"),
        (Failing(9, hopeless), 1, "number 1"),
    ],
)
async def test_a_call_is_tried_again_for_the_errors_that_its_retry_is_for(failing, entered, end):
    @workflow(name="trying")
    async def flow(ctx: Context) -> str:
        try:
            retry = Retry(attempts=3, first_delay=0.01)
            return str(await ctx.run(failing, retry=retry))
        except (OSError, EffectUnknown) as error:
            return str(error)

    failing.entered = 0
    async with Runtime(MemoryStore()) as runtime:
        run = await runtime.start(flow)
        assert await run.result() == end
        assert failing.entered == entered
        assert await (await runtime.replay(run.id)).result() == end
    assert failing.entered == entered


async def test_an_effect_that_failed_is_done_by_the_steps_next_attempt(runtime):
    failing = Failing(1, OSError)
    graph = Graph("acting", input=str, output=int)

    @graph.node(retry=Retry(attempts=2, first_delay=0.01))
    async def act(ctx: Context, text: str) -> int:
        return await ctx.effect(failing, key="act")

    run = await runtime.start(graph, "go")
    assert await run.result() == 2
    kinds = [event.kind async for event in run.events() if event.kind.startswith("effect")]
    assert kinds == ["effect.started", "effect.failed", "effect.started", "effect.completed"]


async def test_a_question_that_was_given_up_is_asked_again_by_the_next_attempt(runtime):
    graph = Graph("asking", input=str, output=str)
    patience = iter([0.1, 60])

    @graph.node(retry=Retry(attempts=2, first_delay=0.01))
    async def ask(ctx: Context, text: str) -> str:
        try:
            return await asyncio.wait_for(ctx.ask(str, text, key="who"), next(patience))
        except TimeoutError as error:
            raise OSError("nobody answers") from error

    run = await runtime.start(graph, "who?")
    async with asyncio.timeout(20):
        while [event.kind for event in await run.recorded()].count("ask.opened") < 2:
            await asyncio.sleep(0.01)
        await run.answer("who", "me")
        assert await run.result() == "me"


async def test_a_call_that_takes_longer_than_its_timeout_fails_each_time(runtime):
    @workflow
    async def flow(ctx: Context) -> str:
        quick = await ctx.run(named_later, "quick", timeout=30)
        try:
            return await ctx.run(asyncio.sleep, 60, timeout=0.05)
        except StepTimeout as error:
            return f"{quick}, then {error}"

    run = await runtime.start(flow)
    output = await run.result()
    assert output == "quick, then flow[0]/sleep took longer than its timeout of 0.05 s"
    assert await (await runtime.replay(run.id)).result() == output


async def test_a_result_that_cancels_whoever_reads_it_fails_its_call(runtime):
    async def odd() -> Odd:
        return Odd.model_construct(n=1)

    with pytest.raises(RunFailed, match="CancelledError, which would end more"):
        await output(runtime, calling(odd))


async def test_a_name_with_a_paths_signs_in_it_is_one_part_of_a_path(runtime):
    async def odd() -> str:
        return "odd"

    odd.__name__ = "a/b~2"
    run = await runtime.start(calling(odd))
    assert await run.result() == "odd"
    paths = [event.path for event in await run.recorded() if event.kind == "function.completed"]
    assert paths == ["flow[0]/a%2Fb%7E2"]


async def test_a_fork_at_an_act_that_was_under_way_takes_what_it_came_to(runtime):
    failing = Failing(9, OSError)

    @workflow
    async def flow(ctx: Context) -> str:
        try:
            return str(await ctx.effect(failing, key="act"))
        except OSError as error:
            return f"caught {error}"

    run = await runtime.start(flow)
    assert await run.result() == "caught number 1"
    (started,) = [e.offset for e in await run.recorded() if e.kind == "effect.started"]
    fork = await runtime.fork(run.id, at=started)
    assert await fork.result() == "caught number 1"
    assert failing.entered == 1


async def test_a_fork_that_the_code_cannot_go_on_with_is_parked():
    def release(node: str) -> Graph:
        graph = Graph("renamed", input=str, output=int)

        async def count(text: str) -> int:
            return len(text)

        graph.node(name=node)(count)
        return graph

    store = MemoryStore()
    async with Runtime(store) as runtime:
        run = await runtime.start(release("first"), "abc")
        assert await run.result() == 3
        at = [event.offset for event in await run.recorded()][-2]
    async with Runtime(store, workflows=[release("second")]) as runtime:
        with pytest.raises(Diverged, match="none of that name there: its nodes are second"):
            await runtime.fork(run.id, at=at)
