"""The simulation finds what it is for."""

import asyncio

import pytest

from crew import Context, Graph, Retry, workflow
from crew.testing import SimulationFailed, simulate
from tests.core.flows import Answer, Count, Finding, Question, Search, research


def test_a_graph_survives_crashes_at_every_place():
    done = simulate(research(), Question(text="c"), seeds=200)
    assert done.output.text == "found a, computed b, found c"
    assert done.crashes >= 200


@pytest.mark.slow
def test_a_thousand_schedules_of_everything_lose_nothing():
    done = simulate(everything(), Question(text="c"), seeds=1000, answer=lambda question: True)
    assert done.output.text == "Tick c True"
    assert done.crashes >= 1000


def test_questions_effects_sleeps_and_loops_survive_too():
    done = simulate(everything(), Question(text="c"), seeds=60, answer=lambda question: True)
    assert done.output.text == "Tick c True"


def everything() -> Graph:
    """A fan-out, an effect, an hour's sleep, a question, a back-off and branches of tasks."""
    graph = Graph("everything", input=Question, output=Answer)
    failed: set[str] = set()

    @graph.node
    async def split(ctx: Context, question: Question) -> list[Search]:
        await ctx.effect(act, question.text, key="act", unknown="retry")
        return [Search(query=f"{question.text}{n}") for n in range(3)]

    @graph.node(retry=Retry(attempts=2, first_delay=60))
    async def look_up(ctx: Context, task: Search) -> Finding:
        await ctx.sleep(3600)
        if (ctx.run_id, task.query) not in failed:
            failed.add((ctx.run_id, task.query))
            raise OSError("once")
        both = await asyncio.gather(ctx.run(found, task.query), ctx.run(found, "b"))
        return Finding(text="".join(both))

    @graph.node
    async def join(ctx: Context, findings: list[Finding]) -> Count:
        assert [item.text for item in findings] == [f"c{n}b" for n in range(3)]
        return Count(n=0)

    @graph.node
    async def tick(ctx: Context, count: Count) -> Count | Answer:
        if count.n < 4:
            return Count(n=count.n + 1)
        first, said = await asyncio.gather(ctx.run(found, "c"), ctx.ask(bool, "Sure?", key="sure"))
        return Answer(text=f"Tick {first} {said}")

    return graph


async def act(text: str, idempotency_key: str) -> str:
    return text


async def found(text: str) -> str:
    return text


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
