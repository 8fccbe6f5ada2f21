"""A store that fails while code holds the event loop fails the run's driver, and no more."""

import asyncio
import time

import pytest

from crew import Budget, Context, RunCancelled, Runtime, StoreError, workflow
from crew.errors import GraphError
from tests.core.counting import crashing
from tests.core.lives import result, stores, until


class Held:
    """Code that holds the event loop, once, while the store goes down."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.store = None

    def hold(self, ctx: Context) -> None:
        """What is asked for next finds a commit overdue that cannot be made."""
        if self.store is None:
            return
        time.sleep(self.seconds)
        ctx.progress("committed here, since the loop was held")
        ctx.progress("waits for a timer")
        time.sleep(0.02)
        self.store.is_down = True


async def in_two_lives(url, held, flow):
    """Return what a run gives whose store went down while it held the loop."""
    with crashing(url, 1000) as store:
        held.store = store
        async with Runtime(store) as runtime:
            run = await runtime.start(flow, "go")
            with pytest.raises(StoreError, match="simulated crash"):
                await result(run)
    held.store = None
    async with Runtime(url, workflows=[flow]) as runtime:
        return await result(await runtime.get(run.id))


@stores
async def test_a_deadline_that_passes_while_the_store_fails_passes_in_the_next_life(url):
    held = Held(0.3)

    @workflow
    async def flow(ctx: Context, text: str) -> str:
        try:
            async with ctx.timeout(0.2):
                held.hold(ctx)
                await asyncio.sleep(3600)
        except TimeoutError:
            return "late"

    assert await in_two_lives(url, held, flow) == "late"


@stores
async def test_a_deadline_that_cannot_be_set_is_set_in_the_next_life(url):
    held = Held(0.0)

    @workflow
    async def flow(ctx: Context, text: str) -> str:
        held.hold(ctx)
        try:
            async with ctx.timeout(0.1):
                await asyncio.sleep(3600)
        except TimeoutError:
            return "late"

    assert await in_two_lives(url, held, flow) == "late"


@pytest.mark.parametrize("calls", [1, 2])
@stores
async def test_a_note_that_a_run_is_driven_may_fail_with_the_store(url, calls):
    held = Held(0.6)

    @workflow
    async def flow(ctx: Context, text: str) -> list[str]:
        async def work(number: int) -> str:
            if number == calls - 1:
                held.hold(ctx)
            await asyncio.sleep(3600 if held.store else 0)
            return "done"

        each = [ctx.run(work, number, timeout=4.0, key=str(number)) for number in range(calls)]
        return list(await asyncio.gather(*each))

    assert await in_two_lives(url, held, flow) == ["done"] * calls


@pytest.mark.parametrize("seconds", [float("inf"), float("-inf"), float("nan")])
async def test_a_timeout_is_a_number_of_seconds(runtime, seconds):
    @workflow
    async def flow(ctx: Context, text: str) -> str:
        with pytest.raises(GraphError, match="a timeout is a number of seconds"):
            ctx.timeout(seconds)
        with pytest.raises(GraphError, match="a timeout is a number of seconds"):
            await ctx.run(asyncio.sleep, 1.0, timeout=seconds)
        return text

    assert await result(await runtime.start(flow, "go")) == "go"


async def test_a_step_that_is_being_cancelled_gives_no_budget(runtime):
    refused: list[str] = []

    @workflow
    async def flow(ctx: Context, text: str) -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            try:
                await ctx.run(asyncio.sleep, 0.0, budget=Budget(calls=1))
            except asyncio.CancelledError:
                refused.append(text)
                raise

    run = await runtime.start(flow, "go")
    await until(run, "running")
    await asyncio.sleep(0.05)
    await run.cancel()
    with pytest.raises(RunCancelled):
        await result(run)
    assert refused == ["go"]
    assert not [event for event in await run.recorded() if event.kind == "budget.given"]
