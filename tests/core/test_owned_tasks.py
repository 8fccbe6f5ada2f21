"""A step owns its tasks: none acts or writes behind its end, or beside the next attempt."""

import asyncio
import contextlib
from typing import Any

import pytest

from crew import Agent, Context, Graph, Retry, Runtime, tool, workflow
from crew.testing import ScriptedModel, ToolCall
from tests.core.flows import Count, Done, Question
from tests.core.lives import SECONDS, result, stores

DID: list[Any] = []
KEPT: list[Any] = []


class Gate:
    """Lets what was left behind go on once the run is over."""

    def __init__(self) -> None:
        self.is_open = asyncio.Event()
        self.at_work = self.most = 0

    async def act(self, item: int = 0) -> int:
        await self.is_open.wait()
        DID.append(item)
        return item

    async def slow(self, item: int = 0) -> int:
        """Take a moment, and count who is at it at once."""
        self.at_work += 1
        self.most = max(self.most, self.at_work)
        try:
            await asyncio.sleep(0.3)
        finally:
            self.at_work -= 1
        DID.append(item)
        return item


@pytest.fixture
def gate():
    DID.clear()
    KEPT.clear()
    return Gate()


async def act(item: int = 0) -> int:
    DID.append(item)
    return item


@workflow
async def child(ctx: Context, item: int) -> int:
    return await act(item)


@tool(effect="once")
async def send(q: str) -> str:
    """Send."""
    await act(1)
    return q


def uses(*tools: Any) -> Agent:
    def says(request: Any) -> Any:
        DID.append("model")
        used = request.messages[-1].role == "tool"
        return "done" if used or not tools else ToolCall(tools[0].name, {"q": "q"})

    return Agent("agent", tools=list(tools), model=ScriptedModel(says))


async def stubborn(gate: Gate, ctx: Context) -> Any:
    """Take no cancel for an answer."""
    while not gate.is_open.is_set():
        with contextlib.suppress(asyncio.CancelledError):
            await gate.is_open.wait()
    return await ctx.effect(act)


async def after(gate: Gate, work: Any) -> Any:
    await gate.is_open.wait()
    return await work()


LEFT = {
    "function": lambda gate, ctx: after(gate, lambda: ctx.run(act)),
    "function under way": lambda gate, ctx: ctx.run(gate.act),
    "effect": lambda gate, ctx: after(gate, lambda: ctx.effect(act)),
    "agent": lambda gate, ctx: after(gate, lambda: ctx.run(uses(), "?")),
    "agent with a once-tool": lambda gate, ctx: after(gate, lambda: ctx.run(uses(send), "?")),
    "child": lambda gate, ctx: after(gate, lambda: ctx.run(child, 1)),
    "map": lambda gate, ctx: ctx.map(gate.act, [1, 2]),
    "stubborn": stubborn,
}
WAYS = [
    ("function", "fails"),
    ("function under way", "fails"),
    ("effect", "returns"),
    ("effect", "is cancelled"),
    ("agent", "returns"),
    ("agent with a once-tool", "fails"),
    ("child", "is cancelled"),
    ("child", "returns"),
    ("map", "fails"),
    ("map", "returns"),
    ("stubborn", "returns"),
]


def leaving(what: str, how: str, gate: Gate) -> Any:
    @workflow
    async def flow(ctx: Context, value: int) -> str:
        KEPT.append(asyncio.create_task(LEFT[what](gate, ctx)))
        await asyncio.sleep(0.05)
        assert how != "fails"
        if how == "is cancelled":
            ctx.progress("begun")
            await asyncio.sleep(SECONDS)
        return "done"

    return flow


async def outcome(run: Any) -> str:
    try:
        return await result(run)
    except Exception as error:  # noqa: BLE001  compared with the next one
        return repr(error)


async def progress(run: Any) -> None:
    async for event in run.events():
        if event.kind == "progress.made":
            return


@stores
@pytest.mark.parametrize(("what", "how"), WAYS)
async def test_nothing_that_a_step_left_goes_on_behind_the_end_of_its_run(what, how, url, gate):
    flow = leaving(what, how, gate)
    async with Runtime(url, workflows=[flow, child]) as runtime:
        run = await runtime.start(flow, 0)
        if how == "is cancelled":
            await progress(run)
            await run.cancel()
        ended = await outcome(run)
        gate.is_open.set()
        await asyncio.sleep(0.3)
        assert DID == []
        assert (await run.recorded())[-1].kind.startswith("run.")
        assert await outcome(await runtime.get(run.id)) == ended


@stores
async def test_what_one_step_left_does_nothing_while_the_next_one_runs(url, gate):
    graph = Graph("graph", input=Count, output=Done)

    @graph.node
    async def first(ctx: Context, value: Count) -> Question:
        KEPT.append(asyncio.create_task(LEFT["effect"](gate, ctx)))
        await asyncio.sleep(0.05)
        return Question(text="?")

    @graph.node
    async def second(question: Question) -> Done:
        gate.is_open.set()
        await asyncio.sleep(0.3)
        return Done(n=len(DID))

    async with Runtime(url) as runtime:
        assert await result(await runtime.start(graph, Count(n=0))) == Done(n=0)


