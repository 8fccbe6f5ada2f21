"""Runs of one tree draw on the accounts of one budget, wherever in it they are."""

import asyncio
import random

import pytest
from pydantic import BaseModel

from crew import Agent, Budget, Context, Runtime, workflow
from crew.errors import BudgetExceeded, ModelError
from crew.llm.cost import request_bytes
from tests.core.counting import Counting
from tests.core.lives import result, stores

PATIENCE = 120.0
TEXT = "what is there to say about it? "
KINDS = ("input", "output", "unanswered")


class Branch(BaseModel):
    depth: int
    name: str = "0"


class Family:
    """A run with agents and children, which have some of their own: 1 + w + w² + … runs."""

    def __init__(self, model: Counting, *, agents: int, width: int, max_tokens: int = 60) -> None:
        self.agent = agent = Agent("agent", model=model, max_tokens=max_tokens)

        async def ask(ctx: Context, name: str) -> list[str]:
            try:
                await ctx.run(agent, f"{TEXT * (sum(map(ord, name)) % 5)} {name}")
            except (BudgetExceeded, ModelError) as error:
                return [type(error).__name__]
            return ["answered"]

        @workflow(name="family")
        async def family(ctx: Context, branch: Branch) -> list[str]:
            async def below(number: int) -> list[str]:
                child = Branch(depth=branch.depth - 1, name=f"{branch.name}.{number}")
                return await ctx.run(family, child)

            work = [ask(ctx, f"{branch.name}:{number}") for number in range(agents)]
            if branch.depth:
                work += [below(number) for number in range(width)]
            return [said for part in await asyncio.gather(*work) for said in part]

        self.flow = family


def spent(usage: dict[str, int]) -> int:
    return sum(usage.get(f"{kind}_tokens", 0) for kind in KINDS)


def failing(number: int) -> ModelError | None:
    """Fail now and then: refused, counted, without a word, or in the middle."""
    match number % 10:
        case 3:
            return ModelError(message="gone", status=500)
        case 5:
            return ModelError(message="busy", status=503)
        case 7:
            return ModelError(message="gone", broke_off=True)
        case _:
            return None


async def outcomes(runtime: Runtime, flow, depth: int, budget: Budget | None):
    run = await runtime.start(flow, Branch(depth=depth), budget=budget)
    async with asyncio.timeout(PATIENCE):
        return await run.result(), await run.usage()


@pytest.fixture(params=["memory", "sqlite"])
def place(request, tmp_path):
    return ":memory:" if request.param == "memory" else f"sqlite:///{tmp_path}/runs.db"


@pytest.mark.parametrize("counts", [True, False], ids=["counted", "estimated"])
async def test_two_hundred_agents_in_a_tree_never_pass_a_budget_and_use_it(place, counts):
    model = Counting(rate=1.0, fails=failing, chance=random.Random(1), counts=counts)
    family = Family(model, agents=10, width=4)
    async with Runtime(place) as runtime:
        budget = Budget(tokens=20_000, strict=True)
        said, usage = await outcomes(runtime, family.flow, 2, budget)
    assert len(said) == 210
    assert set(said) == {"answered", "BudgetExceeded", "ModelError"}
    assert model.tokens <= spent(usage) <= 20_000
    assert spent(usage) >= 0.9 * 20_000


@pytest.mark.parametrize("counts", [True, False], ids=["counted", "estimated"])
async def test_no_call_is_refused_for_which_enough_comes_back(place, counts):
    async def needed() -> tuple[int, int]:
        model = Counting(rate=0.25, wanted=10)
        await outcomes(runtime, Family(model, agents=10, width=4).flow, 2, None)
        most = max(request_bytes(request) for request in model.requests)
        return model.tokens, most + 64 + 300

    async with Runtime(place) as runtime:
        true_cost, bound = await needed()
        model = Counting(rate=0.25, wanted=10, chance=None, counts=counts)
        family = Family(model, agents=10, width=4, max_tokens=300)
        budget = Budget(tokens=true_cost + bound)
        said, usage = await outcomes(runtime, family.flow, 2, budget)
    assert said == ["answered"] * 210
    assert all(request.max_tokens == 300 for request in model.requests)
    assert spent(usage) == model.tokens == true_cost


async def test_calls_of_a_tree_are_as_many_as_its_budget_has(place):
    # None breaks off, which would be begun anew as the same call.
    def fails(number: int) -> ModelError | None:
        return ModelError(message="gone") if number % 7 == 3 else None

    model = Counting(fails=fails, chance=random.Random(2))
    async with Runtime(place) as runtime:
        flow = Family(model, agents=10, width=4).flow
        said, _ = await outcomes(runtime, flow, 2, Budget(calls=150))
    assert len(model.requests) == 150
    assert said.count("BudgetExceeded") >= 210 - 150


@pytest.mark.parametrize(
    ("holds", "depth"),
    [("sleeps", 0), ("sleeps", 3), ("asks", 1), ("has called", 0), ("is about to call", 2)],
)
@stores
async def test_a_child_gets_what_its_siblings_hold_and_do_not_need(url, depth, holds):
    model = Counting(rate=0.25, wanted=30)
    agent = Agent("agent", model=model, max_tokens=900)
    over = asyncio.Event()

    @workflow(name="idle")
    async def idle(ctx: Context, number: int) -> None:
        if holds == "has called":
            await ctx.run(agent, "a word")
        if holds == "asks":
            await ctx.ask(bool, "May it go?", key="go")
        else:
            await over.wait()
        if holds == "is about to call":
            await ctx.run(agent, "a word")

    @workflow(name="busy")
    async def busy(ctx: Context, depth: int) -> int:
        if depth:
            return await ctx.run(busy, depth - 1)
        for number in range(100):
            await ctx.run(agent, f"{TEXT} {number}")
        return 100

    @workflow(name="top")
    async def top(ctx: Context, text: str) -> int:
        tasks = [asyncio.create_task(ctx.run(idle, number)) for number in range(4)]
        count = await ctx.run(busy, depth)
        over.set()
        if holds != "asks":
            await asyncio.gather(*tasks)
        return count

    async with Runtime(url) as runtime:
        run = await runtime.start(top, "go", budget=Budget(tokens=21_000))
        assert await result(run) == 100
        assert model.tokens == spent(await run.usage()) > 21_000 / 5


@stores
@pytest.mark.parametrize("outer", [None, Budget(tokens=100_000)], ids=["free", "limited"])
async def test_a_later_child_with_a_budget_of_its_own_keeps_to_that_too(url, outer):
    model = Counting(rate=0.25, wanted=50)
    agent = Agent("agent", model=model, max_tokens=50)

    @workflow(name="child")
    async def child(ctx: Context, calls: int) -> int:
        for number in range(calls):
            try:
                await ctx.run(agent, f"{TEXT} {number}")
            except BudgetExceeded:
                return number
        return calls

    @workflow(name="parent")
    async def parent(ctx: Context, n: int) -> list[int]:
        return [
            await ctx.run(child, 3),
            await ctx.run(child, 50, budget=Budget(tokens=400)),
            await ctx.run(child, 3),
        ]

    async with Runtime(url, workflows=[parent, child]) as runtime:
        run = await runtime.start(parent, 0, budget=outer)
        before, bounded, after = await result(run)
        assert (before, after) == (3, 3)
        assert 1 <= bounded < 8
        children = [await each.usage() for each in await runtime.runs() if each.workflow == "child"]
        assert max(map(spent, children)) <= 400
        assert spent(await run.usage()) == model.tokens
