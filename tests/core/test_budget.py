"""A budget is shared down the tree, checked before each call, and never passed."""

import asyncio
import time

import pytest

from crew import Agent, Budget, Context, RunCancelled, RunFailed, Runtime, workflow
from crew.testing import ScriptedModel


def asking(times: int):
    model = ScriptedModel(lambda request: "yes")
    agent = Agent("agent", model=model)

    @workflow(name="asking")
    async def flow(ctx: Context, text: str) -> int:
        for number in range(times):
            await ctx.run(agent, f"{text} {number}")
        return times

    return flow, model


async def test_no_more_calls_are_made_than_a_budget_has(runtime):
    flow, model = asking(5)
    run = await runtime.start(flow, "go", budget=Budget(calls=3))
    with pytest.raises(RunFailed, match=r"BudgetExceeded: 1 calls needed at .*, 0 left"):
        await run.result()
    assert len(model.requests) == 3


async def test_a_child_takes_its_calls_from_its_parent(runtime):
    flow, model = asking(2)

    @workflow
    async def parent(ctx: Context, text: str) -> int:
        return sum([await ctx.run(flow, f"{text}{number}") for number in range(3)])

    run = await runtime.start(parent, "go", budget=Budget(calls=4))
    with pytest.raises(RunFailed, match="calls needed"):
        await run.result()
    assert len(model.requests) == 4


async def test_a_run_ends_when_its_seconds_are_over(runtime):
    @workflow
    async def slow(ctx: Context) -> None:
        await asyncio.sleep(60)

    run = await runtime.start(slow, budget=Budget(seconds=0.2))
    with pytest.raises(RunFailed, match="BudgetExceeded: 1 seconds needed"):
        await run.result()


async def test_a_run_that_is_being_cancelled_is_not_failed_when_its_seconds_are_over():
    @workflow
    async def tidies_up(ctx: Context, until: float) -> None:
        try:
            await asyncio.sleep(60)
        finally:
            while time.time() < until:
                await asyncio.sleep(0.02)

    async with Runtime(":memory:") as runtime:
        run = await runtime.start(tidies_up, time.time() + 0.6, budget=Budget(seconds=0.5))
        async for event in run.events():
            if event.kind == "step.started":
                await run.cancel()
        with pytest.raises(RunCancelled):
            await run.result()


async def test_seconds_go_on_while_nobody_drives_the_run(url):
    @workflow
    async def slow(ctx: Context) -> None:
        await asyncio.sleep(60)

    async with Runtime(url) as runtime:
        run = await runtime.start(slow, budget=Budget(seconds=0.3))
    await asyncio.sleep(0.2)
    async with Runtime(url, workflows=[slow]) as runtime:
        async with asyncio.timeout(5):
            with pytest.raises(RunFailed, match="seconds"):
                await (await runtime.get(run.id)).result()


def test_two_budgets_allow_what_both_allow():
    both = Budget(tokens=9, seconds=2).within(Budget(tokens=5, calls=3))
    assert both == Budget(tokens=5, calls=3, seconds=2)
    assert both.within(None) is both


@pytest.mark.parametrize("limits", [{}, {"tokens": 0}, {"calls": 0}, {"seconds": 0.0}])
def test_a_budget_of_nothing_is_refused(limits):
    with pytest.raises(ValueError, match="budget limits|must be"):
        Budget(**limits)