@stores
async def test_the_log_says_where_a_pool_belongs_that_a_step_opens(url, gate, caplog):
    class Pool:
        async def read(self) -> None:
            await asyncio.sleep(SECONDS)

    @workflow
    async def flow(ctx: Context, value: int) -> str:
        KEPT.append(asyncio.create_task(Pool().read()))
        return "done"

    async with Runtime(url) as runtime:
        assert await result(await runtime.start(flow, 0)) == "done"
    (told,) = [line for line in caplog.records if line.getMessage() == "step.tasks_left"]
    assert "Pool.read" in told.__dict__["tasks"][0]
    assert "open a connection pool by the workflow's deps=" in told.__dict__["hint"]


class Once:
    """Fails the first attempt, once what goes on beside it is under way."""

    def __init__(self, gate: Gate) -> None:
        self.gate = gate
        self.attempts = 0

    async def fail(self) -> None:
        self.attempts += 1
        async with asyncio.timeout(SECONDS):
            while self.attempts == 1 and not self.gate.at_work:
                await asyncio.sleep(0.01)
        if self.attempts == 1:
            raise ConnectionError("at first")


def sends(gate: Gate, effect: Any) -> Agent:
    @tool(effect=effect)
    async def slowly(q: str) -> str:
        """Send."""
        return str(await gate.slow())

    return uses(slowly)


def slow_child(gate: Gate) -> Any:
    @workflow(name="slow")
    async def slow(ctx: Context, item: int) -> int:
        return await gate.slow(item)

    return slow


BESIDE = {
    "function": lambda gate, ctx: ctx.run(gate.slow),
    "effect by its position": lambda gate, ctx: ctx.effect(gate.slow),
    "effect that may act again": lambda gate, ctx: ctx.effect(gate.slow, unknown="retry"),
    "agent with a read tool": lambda gate, ctx: ctx.run(sends(gate, "read"), "?"),
    "agent with a once-tool": lambda gate, ctx: ctx.run(sends(gate, "once"), "?"),
    "child": lambda gate, ctx: ctx.run(slow_child(gate), 0),
    "plain coroutine": lambda gate, ctx: gate.slow(),
}


@stores
@pytest.mark.parametrize("beside", BESIDE)
async def test_a_step_is_tried_again_once_all_of_it_has_ended(beside, url, gate):
    once = Once(gate)
    graph = Graph("graph", input=Count, output=Done)

    @graph.node(retry=Retry(attempts=2, first_delay=0.01))
    async def node(ctx: Context, value: Count) -> Done:
        await asyncio.gather(BESIDE[beside](gate, ctx), once.fail())
        return Done(n=once.attempts)

    async with Runtime(url) as runtime:
        assert await result(await runtime.start(graph, Count(n=0))) == Done(n=2)
    assert gate.most == 1
    if "effect" in beside:
        assert len(DID) == 1


IN_A_CALL = ["function", "effect by its position", "effect that may act again", "child"]


@stores
@pytest.mark.parametrize("beside", IN_A_CALL)
async def test_a_call_is_tried_again_once_all_of_it_has_ended(beside, url, gate):
    once = Once(gate)

    async def attempt(ctx: Context) -> int:
        await asyncio.gather(BESIDE[beside](gate, ctx), once.fail())
        return once.attempts

    @workflow
    async def flow(ctx: Context, value: int) -> int:
        return await ctx.run(attempt, ctx, retry=Retry(attempts=2, first_delay=0.01))

    async with Runtime(url) as runtime:
        run = await runtime.start(flow, 0)
        assert await result(run) == 2
        assert await result(await runtime.replay(run.id)) == 2
    assert gate.most == 1
    if "effect" in beside:
        assert len(DID) == 1


@stores
@pytest.mark.parametrize("beside", ["function", "effect by its position", "child"])
async def test_a_step_that_took_too_long_has_ended_when_it_is_tried_again(beside, url, gate):
    graph = Graph("graph", input=Count, output=Done)

    @graph.node(retry=Retry(attempts=2, first_delay=0.01), timeout=SECONDS)
    async def node(ctx: Context, value: Count) -> Done:
        KEPT.append(asyncio.create_task(BESIDE[beside](gate, ctx)))
        if len(KEPT) == 1:
            async with asyncio.timeout(SECONDS):
                while not gate.at_work:
                    await asyncio.sleep(0.01)
            raise TimeoutError
        await KEPT[-1]
        return Done(n=len(KEPT))

    async with Runtime(url) as runtime:
        assert await result(await runtime.start(graph, Count(n=0))) == Done(n=2)
    assert gate.most == 1
