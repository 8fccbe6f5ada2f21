"""A map without a limit starts its calls in slices of time, and nothing else changes by that."""

import asyncio
from typing import Any

import pytest

from crew import Agent, Context, RunFailed, Runtime, workflow
from crew.call import concurrent
from crew.testing import ScriptedModel
from tests.core.lives import replayed, restarted, result, stores

ITEMS = 40
BEGUN: list[int] = []


@pytest.fixture(params=[-1.0, 1e-5, 1e9], ids=["a call each", "some calls each", "one for all"])
def slices(request, monkeypatch):
    """How long calls are started before the event loop turns."""
    monkeypatch.setattr(concurrent, "SLICE_SECONDS", request.param)
    BEGUN.clear()


async def begin(n: int) -> int:
    BEGUN.append(n)
    return n


async def fail_first(n: int) -> int:
    BEGUN.append(n)
    if n < 2:
        raise ValueError(f"item {n}")
    await asyncio.sleep(0)
    return n


@workflow
async def child(ctx: Context, n: int) -> int:
    return await begin(n)


CALLEES: dict[str, Any] = {
    "a function": begin,
    "a child": child,
    "an agent": Agent("agent", model=ScriptedModel(lambda request: request.messages[-1].text)),
}


async def test_the_event_loop_turns_while_many_calls_are_started(monkeypatch):
    monkeypatch.setattr(concurrent, "SLICE_SECONDS", -1.0)
    turns: list[int] = []
    BEGUN.clear()

    @workflow
    async def flow(ctx: Context, of: int) -> int:
        watching = asyncio.ensure_future(watch())
        done = await ctx.map(begin, range(of))
        watching.cancel()
        return len(done)

    async def watch() -> None:
        while True:
            turns.append(len(BEGUN))
            await asyncio.sleep(0)

    async with Runtime(":memory:") as runtime:
        assert await result(await runtime.start(flow, ITEMS)) == ITEMS
    assert any(0 < begun < ITEMS for begun in turns)


@stores
@pytest.mark.parametrize("callee", CALLEES.values(), ids=CALLEES.keys())
async def test_results_are_those_of_the_items_live_and_replayed(url, callee, slices):
    @workflow
    async def flow(ctx: Context, of: int) -> list[str]:
        texts = callee is CALLEES["an agent"]
        found = await ctx.map(callee, [str(n) if texts else n for n in range(of)])
        return [str(getattr(item, "output", item)) for item in found]

    live, again = await replayed(url, flow, child, value=ITEMS)
    assert live == again == [str(n) for n in range(ITEMS)]


@stores
async def test_an_error_ends_the_map_once_all_calls_have_begun(url, slices):
    @workflow
    async def flow(ctx: Context, of: int) -> int:
        return len(await ctx.map(fail_first, range(of)))

    async with Runtime(url, workflows=[flow]) as runtime:
        run = await runtime.start(flow, ITEMS)
        with pytest.raises(RunFailed, match="item 0"):
            await result(run)
        assert [*range(ITEMS)] == BEGUN
        with pytest.raises(RunFailed, match="item 0"):
            await result(await runtime.replay(run.id))
        assert [*range(ITEMS)] == BEGUN


@stores
async def test_what_came_last_comes_last_when_the_map_is_entered_again(url, slices):
    @workflow
    async def flow(ctx: Context, of: int) -> list[int]:
        came = list[int]()

        async def late_first(n: int) -> int:
            for _ in range(of - n):
                await asyncio.sleep(0)
            return n

        async def item(n: int) -> int:
            came.append(await ctx.run(late_first, n))
            return n

        tasks = [asyncio.ensure_future(item(n)) for n in range(of)]
        await ctx.map(begin, range(of))
        await asyncio.gather(*tasks)
        order = list(came)
        await ctx.ask(bool, "Go?", key="go")
        assert came == order
        return order

    live, again = await replayed(url, flow, value=ITEMS)
    assert live == again
    assert sorted(live) == [*range(ITEMS)]


@stores
async def test_a_map_that_is_entered_again_calls_nothing_anew(url, slices):
    @workflow
    async def flow(ctx: Context, of: int) -> int:
        done = await ctx.map(begin, range(of))
        await ctx.ask(bool, "Go?", key="go")
        return len(done)

    assert await restarted(url, flow, value=ITEMS) == ITEMS
    assert [*range(ITEMS)] == BEGUN


async def test_items_are_taken_before_the_first_call_begins(slices):
    @workflow
    async def flow(ctx: Context, of: int) -> list[int]:
        return await ctx.map(begin, (n + len(BEGUN) for n in range(of)))

    async with Runtime(":memory:") as runtime:
        assert await result(await runtime.start(flow, ITEMS)) == [*range(ITEMS)]


async def test_a_map_that_is_cancelled_in_its_start_begins_no_more(monkeypatch):
    monkeypatch.setattr(concurrent, "SLICE_SECONDS", -1.0)
    BEGUN.clear()

    @workflow
    async def flow(ctx: Context, of: int) -> int:
        mapping = asyncio.ensure_future(ctx.map(begin, range(of)))
        while len(BEGUN) < 3:
            await asyncio.sleep(0)
        mapping.cancel()
        with pytest.raises(asyncio.CancelledError):
            await mapping
        return len(BEGUN)

    async with Runtime(":memory:") as runtime:
        begun = await result(await runtime.start(flow, ITEMS))
    assert 3 <= begun < ITEMS
