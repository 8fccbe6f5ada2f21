"""Whoever follows a run in a runtime that is left is told so at once, and waits for nothing."""

import asyncio
from typing import Any

import pytest

from crew import Context, CrewError, Runtime, workflow
from crew.errors import RuntimeLeft
from crew.journal.memory import MemoryStore
from tests.core.test_cancel import begun, parent, slow

SECONDS = 20.0


async def result(run: Any) -> None:
    await run.result()


async def events(run: Any) -> None:
    async for _ in run.events():
        pass


async def batches(run: Any) -> None:
    async for _ in run.batches(2):
        pass


async def far_events(run: Any) -> None:
    async for _ in run.events(after=1_000_000):
        pass


async def grown(run: Any) -> None:
    while True:  # it may come back where there is nothing yet
        await run._home.followers.grown(run._row.number, 1_000)


follow = pytest.mark.parametrize("way", [result, events, batches, far_events, grown])


@follow
@pytest.mark.parametrize("url", ["sqlite", "postgres"], indirect=True)
@pytest.mark.parametrize("drives", [True, False])
async def test_who_waits_for_a_run_is_told_when_its_runtime_is_left(way, drives, url):
    async with Runtime(url) as driving:
        run = await begun(driving, slow)
        looking = driving if drives else await Runtime(url, worker=False).__aenter__()
        waiting = asyncio.create_task(way(await looking.get(run.id)))
        await asyncio.sleep(0.1)
        await looking.__aexit__(None, None, None)
        async with asyncio.timeout(SECONDS):
            with pytest.raises(RuntimeLeft, match="the runtime was left; open it again"):
                await waiting


@follow
async def test_who_asks_a_runtime_that_was_left_is_told_at_once(way):
    store = MemoryStore()
    async with Runtime(store) as runtime:
        run = await begun(runtime, slow)
    async with asyncio.timeout(SECONDS):
        with pytest.raises(CrewError, match="the runtime was left; open it again"):
            await way(run)


@workflow
async def catches(ctx: Context, seconds: float) -> str:
    try:
        return await ctx.run(slow, seconds)
    except Exception as error:  # noqa: BLE001  as a careless user writes it
        return f"caught {type(error).__name__}"


@pytest.mark.parametrize("flow", [parent, catches])
async def test_a_parent_that_waits_for_its_child_sees_nothing_of_it(flow):
    store = MemoryStore()
    async with Runtime(store) as runtime:
        run = await begun(runtime, flow)
        async with asyncio.timeout(SECONDS):
            while len(await runtime.runs()) < 2:
                await asyncio.sleep(0.01)
    assert [row.status for row in store.runs()] == ["running", "running"]
    assert [event.kind for event in store.events(store.run(run.id).number)] == [
        "run.started",
        "step.started",
        "child.started",
    ]


@pytest.mark.parametrize("end", ["completed", "cancelled", "failed"])
@pytest.mark.parametrize("far", [5, 1_000])
async def test_events_after_what_there_will_ever_be_end_with_the_run(end, far, runtime):
    go = asyncio.Event()

    @workflow
    async def waits(ctx: Context, given: str) -> str:
        await go.wait()
        assert given != "failed"
        return given

    run = await runtime.start(waits, end)
    seen: list[Any] = []

    async def follow_far() -> None:
        seen.extend([event async for event in run.events(after=far)])

    following = asyncio.create_task(follow_far())
    await asyncio.sleep(0.05)
    await run.cancel() if end == "cancelled" else go.set()
    async with asyncio.timeout(SECONDS):
        await following
    assert await run.status() == end
    assert seen == []
