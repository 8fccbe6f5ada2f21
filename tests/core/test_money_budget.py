"""A budget of money: checked before each call, over the whole tree, through crashes."""

import asyncio
import random

import pytest

from crew import Agent, Budget, Context, Fallback, RunFailed, Runtime, workflow
from crew.errors import BudgetExceeded, ModelError, SettingsInvalid
from crew.journal.memory import MemoryStore
from crew.llm.terms import Terms
from crew.run.diff import compare
from crew.testing import ScriptedModel
from tests.core.counting import Counting, crashing
from tests.core.lives import SECONDS, result, stores
from tests.core.test_fallback import lived

DEAR, CHEAP = Terms(price_in=2.0, price_out=10.0), Terms(price_in=0.1, price_out=0.4)
LIMIT = 0.02


class Priced(Counting):
    """Says how much money it has really computed for."""

    def __init__(self, terms: Terms = DEAR, **given) -> None:
        super().__init__(rate=1.0, **given)
        self.terms = terms

    @property
    def money(self) -> float:
        return self.terms.money_nanos(self.read, self.said) / 1e9


def crowd(model, *, agents: int, children: bool = False):
    agent = Agent("agent", model=model, max_tokens=60)

    async def one(ctx: Context, number: int) -> str:
        try:
            return (await ctx.run(agent, f"{number}")).output and "answered"
        except (BudgetExceeded, ModelError) as error:
            return type(error).__name__

    @workflow(name="child")
    async def child(ctx: Context, number: int) -> str:
        return await one(ctx, number)

    @workflow(name="crowd")
    async def flow(ctx: Context, text: str) -> list[str]:
        def way(number: int):
            return ctx.run(child, number) if children and number % 2 else one(ctx, number)

        return await asyncio.gather(*map(way, range(agents)))

    return flow


def spent(usage) -> float:
    return usage.get("money", 0.0) + usage.get("unanswered_money", 0.0)


@pytest.mark.parametrize("children", [False, True])
@pytest.mark.parametrize("seed", range(3))
async def test_no_more_money_is_spent_than_a_budget_has(runtime, seed, children):
    model = Priced(chance=random.Random(seed))
    flow = crowd(model, agents=110, children=children)
    run = await runtime.start(flow, "go", budget=Budget(money=LIMIT))
    assert set(await result(run)) == {"answered", "BudgetExceeded"}
    assert 0.8 * LIMIT <= model.money <= spent(await run.usage()) + 1e-9 <= LIMIT + 2e-9


async def test_money_and_tokens_are_limited_side_by_side(runtime):
    model = Priced(chance=random.Random(1))
    run = await runtime.start(
        crowd(model, agents=110), "go", budget=Budget(money=LIMIT, tokens=3000, strict=True)
    )
    await result(run)
    assert model.money <= LIMIT
    assert model.tokens <= 3000


async def test_a_refusal_says_how_much_money_is_missing(runtime):
    flow = crowd(Priced(), agents=1)
    run = await runtime.start(flow, "go", budget=Budget(money=1e-6))
    assert await result(run) == ["BudgetExceeded"]

    agent = Agent("agent", model=Priced())

    @workflow(name="alone")
    async def alone(ctx: Context, text: str) -> str:
        return (await ctx.run(agent, text, budget=Budget(money=1e-6))).output

    with pytest.raises(RunFailed, match="money needed at") as caught:
        await result(await runtime.start(alone, "go"))
    assert isinstance(caught.value.__cause__, BudgetExceeded)
    assert caught.value.__cause__.unit == "money"


async def test_an_answer_is_made_shorter_before_it_is_refused_for_money(runtime):
    model = Priced(Terms(price_out=10.0), wanted=10_000)
    agent = Agent("agent", model=model, max_tokens=500)

    @workflow(name="alone")
    async def alone(ctx: Context, text: str) -> str:
        return (await ctx.run(agent, text)).output

    run = await runtime.start(alone, "go", budget=Budget(money=0.002))
    await result(run)
    assert [request.max_tokens for request in model.requests] == [200]
    assert spent(await run.usage()) == 0.002


async def test_a_model_without_a_price_is_told_under_a_budget_of_money(runtime):
    flow = crowd(Counting(), agents=1)
    with pytest.raises(RunFailed, match="has no price: say price_in and price_out") as caught:
        await result(await runtime.start(flow, "go", budget=Budget(money=1.0)))
    assert isinstance(caught.value.__cause__, SettingsInvalid)


async def test_what_is_free_needs_no_money(runtime):
    flow = crowd(ScriptedModel(lambda request: "yes"), agents=3)
    run = await runtime.start(flow, "go", budget=Budget(money=1e-9))
    assert await result(run) == ["answered"] * 3


