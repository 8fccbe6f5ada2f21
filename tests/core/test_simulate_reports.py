"""What simulate says of a run that breaks, parks or hangs, and that it says nothing else."""

import asyncio
import logging

import pytest

from crew import Agent, Context, RunFailed, workflow
from crew.testing import ScriptedModel, SimulationFailed, simulate


async def work(name: str) -> str:
    await asyncio.sleep(0.1)
    return name


def test_a_run_that_parks_is_reported_with_its_seed():
    entered = []

    @workflow
    async def flow(ctx: Context) -> str:
        entered.append(1)
        await ctx.run(work, "first" if len(entered) == 1 else f"entry {len(entered)}", key="k")
        await ctx.sleep(0.1)
        return "done"

    with pytest.raises(SimulationFailed, match="run 'flow' was parked: .*diverged") as caught:
        simulate(flow, seeds=[6])
    assert caught.value.seed == 6
    assert caught.value.crashes == (2,)


def test_a_run_that_hangs_is_reported_and_does_not_hang_the_test():
    @workflow
    async def flow(ctx: Context) -> None:
        await asyncio.Event().wait()

    with pytest.raises(SimulationFailed, match="seed 0, no crash: the run is stuck"):
        simulate(flow, seeds=1)


def test_a_run_that_spins_is_reported_and_does_not_hang_the_test():
    @workflow
    async def flow(ctx: Context) -> None:
        while True:
            await asyncio.sleep(0)

    with pytest.raises(SimulationFailed, match="seed 0, no crash: the run is stuck"):
        simulate(flow, seeds=1)


def test_a_question_that_nobody_answers_is_reported():
    @workflow
    async def flow(ctx: Context) -> bool:
        return await ctx.ask(bool, "Well?", key="q")

    with pytest.raises(SimulationFailed, match="the run is stuck"):
        simulate(flow, seeds=1)


def test_a_month_of_sleep_is_not_taken_for_a_hang():
    @workflow
    async def flow(ctx: Context) -> str:
        await ctx.sleep(30 * 86_400)
        return "awake"

    assert simulate(flow, seeds=1).output == "awake"


def test_what_the_workflow_raises_carries_the_seed():
    lives = []

    @workflow
    async def flow(ctx: Context) -> str:
        lives.append(1)
        if len(lives) == 2:
            raise ValueError("the second time")
        return await ctx.run(work, "done")

    with pytest.raises(RunFailed, match="the second time") as caught:
        simulate(flow, seeds=range(30, 50))
    (note,) = caught.value.__notes__
    assert note.startswith("simulated under seed 30, crashed after events")


def test_nothing_is_logged(caplog):
    @workflow
    async def flow(ctx: Context) -> str:
        return await ctx.run(work, "done")

    with caplog.at_level(logging.DEBUG):
        simulate(flow, seeds=20)
    assert not caplog.records


@workflow
async def child(ctx: Context, topic: str) -> str:
    return (await ctx.run(Agent("writer"), topic)).output


def test_models_stand_in_by_the_name_of_their_agent_also_in_children():
    @workflow
    async def flow(ctx: Context, topic: str) -> str:
        plan = await ctx.run(Agent("planner"), topic)
        return await ctx.run(child, plan.output)

    models = {
        "planner": ScriptedModel(lambda request: f"plan {request.messages[-1].text}"),
        "writer": ScriptedModel(lambda request: f"text of {request.messages[-1].text}"),
    }
    assert simulate(flow, "x", seeds=20, models=models).output == "text of plan x"
