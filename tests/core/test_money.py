"""What models cost by their prices, in usage, in the tree of a run, and where runs are compared."""

import pytest

from crew import Agent, Budget, Context, Fallback, OpenAIModel, Runtime, ToolCall, workflow
from crew.budget import UNLIMITED
from crew.config import NamedModel, Settings
from crew.errors import ModelError
from crew.fold import Steps, fold
from crew.llm.terms import Terms
from crew.message import Usage
from crew.run.diff import compare, cost_of
from crew.testing import ScriptedModel
from tests.core.counting import Counting
from tests.core.lives import result
from tests.core.test_default_model import Saying

DEAR = Terms(price_in=2.5, price_out=10)


def priced(terms: Terms = DEAR, **given) -> Counting:
    model = Counting(**given)
    model.terms = terms
    return model


def flow_of(model, **of_agent):
    agent = Agent("agent", model=model, **of_agent)

    @workflow(name="flow")
    async def flow(ctx: Context, text: str) -> float:
        return (await ctx.run(agent, text)).usage.money

    return flow


async def test_an_answer_costs_what_its_tokens_cost(runtime):
    model = priced(wanted=100)
    run = await runtime.start(flow_of(model), "go")
    money = await result(run)
    usage = await run.usage()
    assert money == usage["money"] == (usage["input_tokens"] * 2.5 + 100 * 10) / 1e6


async def test_a_model_without_a_price_costs_no_money(runtime):
    run = await runtime.start(flow_of(Counting()), "go")
    assert await result(run) == 0
    assert (await run.usage())["money"] == 0


@pytest.mark.parametrize("tokens", [1, 3, 7, 999_999])
def test_sums_of_money_lose_nothing(tokens):
    one = Usage(money=Terms(price_in=0.075).money_nanos(tokens, 0) / 1e9)
    assert sum([one] * 1000, Usage()).money == pytest.approx(tokens * 0.075 / 1000, abs=5e-7)


async def test_the_prices_of_crew_toml_count():
    with Saying(delay=0.0) as endpoint:
        named = NamedModel(endpoint.url, "big", price_in=1.0, price_out=2.0)
        settings = Settings(models={"strong": named})
        async with Runtime(":memory:", settings=settings) as runtime:
            assert await result(await runtime.start(flow_of("strong"), "go")) == 20e-6
        model = OpenAIModel("big", base_url=endpoint.url, price_in=3.0)
        assert (await Agent("a", model=model).run("go")).usage.money == 30e-6


async def test_what_a_failed_try_cost_is_in_usage_tree_and_cost(runtime):
    error = ModelError(message="gone", input_tokens=100, output_tokens=10)
    strong = priced(fails=lambda number: error)
    run = await runtime.start(flow_of(Fallback(strong, ScriptedModel(["yes"]))), "go")
    assert await result(run) == 350e-6
    assert (await run.usage())["money"] == 350e-6
    events, steps = await run.recorded(), Steps()
    fold(events, steps)
    first = next(each for path, each in steps.all.items() if path.endswith("model.0"))
    assert (first.state, first.tokens, first.money) == ("failed", 110, 0.00035)
    assert cost_of(events).money == 350e-6


async def test_a_difference_of_two_runs_says_what_each_paid(runtime):
    flow = flow_of(priced(wanted=100))
    one = await runtime.start(flow, "go")
    await result(one)
    fork = await runtime.fork(one.id)
    await result(fork)
    base, forked = compare(await one.recorded(), await fork.recorded()).costs
    assert base.money == forked.reused_money > 0
    assert forked.money == 0


@pytest.mark.parametrize("prices", [(2.5, 10), (0.075, 0.3), (0, 1 / 3), (1 / 7, 0), (0.002, 999)])
def test_what_is_affordable_is_the_most_that_is(prices):
    terms = Terms(price_in=prices[0], price_out=prices[1])
    for money in (0, 1, 999, 12_345, 1_000_003):
        for other in (0, 1, 7, 333):
            read = terms.input_within(UNLIMITED, money, other)
            written = terms.output_within(UNLIMITED, money, other)
            if 0 <= read < UNLIMITED - other:
                assert terms.money_nanos(read, other) <= money < terms.money_nanos(read + 2, other)
            if 0 <= written < UNLIMITED - other:
                assert terms.money_nanos(other, written) <= money
                assert money < terms.money_nanos(other, written + 2)


async def test_agents_that_others_ask_or_hand_on_to_cost_what_they_cost(runtime):
    dear = Terms(price_in=0, price_out=1000)
    helper = Agent("helper", model=ScriptedModel(["12345678"], terms=dear))
    last = Agent("last", model=ScriptedModel(["1234"], terms=dear))
    calls = [ToolCall("helper", {"text": "?"}), ToolCall("transfer_to_last")]
    model = ScriptedModel([*calls], terms=Terms(price_in=0, price_out=0))
    first = Agent("first", model=model, tools=[helper], handoffs=[last])

    @workflow(name="flow")
    async def flow(ctx: Context, text: str) -> float:
        return (await ctx.run(first, text)).usage.money

    run = await runtime.start(flow, "go", budget=Budget(money=10.0))
    assert await result(run) == pytest.approx(1e-3)
    assert (await run.usage())["money"] == pytest.approx(3e-3)