async def test_a_budget_of_money_around_a_call_is_shared_by_a_map(runtime):
    model = Priced(chance=random.Random(1))
    agent = Agent("agent", model=model, max_tokens=60)

    @workflow(name="mapped")
    async def mapped(ctx: Context, text: str) -> None:
        await ctx.map(agent, [f"{n}" for n in range(110)], budget=Budget(money=LIMIT))

    with pytest.raises(RunFailed, match="money needed"):
        await result(await runtime.start(mapped, "go"))
    assert model.money <= LIMIT


async def test_a_fork_has_no_more_money_than_its_base(runtime):
    flow = crowd(Priced(), agents=2)
    run = await runtime.start(flow, "go", budget=Budget(money=LIMIT))
    await result(run)
    fork = await runtime.fork(run.id, at=1, budget=Budget(money=1e-6))
    assert await result(fork) == ["BudgetExceeded"] * 2


@pytest.mark.parametrize("money", [0, -1.0])
def test_money_is_above_nothing(money):
    with pytest.raises(ValueError, match="money must be above 0"):
        Budget(money=money)


def failing(number: int) -> ModelError | None:
    if number % 2:
        return None
    return ModelError(message="gone", status=500)


@pytest.mark.parametrize("children", [False, True])
@pytest.mark.parametrize("after", range(5, 65, 7))
async def test_after_a_crash_the_budget_of_money_holds(after, children):
    chance, memory = random.Random(after), MemoryStore()
    dear, cheap = Priced(chance=chance, fails=failing), Priced(CHEAP, chance=chance)
    flow = crowd(Fallback(dear, cheap), agents=8, children=children)
    run_id, _ = await lived(memory, flow, Budget(money=LIMIT), after)
    memory.forget_owners()
    async with Runtime(memory, workflows=[flow]) as runtime:
        run = await runtime.get(run_id)
        await result(run)
        usage = await run.usage()
    assert dear.money + cheap.money <= spent(usage) + 1e-9 <= LIMIT + 2e-9
    for account in memory.accounts([run_id]):
        assert account.total.money / 1e9 == pytest.approx(spent(usage))


@stores
@pytest.mark.parametrize("after", [4, 9, 14])
async def test_stores_on_disk_keep_the_money_of_a_tree(url, after):
    model = Priced(chance=random.Random(after))
    flow = crowd(model, agents=6, children=True)
    with crashing(url, after) as down:
        async with Runtime(down) as runtime:
            run = await runtime.start(flow, "go", budget=Budget(money=LIMIT))
            async with asyncio.timeout(SECONDS):
                while not down.is_down and await run.status() == "running":
                    await asyncio.sleep(0.001)
    async with Runtime(url, workflows=[flow]) as runtime:
        found = await runtime.get(run.id)
        await result(found)
        usage = await found.usage()
    assert model.money <= spent(usage) + 1e-9 <= LIMIT + 2e-9


async def test_a_fork_within_a_tree_has_no_more_money_than_the_tree(url):
    agent = Agent("agent", model=Priced(wanted=5), max_tokens=50)

    @workflow(name="child")
    async def child(ctx: Context, number: int) -> int:
        for turn in range(number):
            await ctx.run(agent, f"{turn}")
        return number

    @workflow(name="parent")
    async def parent(ctx: Context, number: int) -> int:
        return await ctx.run(child, number)

    async with Runtime(url) as runtime:
        run = await runtime.start(parent, 1, budget=Budget(money=LIMIT))
        assert await result(run) == 1
        (row,) = runtime.store.runs(parent=run.id)
        fork = await runtime.fork(row.id, at=1)
        assert await result(fork) == 1
        assert spent(await fork.usage()) <= LIMIT


async def test_a_difference_counts_what_a_request_cost_that_broke_off(runtime):
    broken = ModelError(message="broke", broke_off=True, input_tokens=50, output_tokens=40)
    model = Counting(wanted=5, fails=lambda number: broken if number == 1 else None)
    agent = Agent("agent", model=model, max_tokens=50)

    @workflow(name="flow")
    async def flow(ctx: Context, text: str) -> str:
        return (await ctx.run(agent, text, emit=True)).output

    one, other = [await runtime.start(flow, "x", budget=Budget(tokens=5000)) for _ in range(2)]
    await result(one)
    await result(other)
    cost = compare(await one.recorded(), await other.recorded()).costs[0]
    usage = await one.usage()
    assert cost.tokens == usage["input_tokens"] + usage["output_tokens"]
