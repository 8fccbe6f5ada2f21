"""A map with a limit has so many tasks and no more, whatever it is over, and keeps its places."""

import asyncio
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

import pytest

from crew import Agent, Context, GraphError, Runtime, workflow
from crew.testing import ScriptedModel
from tests.core.lives import restarted, result, stores

LIMIT = 4
ITEMS = 60
TASKS: list[int] = []
NAME: ContextVar[str] = ContextVar("name", default="nobody's")


async def tick(n: int) -> int:
    TASKS.append(len(asyncio.all_tasks()))
    await asyncio.sleep(0)
    return n


async def act(n: int) -> int:
    return await tick(n)


@workflow
async def child(ctx: Context, n: int) -> int:
    return await tick(n)


@workflow
async def tasked(ctx: Context, n: int) -> int:
    return await ctx.effect(act, n, key=f"act-{n}")


CALLEES: dict[str, Any] = {"a function": tick, "a child": child, "a child that acts": tasked}


@stores
@pytest.mark.parametrize("callee", CALLEES.values(), ids=CALLEES.keys())
async def test_a_map_has_as_many_tasks_as_its_limit(url, callee):
    @workflow
    async def flow(ctx: Context, of: int) -> list[int]:
        return await ctx.map(callee, range(of), concurrency=LIMIT)

    async with Runtime(url, workflows=[flow, child, tasked]) as runtime:
        await result(await runtime.start(flow, 1))
        TASKS.clear()
        assert await result(await runtime.start(flow, ITEMS)) == [*range(ITEMS)]
    # The runtime has tasks of its own, and a child's driver has some; none is there per item.
    assert max(TASKS) < ITEMS


async def test_items_are_made_as_they_are_needed():
    at_work, most, made = 0, 0, 0

    async def work(n: int) -> int:
        nonlocal at_work, most
        at_work += 1
        most = max(most, made - n)
        await asyncio.sleep(0)
        at_work -= 1
        assert at_work < LIMIT
        return n

    def items() -> Iterator[int]:
        nonlocal made
        for n in range(ITEMS):
            made += 1
            yield n

    @workflow
    async def flow(ctx: Context, value: int) -> list[int]:
        return await ctx.map(work, items(), concurrency=LIMIT)

    async with Runtime(":memory:") as runtime:
        assert await result(await runtime.start(flow, 0)) == [*range(ITEMS)]
    assert most <= LIMIT


@pytest.mark.parametrize("limit", [1, 2, LIMIT, 1000, None])
async def test_places_do_not_depend_on_the_limit(limit):
    async def inner(n: int) -> int:
        return n

    async def work(ctx: Context, n: int) -> int:
        both = [asyncio.create_task(ctx.run(inner, n + k)) for k in range(2)]
        return sum([await task for task in both])

    @workflow
    async def flow(ctx: Context, value: int) -> list[int]:
        await ctx.map(work_of(ctx), range(5), concurrency=limit)
        tasks = [asyncio.create_task(ctx.run(inner, n)) for n in range(2)]
        return [await task for task in tasks]

    def work_of(ctx: Context) -> Any:
        async def item(n: int) -> int:
            return n

        return item

    async with Runtime(":memory:") as runtime:
        run = await runtime.start(flow, 0)
        assert await result(run) == [0, 1]
        paths = {event.path for event in await run.recorded() if event.kind.startswith("function")}
        items = {f"flow[0]/item[{n}]/item" for n in range(5)}
        assert paths == items | {f"flow[0]/run:{n}/inner" for n in range(2)}
        assert await result(await runtime.replay(run.id)) == [0, 1]


async def test_an_item_sees_no_variable_that_another_set():
    async def work(n: int) -> str:
        found = NAME.get()
        NAME.set(f"item {n}")
        return found

    @workflow
    async def flow(ctx: Context, value: int) -> list[str]:
        NAME.set("mine")
        return await ctx.map(work, range(10), concurrency=2)

    async with Runtime(":memory:") as runtime:
        assert await result(await runtime.start(flow, 0)) == ["mine"] * 10


async def test_the_first_error_is_raised_and_nothing_else_begins():
    began: list[int] = []

    async def work(n: int) -> int:
        began.append(n)
        if n == 3:
            raise KeyError(n)
        await asyncio.sleep(0 if n < 3 else 60)
        return n

    @workflow
    async def flow(ctx: Context, value: int) -> str:
        try:
            await ctx.map(work, range(ITEMS), concurrency=2)
        except KeyError:
            return "caught"
        return "not"

    async with Runtime(":memory:") as runtime:
        run = await runtime.start(flow, 0)
        assert await result(run) == "caught"
        assert max(began) <= 5
        assert await result(await runtime.replay(run.id)) == "caught"


@stores
async def test_a_map_with_a_limit_goes_on_where_it_was(url):
    made: list[int] = []

    async def work(n: int) -> int:
        made.append(n)
        return n

    @workflow
    async def flow(ctx: Context, value: int) -> int:
        found = await ctx.map(work, range(20), concurrency=3)
        await ctx.ask(bool, "Go on?", key="go")
        found += await ctx.map(work, range(20, 30), concurrency=3)
        return sum(found)

    assert await restarted(url, flow) == sum(range(30))
    assert sorted(made) == [*range(30)]


async def test_agents_are_mapped_a_few_at_once():
    agent = Agent("echo", model=ScriptedModel(lambda request: request.messages[-1].text))

    @workflow
    async def flow(ctx: Context, value: int) -> list[str]:
        found = await ctx.map(agent, [f"item {n}" for n in range(7)], concurrency=2)
        return [item.output for item in found]

    async with Runtime(":memory:") as runtime:
        expected = [f"item {n}" for n in range(7)]
        assert await result(await runtime.start(flow, 0)) == expected


@pytest.mark.parametrize("limit", [0, -1])
async def test_a_limit_below_one_is_refused(limit):
    @workflow
    async def flow(ctx: Context, value: int) -> list[int]:
        with pytest.raises(GraphError, match="concurrency must be 1 or more"):
            await ctx.map(tick, range(3), concurrency=limit)
        return []

    async with Runtime(":memory:") as runtime:
        assert await result(await runtime.start(flow, 0)) == []
