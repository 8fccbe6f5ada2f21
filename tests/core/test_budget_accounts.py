"""A budget of a call holds for all that is called beneath it, beside those that are around it."""

import asyncio
import time

import pytest

from crew import Agent, Budget, Context, Retry, RunFailed, Runtime, tool, workflow
from crew.errors import BudgetExceeded, ModelError, StoreError
from crew.testing import ScriptedModel, ToolCall
from tests.core.counting import Counting, crashing
from tests.core.lives import result, stores

FEW = Budget(calls=2)


@tool(effect="read")
async def look(at: str) -> str:
    """Look at something."""
    return at


class Crew:
    """Whatever makes calls of one model, each in its own way four times or more."""

    def __init__(self) -> None:
        self.model = model = ScriptedModel(lambda request: "yes")
        self.looker_model = ScriptedModel(lambda request: ToolCall("look", {"at": "it"}))
        self.agent = Agent("agent", model=model)
        self.looker = Agent("looker", model=self.looker_model, tools=[look], max_turns=5)
        self.failing_model = Counting(fails=lambda number: ModelError(message="no"))
        self.failing = Agent("failing", model=self.failing_model)

        @workflow(name="child")
        async def child(ctx: Context, text: str) -> str:
            for number in range(4):
                await ctx.run(self.agent, f"{text} {number}")
            return text

        self.child = child

    @property
    def calls(self) -> int:
        models = (self.model, self.looker_model, self.failing_model)
        return sum(len(model.requests) for model in models)

    async def alone(self, ctx: Context, budget: Budget) -> None:
        await ctx.run(self.looker, "go", budget=budget)

    async def keyed(self, ctx: Context, budget: Budget) -> None:
        await ctx.run(self.looker, "go", key="it", budget=budget)

    async def as_a_child(self, ctx: Context, budget: Budget) -> None:
        await ctx.run(self.child, "go", budget=budget)

    async def map_of_agents(self, ctx: Context, budget: Budget) -> None:
        await ctx.map(self.agent, list("abcd"), concurrency=1, budget=budget)

    async def keyed_map(self, ctx: Context, budget: Budget) -> None:
        await ctx.map(self.agent, list("abcd"), concurrency=1, key="all", budget=budget)

    async def map_of_children(self, ctx: Context, budget: Budget) -> None:
        await ctx.map(self.child, ["a", "b"], budget=budget)

    async def function(self, ctx: Context, budget: Budget) -> None:
        async def many(text: str) -> str:
            for number in range(4):
                await ctx.run(self.agent, f"{text} {number}")
            return text

        await ctx.run(many, "go", budget=budget)

    async def retried(self, ctx: Context, budget: Budget) -> None:
        again = Retry(attempts=4, first_delay=0.001)
        await ctx.run(self.failing, "go", retry=again, budget=budget)

    async def inner(self, ctx: Context, budget: Budget) -> None:
        async def many(text: str) -> str:
            return str(await ctx.run(self.looker, text, budget=Budget(calls=3)))

        await ctx.run(many, "go", budget=budget)


WAYS = [name for name, value in vars(Crew).items() if callable(value) and name[0] != "_"]


@pytest.mark.parametrize("way", WAYS)
async def test_a_budget_of_a_call_holds_beneath_it_and_nowhere_else(runtime, way):
    crew = Crew()

    @workflow
    async def flow(ctx: Context, text: str) -> int:
        with pytest.raises((BudgetExceeded, RunFailed), match="calls needed"):
            await getattr(crew, way)(ctx, FEW)
        within = crew.calls
        for number in range(5):
            await ctx.run(crew.agent, f"beside {number}")
        return within

    run = await runtime.start(flow, "go")
    assert await result(run) == 2
    assert crew.calls == 7


@pytest.mark.parametrize("way", WAYS)
async def test_a_budget_of_a_call_is_within_that_of_its_run(runtime, way):
    crew = Crew()

    @workflow
    async def flow(ctx: Context, text: str) -> None:
        await ctx.run(crew.agent, "before")
        await getattr(crew, way)(ctx, Budget(calls=100))

    run = await runtime.start(flow, "go", budget=Budget(calls=3))
    with pytest.raises(RunFailed, match="calls needed"):
        await result(run)
    assert crew.calls == 3


@pytest.mark.parametrize("way", ["alone", "as_a_child", "map_of_agents", "function", "retried"])
@pytest.mark.parametrize("after", [3, 5, 7, 9])
@stores
async def test_after_a_crash_an_account_is_as_the_journal_has_it(url, way, after):
    crew = Crew()

    @workflow
    async def flow(ctx: Context, text: str) -> int:
        with pytest.raises((BudgetExceeded, RunFailed), match="calls needed"):
            await getattr(crew, way)(ctx, FEW)
        return crew.calls

    with crashing(url, after) as store:
        async with Runtime(store) as runtime:
            run = await runtime.start(flow, "go")
            with pytest.raises(StoreError):
                await result(run)
            assert crew.calls <= 2
    async with Runtime(url, workflows=[flow, crew.child]) as runtime:
        assert await result(await runtime.get(run.id)) <= 2


