"""How long a cancel and the leaving of a runtime take, whatever the user's code is at."""

import asyncio
import contextlib
import inspect
import time
from collections.abc import Iterator
from typing import Any

import pytest

from crew import Agent, Context, Graph, RunCancelled, Runtime, tool, workflow
from crew.journal.memory import MemoryStore
from crew.testing import ScriptedModel, SeededLoop, ToolCall
from tests.core.flows import Count, Done
from tests.core.lives import stores

CANCEL_SECONDS = 1.5
LEAVE_SECONDS = 2.0
LONG = 60.0
BEGUN: list[Any] = []
OVER: list[bool] = []


@pytest.fixture(autouse=True)
def nothing_begun():
    BEGUN.clear()
    OVER.clear()


@contextlib.contextmanager
def over_at_last() -> Iterator[None]:
    """A block after which what is under way may end."""
    try:
        yield
    finally:
        OVER.append(True)


def in_virtual_time(work: Any) -> Any:
    with asyncio.Runner(loop_factory=lambda: SeededLoop(1, limit=600.0)) as runner, over_at_last():
        return runner.run(work)


async def until_over() -> None:
    """Take no cancel for an answer until the test is over."""
    while not OVER:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(0.1)


async def tidies(item: int = 0) -> int:
    """Take long to clean up."""
    BEGUN.append(item)
    try:
        await asyncio.sleep(LONG)
    finally:
        await until_over()
    return item


async def stubborn(item: int = 0) -> int:
    BEGUN.append(item)
    await until_over()
    return item


async def waits(item: int = 0) -> int:
    BEGUN.append(item)
    await asyncio.sleep(LONG)
    return item


def uses(work: Any, effect: Any) -> Agent:
    @tool(effect=effect)
    async def use(q: str) -> str:
        """Use."""
        return str(await work())

    return Agent("agent", tools=[use], model=ScriptedModel(lambda _: ToolCall("use", {"q": ""})))


@workflow
async def slow_child(ctx: Context, item: int) -> int:
    return await tidies(item)


async def in_group(ctx: Context) -> None:
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(ctx.effect(tidies))
        tasks.create_task(ctx.run(stubborn))


async def cleans_up_by_a_call(ctx: Context) -> None:
    try:
        await waits()
    finally:
        await ctx.run(tidies)


async def shielded(ctx: Context) -> None:
    await asyncio.shield(asyncio.create_task(ctx.run(tidies)))


async def left_a_task(ctx: Context) -> None:
    task = asyncio.create_task(stubborn())
    await waits()
    await task


SLOW = {
    "function": lambda ctx: ctx.run(tidies),
    "stubborn function": lambda ctx: ctx.run(stubborn),
    "effect": lambda ctx: ctx.effect(tidies),
    "stubborn effect": lambda ctx: ctx.effect(stubborn, key="act"),
    "tool": lambda ctx: ctx.run(uses(tidies, "read"), "?"),
    "once-tool": lambda ctx: ctx.run(uses(stubborn, "once"), "?"),
    "child": lambda ctx: ctx.run(slow_child, 0),
    "map": lambda ctx: ctx.map(tidies, [1, 2, 3], concurrency=2),
    "tasks": in_group,
    "call in a finally": cleans_up_by_a_call,
    "shield": shielded,
    "stubborn task": left_a_task,
}


@workflow
async def acting_child(ctx: Context, item: int) -> int:
    return await ctx.effect(waits, item)


async def acts_at_once(ctx: Context) -> None:
    await asyncio.gather(*(ctx.effect(waits, item) for item in range(3)))


ACTS = {
    "effect": lambda ctx: ctx.effect(waits, key="act"),
    "effect in a call": lambda ctx: ctx.run(lambda: ctx.effect(waits)),
    "effects": acts_at_once,
    "effects of a map": lambda ctx: ctx.map(lambda item: ctx.effect(waits, item), [1, 2]),
    "effect of a child": lambda ctx: ctx.run(acting_child, 0),
}


def made_of(work: Any) -> Graph:
    graph = Graph("graph", input=Count, output=Done)

    @graph.node
    async def node(ctx: Context, value: Count) -> Done:
        await work(ctx)
        return Done(n=1)

    return graph


async def seconds_to_cancel(store: Any, flow: Graph) -> float:
    """Return how long a run takes from its cancel to the record of its end."""
    clock = asyncio.get_running_loop().time
    async with Runtime(store) as runtime:
        run = await runtime.start(flow, Count(n=0))
        while not BEGUN:
            await asyncio.sleep(0.01)
        began = clock()
        await run.cancel()
        with pytest.raises(RunCancelled):
            await run.result()
        return clock() - began


@pytest.mark.parametrize("what", SLOW)
def test_a_cancel_is_recorded_soon_by_the_clock_of_its_loop(what):
    assert in_virtual_time(seconds_to_cancel(MemoryStore(), made_of(SLOW[what]))) <= CANCEL_SECONDS


@stores
@pytest.mark.parametrize("what", ["function", "stubborn effect", "once-tool", "child", "tasks"])
async def test_a_cancel_is_recorded_whatever_the_code_still_does(what, url):
    with over_at_last():
        assert await seconds_to_cancel(url, made_of(SLOW[what])) < 4 * CANCEL_SECONDS


async def seconds_to_leave(store: Any, work: Any, count: int) -> float:
    """Return how long a runtime with so many runs takes to let them go."""
    clock = asyncio.get_running_loop().time
    flow = made_of(work)
    async with Runtime(store, workflows=[flow, slow_child, acting_child]) as runtime:
        for number in range(count):
            await runtime.start(flow, Count(n=number))
        while len(BEGUN) < count:
            await asyncio.sleep(0.01)
        began = clock()
    return clock() - began


@pytest.mark.parametrize("what", ACTS)
def test_acts_in_flight_are_let_end_together_when_a_runtime_is_left(what):
    assert in_virtual_time(seconds_to_leave(MemoryStore(), ACTS[what], 40)) <= LEAVE_SECONDS


@stores
@pytest.mark.parametrize("what", ["effect", "effects", "effects of a map"])
async def test_a_runtime_on_a_database_is_left_in_the_time_of_one_act(what, url):
    with over_at_last():
        assert await seconds_to_leave(url, ACTS[what], 12) < 3 * LEAVE_SECONDS


async def test_what_a_thread_returns_to_a_call_that_was_cancelled_is_closed():
    made = list[Any]()

    def slowly() -> Any:
        BEGUN.append(0)
        time.sleep(0.2)
        made.append(waits())
        return made[0]

    await seconds_to_cancel(MemoryStore(), made_of(lambda ctx: ctx.run(slowly)))
    while not made:
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.05)
    assert inspect.getcoroutinestate(made[0]) == inspect.CORO_CLOSED
