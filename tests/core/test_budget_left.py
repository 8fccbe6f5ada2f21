"""Code reads what the budgets around it have left, and reads the same when it is entered again."""

import asyncio
import contextlib
from typing import Any

import pytest
from pydantic import BaseModel

from crew import Agent, Budget, BudgetLeft, Context, Runtime, ToolCall, tool, workflow
from crew.errors import StoreError
from crew.journal.opening import open_store
from crew.testing import CrashingStore, ScriptedModel
from tests.core.lives import SECONDS, result, stores

writer = Agent("writer", model=ScriptedModel(lambda request: "words"), max_tokens=10)


class Seen(BaseModel):
    tokens: list[int | None]
    calls: list[int | None]


@workflow
async def reads(ctx: Context, text: str) -> Seen:
    """Read what is left before, between and after two calls; the second has a budget of its own."""
    found = [await ctx.budget_left()]
    await ctx.run(writer, text)
    found.append(await ctx.budget_left())
    await ctx.run(writer, text, budget=Budget(calls=2))
    found.append(await ctx.budget_left())
    return Seen(tokens=[each.tokens for each in found], calls=[each.calls for each in found])


async def test_it_falls_with_each_call(runtime):
    run = await runtime.start(reads, "x", budget=Budget(tokens=10_000, calls=5))
    seen = await result(run)
    usage = await run.usage()
    assert seen.calls == [5, 4, 3]
    assert seen.tokens[0] == 10_000
    assert seen.tokens[2] == 10_000 - usage["input_tokens"] - usage["output_tokens"]
    assert await result(await runtime.replay(run.id)) == seen


async def test_without_a_budget_nothing_is_limited(memory):
    @workflow(name="free")
    async def free(ctx: Context, text: str) -> bool:
        return await ctx.budget_left() == BudgetLeft()

    assert await result(await memory.start(free, "x"))


async def test_seconds_and_money_are_left_too(memory):
    @workflow(name="limited")
    async def limited(ctx: Context, text: str) -> list[float]:
        left = await ctx.budget_left()
        return [left.seconds, left.money]

    run = await memory.start(limited, "x", budget=Budget(seconds=1000, money=0.5))
    seconds, money = await result(run)
    assert 900 < seconds <= 1000
    assert money == 0.5


async def test_a_tool_reads_what_is_around_its_call(runtime):
    @tool
    async def look(ctx: Context) -> str:
        """Look."""
        return str((await ctx.budget_left()).calls)

    def reply(request: Any) -> Any:
        last = request.messages[-1]
        return last.text if last.role == "tool" else ToolCall("look")

    boss = Agent("boss", tools=[look], model=ScriptedModel(reply))

    @workflow(name="flow")
    async def flow(ctx: Context, text: str) -> list[str]:
        within = (await ctx.run(boss, text, budget=Budget(calls=3))).output
        return [within, (await ctx.run(boss, text)).output]

    run = await runtime.start(flow, "x", budget=Budget(calls=10))
    assert await result(run) == ["2", "7"]


async def test_a_child_reads_what_its_parents_have_left(runtime):
    @workflow(name="child")
    async def child(ctx: Context, text: str) -> int:
        await ctx.run(writer, text)
        return (await ctx.budget_left()).calls

    @workflow(name="parent")
    async def parent(ctx: Context, text: str) -> list[int]:
        await ctx.run(writer, text)
        below = await ctx.run(child, text)
        return [below, (await ctx.budget_left()).calls]

    run = await runtime.start(parent, "x", budget=Budget(calls=5))
    assert await result(run) == [3, 3]


@pytest.mark.parametrize("after", range(2, 16, 2))
async def test_after_a_crash_it_reads_the_same(tmp_path, after):
    kept = open_store(f"sqlite:///{tmp_path}/runs.db")
    how = {"key": "one", "budget": Budget(tokens=10_000, calls=9)}
    try:
        store = CrashingStore(kept, after=after)
        async with Runtime(store, workflows=[reads]) as runtime:
            run = await runtime.start(reads, "x", **how)
            async with asyncio.timeout(SECONDS):
                while not store.is_down and await run.status() == "running":
                    await asyncio.sleep(0.002)
        async with Runtime(kept, workflows=[reads]) as runtime:
            run = await runtime.start(reads, "x", **how)
            seen = await result(run)
            assert seen.calls[0] == 9
            assert await result(await runtime.replay(run.id)) == seen
            values = [e.data["value"] for e in await run.recorded() if e.kind == "value.completed"]
            assert [value["calls"] for value in values] == seen.calls
    finally:
        with contextlib.suppress(StoreError):
            kept.close()


@stores
async def test_what_was_read_stands_while_more_is_spent(url):
    @workflow(name="waits")
    async def waits(ctx: Context, text: str) -> list[int]:
        first = (await ctx.budget_left()).calls
        await ctx.run(writer, text)
        await ctx.ask(bool, "go?", key="go")
        return [first, (await ctx.budget_left()).calls]

    async with Runtime(url, workflows=[waits]) as runtime:
        run = await runtime.start(waits, "x", budget=Budget(calls=2))
        async with asyncio.timeout(SECONDS):
            while not await run.questions():
                await asyncio.sleep(0.01)
    async with Runtime(url, workflows=[waits]) as runtime:
        run = await runtime.get(run.id)
        await run.answer("go", True)
        assert await result(run) == [2, 1]