async def test_a_child_that_failed_settles_at_what_it_cost(runtime):
    model = Counting(wanted=30)
    agent = Agent("agent", model=model, max_tokens=30)

    @workflow
    async def bad(ctx: Context, number: int) -> int:
        await ctx.run(agent, "a")
        raise ValueError("bad")

    @workflow
    async def greedy(ctx: Context, text: str) -> None:
        for number in range(20):
            with pytest.raises((RunFailed, BudgetExceeded)):
                await ctx.run(bad, number)

    run = await runtime.start(greedy, "go", budget=Budget(tokens=600))
    await result(run)
    usage = await run.usage()
    assert model.tokens == usage["input_tokens"] + usage["output_tokens"]
    assert 500 < model.tokens <= 600


async def test_a_child_is_refused_where_an_endpoint_took_more_than_was_left(runtime):
    model = ScriptedModel(lambda request: "and so on " * 400)
    talker = Agent("talker", model=model, max_tokens=100)

    @workflow
    async def child(ctx: Context, number: int) -> None:
        await ctx.run(talker, "go")

    @workflow
    async def parent(ctx: Context, text: str) -> None:
        for number in range(5):
            await ctx.run(child, number)

    run = await runtime.start(parent, "go", budget=Budget(tokens=1500))
    with pytest.raises(RunFailed, match="BudgetExceeded"):
        await result(run)
    assert len(model.requests) == 2


@pytest.mark.parametrize("together", [1, 2, 5])
async def test_children_that_start_together_do_not_starve_each_other(runtime, together):
    crew = Crew()

    @workflow
    async def fan(ctx: Context, text: str) -> list[str]:
        return await ctx.map(crew.child, list("abcde"), concurrency=together)

    run = await runtime.start(fan, "go", budget=Budget(tokens=1_000_000, calls=20))
    assert await result(run) == list("abcde")
    assert crew.calls == 20


@stores
async def test_a_crash_while_a_child_runs_costs_nothing_of_the_budget(url):
    crew = Crew()

    @workflow
    async def parent(ctx: Context, text: str) -> str:
        return await ctx.run(crew.child, text)

    for after in range(3, 12):
        with crashing(url, after) as store:
            async with Runtime(store) as runtime:
                run = await runtime.start(parent, "go", budget=Budget(tokens=100_000))
                with pytest.raises(StoreError):
                    await result(run)
        async with Runtime(url, workflows=[parent, crew.child]) as runtime:
            assert await result(await runtime.get(run.id)) == "go"


@pytest.mark.parametrize("way", ["agent", "function", "child", "map", "question"])
@stores
async def test_the_seconds_of_a_call_are_those_of_the_wall_clock(url, way):
    class Slow(ScriptedModel):
        async def complete(self, request, *, on_text=None):
            await asyncio.sleep(60)
            raise AssertionError

    agent = Agent("agent", model=Slow())
    asked: list[str] = []

    async def sleeps(text: str) -> None:
        await asyncio.sleep(60)

    @workflow
    async def slow(ctx: Context, text: str) -> None:
        await asyncio.sleep(60)

    @workflow
    async def flow(ctx: Context, text: str) -> str:
        async def asks(text: str) -> bool:
            asked.append(text)
            return await ctx.ask(bool, "well?", key="go")

        budget = Budget(seconds=0.3)
        calls = {
            "agent": lambda budget: ctx.run(agent, text, budget=budget),
            "function": lambda budget: ctx.run(sleeps, text, budget=budget),
            "child": lambda budget: ctx.run(slow, text, budget=budget),
            "question": lambda budget: ctx.run(asks, text, budget=budget),
            "map": lambda budget: ctx.map(sleeps, ["a", "b"], budget=budget),
        }
        with pytest.raises((BudgetExceeded, RunFailed), match="seconds needed"):
            await calls[way](budget)
        return "went on"

    async with Runtime(url, workflows=[flow, slow]) as runtime:
        run = await runtime.start(flow, "go")
        assert await result(run) == "went on"
        if way != "child":  # whose own end comes first, or not
            assert await result(await runtime.replay(run.id)) == "went on"


@pytest.mark.parametrize("way", ["alone", "inner", "beside"])
async def test_a_model_is_not_called_once_the_seconds_of_a_call_are_over(runtime, way):
    crew = Crew()

    async def holds(ctx: Context, text: str) -> None:
        time.sleep(0.2)  # the event loop: no timer comes before the call
        await ctx.run(crew.agent, text)

    async def above(ctx: Context, text: str) -> None:
        await ctx.run(holds, ctx, text, budget=FEW)

    async def beside(ctx: Context, text: str) -> None:
        await asyncio.gather(ctx.run(holds, ctx, text), ctx.run(holds, ctx, text))

    @workflow
    async def flow(ctx: Context, text: str) -> str:
        function = {"alone": holds, "inner": above, "beside": beside}[way]
        with pytest.raises(BudgetExceeded, match="seconds needed"):
            await ctx.run(function, ctx, text, budget=Budget(seconds=0.1))
        return "went on"

    assert await result(await runtime.start(flow, "go")) == "went on"
    assert crew.calls == 0
