"""A run goes on in a process that looks for no runs of others; so do the children it waits for."""

import asyncio
from typing import Any

import pytest

from crew import Agent, Context, Graph, Runtime, ToolCall, tool, workflow
from crew.errors import StoreError
from crew.journal.memory import MemoryStore
from crew.journal.opening import open_store
from crew.testing import CrashingStore, ScriptedModel
from tests.core.lives import SECONDS, result, stores

MOST_EVENTS = 40


async def double(number: int) -> int:
    return number * 2


@workflow(name="child")
async def child(ctx: Context, number: int) -> int:
    await ctx.sleep(0.001)
    return await ctx.run(double, number)


@workflow(name="calls a child")
async def calling(ctx: Context, number: int) -> int:
    return await ctx.run(child, number)


@workflow(name="calls two at once")
async def calling_two(ctx: Context, number: int) -> int:
    return sum(await ctx.map(child, [number, number + 1]))


@workflow(name="middle")
async def middle(ctx: Context, number: int) -> int:
    return await ctx.run(child, number) + 1


@workflow(name="calls a child that calls one")
async def nested(ctx: Context, number: int) -> int:
    return await ctx.run(middle, number)


steps = Graph("steps", input=int, output=str)


@steps.node
async def show(ctx: Context, number: int) -> str:
    return str(await ctx.run(double, number))


@workflow(name="calls a graph")
async def calling_graph(ctx: Context, number: int) -> str:
    return await ctx.run(steps, number)


@tool
async def ask_child(ctx: Context, number: int) -> int:
    """Ask a child."""
    return await ctx.run(child, number)


def reply(request: Any) -> Any:
    last = request.messages[-1]
    return last.text if last.role == "tool" else ToolCall("ask_child", {"number": 3})


agent = Agent("agent", model=ScriptedModel(reply), tools=[ask_child])


@workflow(name="calls a child in a tool")
async def calling_in_tool(ctx: Context, number: int) -> str:
    return (await ctx.run(agent, str(number))).output


FLOWS = [
    (calling, 6),
    (calling_two, 14),
    (nested, 7),
    (calling_graph, "6"),
    (calling_in_tool, "6"),
]


async def resumed(kept: Any, flow: Any, after: int) -> tuple[Any, bool]:
    """Resume a run that died after so many events; return its result, and if it had died."""
    store = CrashingStore(kept, after=after)
    async with Runtime(store, workflows=[flow]) as runtime:
        run = await runtime.start(flow, 3, key=f"after {after}")
        async with asyncio.timeout(SECONDS):
            while not store.is_down and await run.status() == "running":
                await asyncio.sleep(0.001)
    async with Runtime(kept, workflows=[flow], takes_over=False) as runtime:
        return await result(await runtime.resume(run.id)), store.is_down


@stores
@pytest.mark.parametrize(("flow", "output"), FLOWS, ids=[flow.name for flow, _ in FLOWS])
async def test_a_resumed_run_comes_to_its_end_wherever_it_and_its_children_died(url, flow, output):
    kept = open_store(url)
    try:
        for after in range(2, MOST_EVENTS, 2):
            found, has_died = await resumed(kept, flow, after)
            assert found == output
            if not has_died:
                return
        raise StoreError(message="no run came to its end undisturbed")
    finally:
        kept.close()


async def test_what_is_nobodys_child_here_is_left_alone():
    kept = MemoryStore()
    runs = []
    for key in ("one", "other"):
        store = CrashingStore(kept, after=6)
        async with Runtime(store, workflows=[calling]) as runtime:
            runs.append(await runtime.start(calling, 3, key=key))
            async with asyncio.timeout(SECONDS):
                while not store.is_down:
                    await asyncio.sleep(0.001)
    kept.forget_owners()
    async with Runtime(kept, workflows=[calling], takes_over=False) as runtime:
        assert await result(await runtime.resume(runs[0].id)) == 6
        other = await runtime.get(runs[1].id)
        assert not any(event.kind == "run.taken" for event in await other.recorded())
        children = kept.runs(parent=other.id)
        assert [row.status for row in children] == ["running"]
