"""A budget of a call holds for a run that comes back from a snapshot, too."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

import pytest
from pydantic import BaseModel

from crew import Agent, Budget, Context, Graph, Retry, Runtime
from crew.errors import BudgetExceeded
from crew.testing import ScriptedModel
from tests.core.counting import crashing
from tests.core.lives import SECONDS, answered, stores


class In(BaseModel):
    n: int = 0


class Spend(BaseModel):
    n: int


class Count(BaseModel):
    n: int


class Left(BaseModel):
    text: str


class Out(BaseModel):
    text: str


class Spending:
    """Two calls of a model before a person answers, and as many as may be after that."""

    def __init__(self, way: str, budget: Budget) -> None:
        self.model = ScriptedModel(lambda request: "yes")
        self.agent = Agent("agent", model=self.model, max_tokens=10)
        self.graph = self._graph(getattr(self, way), budget)

    def beneath(self, ctx: Context) -> Callable[[str], Awaitable[str]]:
        async def spend(text: str) -> str:
            for number in range(2):
                await ctx.run(self.agent, f"before {number}")
            await ctx.ask(bool, "May it go?", key="go")
            with contextlib.suppress(BudgetExceeded):
                for number in range(20):
                    await ctx.run(self.agent, f"after {number}")
            return text

        return spend

    async def plain(self, ctx: Context, budget: Budget) -> str:
        return await ctx.run(self.beneath(ctx), "spent", budget=budget)

    async def keyed(self, ctx: Context, budget: Budget) -> str:
        return await ctx.run(self.beneath(ctx), "spent", key="it", budget=budget)

    async def retried(self, ctx: Context, budget: Budget) -> str:
        again = Retry(attempts=2, first_delay=0.001)
        return await ctx.run(self.beneath(ctx), "spent", retry=again, budget=budget)

    async def mapped(self, ctx: Context, budget: Budget) -> str:
        return (await ctx.map(self.beneath(ctx), ["spent"], budget=budget))[0]

    async def inner(self, ctx: Context, budget: Budget) -> str:
        async def outer(text: str) -> str:
            return await ctx.run(self.beneath(ctx), text, budget=budget)

        return await ctx.run(outer, "spent", budget=Budget(calls=1000, seconds=3600.0))

    def _graph(self, way, budget) -> Graph:
        graph = Graph("spending", input=In, output=Out, max_steps=1000)

        @graph.node
        async def split(given: In) -> list[Spend | Count]:
            return [Spend(n=0), Count(n=0)]

        @graph.node
        async def spend(ctx: Context, asked: Spend) -> Left:
            return Left(text=await way(ctx, budget))

        @graph.node
        async def count(reached: Count) -> Count | Left:
            return Count(n=reached.n + 1) if reached.n < 80 else Left(text="counted")

        @graph.node
        async def join(left: list[Left]) -> Out:
            return Out(text=", ".join(sorted(item.text for item in left)))

        return graph


WAYS = ["plain", "keyed", "retried", "mapped", "inner"]


async def killed_behind_a_snapshot(url: str, graph: Graph) -> str:
    with crashing(url, 100_000) as store:
        async with Runtime(store, workflows=[graph]) as runtime:
            run = await runtime.start(graph, In())
            async with asyncio.timeout(SECONDS):
                while await run.status() != "waiting":
                    await asyncio.sleep(0.01)
            store.is_down = True
        assert store.snapshot(store.run(run.id).number) is not None
        return run.id


@pytest.mark.parametrize("way", WAYS)
@stores
async def test_calls_before_a_snapshot_count_after_it(url, way):
    spending = Spending(way, Budget(calls=5))
    run = await killed_behind_a_snapshot(url, spending.graph)
    assert len(spending.model.requests) == 2
    output, _ = await answered(url, spending.graph, run=run)
    assert output == Out(text="counted, spent")
    assert len(spending.model.requests) == 5


@pytest.mark.parametrize("way", WAYS)
async def test_tokens_before_a_snapshot_count_after_it(url, way):
    spending = Spending(way, Budget(tokens=200))
    run = await killed_behind_a_snapshot(url, spending.graph)
    output, events = await answered(url, spending.graph, run=run)
    assert output == Out(text="counted, spent")
    usage = events[-1].data["usage"]
    assert 2 < usage["calls"] < 20
    assert usage["input_tokens"] + usage["output_tokens"] <= 200
