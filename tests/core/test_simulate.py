"""The simulation finds what it is for."""

import pytest

from crew import Context, workflow
from crew.testing import SimulationFailed, simulate
from tests.core.flows import Question, research


def test_a_graph_survives_crashes_at_every_place():
    done = simulate(research(), Question(text="c"), seeds=200)
    assert done.output.text == "found a, computed b, found c"
    assert done.crashes >= 200


async def test_it_may_be_awaited_in_an_async_test():
    assert (await simulate(research(), Question(text="c"), seeds=5)).seeds == 5


def test_code_that_is_not_repeatable_is_caught_with_its_seed():
    seen = []

    @workflow
    async def flow(ctx: Context) -> int:
        seen.append(1)
        await ctx.sleep(0)
        return len(seen)

    with pytest.raises(SimulationFailed, match="^seed 0, crashed after events .* the output is"):
        simulate(flow, seeds=20)


def test_effects_are_never_repeated_by_themselves():
    acted = []

    async def act(idempotency_key: str) -> str:
        acted.append(idempotency_key)
        return "acted"

    @workflow
    async def flow(ctx: Context) -> str:
        return await ctx.effect(act, key="act")

    simulate(flow, seeds=100)
    assert len(acted) == len(set(acted))


def test_a_retried_effect_keeps_its_idempotency_key():
    acted = []

    async def act(idempotency_key: str) -> str:
        acted.append(idempotency_key)
        return "acted"

    @workflow
    async def flow(ctx: Context) -> str:
        return await ctx.effect(act, key="act", unknown="retry")

    done = simulate(flow, seeds=100)
    assert done.output == "acted"
    assert len(set(acted)) <= 101
    assert len(acted) > len(set(acted))
