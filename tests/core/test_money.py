"""What models cost by their prices, in usage, in the tree of a run, and where runs are compared."""

import pytest

from crew import Agent, Context, Fallback, OpenAIModel, Runtime, workflow
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
    assert "money" not in await run.usage()


@pytest.mark.parametrize("tokens", [1, 3, 7, 999_999])
def test_sums_of_money_lose_nothing(tokens):
    one = Usage(money_nanos=Terms(price_in=0.075).money_nanos(tokens, 0))
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
    assert (first.state, first.tokens, first.money_nanos) == ("failed", 110, 350_000)
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
