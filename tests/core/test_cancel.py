"""Cancels: what they stop, and what becomes of them whoever dies meanwhile."""

import asyncio

import pytest

from crew import Context, RunCancelled, RunFailed, Runtime, StoreError, workflow
from crew.journal.memory import MemoryStore
from crew.testing import CrashingStore


@workflow
async def slow(ctx: Context, seconds: float) -> str:
    while True:
        await asyncio.sleep(seconds)
        ctx.progress("still at it")


@workflow
async def parent(ctx: Context, seconds: float) -> str:
    return await ctx.run(slow, seconds)


async def begun(runtime, flow, seconds=60.0):
    """Start a run; return it once its step is under way."""
    run = await runtime.start(flow, seconds)
    await under_way(run)
    return run


async def under_way(run):
    async for event in run.events():
        if event.kind == "step.started":
            break


async def child_of(runtime, run):
    """Return a run's child, once its step is under way too."""
    while len(runs := await runtime.runs()) < 2:
        await asyncio.sleep(0.01)
    (child,) = [item for item in runs if item.id != run.id]
    await under_way(child)
    return child


async def test_a_run_is_cancelled_once_however_often_it_is_asked_for(runtime):
    run = await begun(runtime, slow)
    await asyncio.gather(run.cancel(), run.cancel())
    with pytest.raises(RunCancelled):
        await run.result()
    await run.cancel()
    kinds = [event.kind async for event in run.events()]
    assert kinds == ["run.started", "step.started", "run.cancelled"]


async def test_what_a_step_tells_while_it_is_stopped_is_not_recorded(runtime):
    @workflow
    async def tells(ctx: Context, seconds: float) -> str:
        try:
            await asyncio.sleep(seconds)
        finally:
            ctx.progress("cleaning up")

    run = await begun(runtime, tells)
    await run.cancel()
    with pytest.raises(RunCancelled):
        await run.result()
    assert "progress.made" not in [event.kind async for event in run.events()]


async def test_a_run_is_cancelled_from_another_process(url):
    async with Runtime(url) as working, Runtime(url, worker=False) as looking:
        run = await begun(working, slow)
        other = await looking.get(run.id)
        await other.cancel()
        with pytest.raises(RunCancelled):
            await other.result()


async def test_a_cancel_goes_down_to_the_children(runtime):
    run = await begun(runtime, parent)
    child = await child_of(runtime, run)
    await run.cancel()
    for ended in (run, child):
        with pytest.raises(RunCancelled):
            await ended.result()


async def test_a_child_that_was_cancelled_fails_its_parents_call(runtime):
    run = await begun(runtime, parent)
    child = await child_of(runtime, run)
    await child.cancel()
    with pytest.raises(RunFailed, match=f"the child run {child.id} was cancelled"):
        await run.result()


async def test_leaving_the_runtime_cancels_no_children():
    store = MemoryStore()
    async with Runtime(store) as runtime:
        run = await begun(runtime, parent)
        child = await child_of(runtime, run)
        await asyncio.sleep(0.05)  # until the parent has nothing to look at
    assert [store.run(left.id).status for left in (run, child)] == ["running", "running"]
    assert store.letters([1, 2]) == []


async def test_a_child_that_goes_on_while_the_runtime_is_left_fails_no_parent():
    async def stops_slowly() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0.05)

    store = MemoryStore()
    async with Runtime(store) as runtime:
        runtime.spawn(stops_slowly())
        run = await begun(runtime, parent, 0.001)
        child = await child_of(runtime, run)
    assert [store.run(left.id).status for left in (run, child)] == ["running", "running"]


class Stubborn:
    """A workflow that takes a moment to stop, on a store that can go down."""

    def __init__(self) -> None:
        self.kept = MemoryStore()
        self.store = CrashingStore(self.kept, after=1000)
        self.stopping = asyncio.Event()
        self.goes_down = False

        @workflow
        async def stubborn(ctx: Context, seconds: float) -> str:
            try:
                await asyncio.sleep(seconds)
            finally:
                self.stopping.set()
                self.store.is_down = self.goes_down
                await ctx.run(self.clean_up)
                await asyncio.sleep(0.1)

        self.flow = stubborn

    async def clean_up(self) -> None:
        await asyncio.sleep(0.02)


async def test_a_cancel_outlives_the_worker_that_was_carrying_it_out():
    stubborn = Stubborn()
    async with Runtime(stubborn.store) as runtime:
        run = await begun(runtime, stubborn.flow)
        await run.cancel()
        await stubborn.stopping.wait()
        await asyncio.sleep(0.05)
        stubborn.store.is_down = True
    stubborn.kept.forget_owners()
    async with Runtime(stubborn.kept, workflows=[stubborn.flow]) as runtime, asyncio.timeout(5):
        with pytest.raises(RunCancelled):
            await (await runtime.get(run.id)).result()


async def test_a_cancel_outlives_a_store_that_fails_meanwhile():
    stubborn = Stubborn()
    stubborn.goes_down = True
    async with Runtime(stubborn.store) as runtime, asyncio.timeout(5):
        run = await begun(runtime, stubborn.flow)
        await run.cancel()
        with pytest.raises(StoreError):
            await run.result()
        stubborn.store.restart(after=1000)
        while await run.status() != "cancelled":
            await asyncio.sleep(0.01)


async def test_a_step_that_is_cancelled_adds_nothing_to_the_answer():
    @workflow
    async def parting(ctx: Context) -> str:
        try:
            await asyncio.sleep(60)
        finally:
            ctx.emit("late")
            ctx.progress("late")
        return ""

    async with Runtime(":memory:") as runtime, asyncio.timeout(10):
        run = await runtime.start(parting)
        await asyncio.sleep(0.05)
        await run.cancel()
        with pytest.raises(RunCancelled):
            await run.result()
        assert [event.kind for event in await run.recorded()][-1] == "run.cancelled"
        assert not [event for event in await run.recorded() if event.data.get("text")]
