"""A call's place depends on the program alone, whatever else has tasks in its process."""

import asyncio
from contextvars import ContextVar
from typing import Any

import pytest

from crew import Agent, Context, RunFailed, Runtime, tool, workflow
from crew.testing import ScriptedModel, ToolCall
from tests.core.lives import answered, left_waiting, result, stores, until

DID: list[object] = []


@pytest.fixture(autouse=True)
def nothing_done():
    DID.clear()


async def act(item: int) -> int:
    await asyncio.sleep(0.01)
    DID.append(item)
    return item * 10


def act_in_thread(item: int) -> int:
    DID.append(item)
    return item * 10


@workflow
async def child(ctx: Context, item: int) -> int:
    return await ctx.effect(act, item)


@tool(effect="read")
async def look(q: str) -> str:
    """Look."""
    return q


@tool(effect="once")
async def send(q: str) -> str:
    """Send."""
    DID.append(q)
    return q


def agent(name: str, *tools: Any) -> Agent:
    def says(request: Any) -> Any:
        last = request.messages[-1]
        if last.role == "user" and tools:
            return ToolCall(name, {"q": "q"})
        DID.append(f"{name}: {last.text}")
        return f"answer {len(DID)}"

    return Agent(name, tools=list(tools), model=ScriptedModel(says))


looks, sends, writer = agent("look", look), agent("send", send), agent("writer")


async def group(*work: Any) -> list[Any]:
    async with asyncio.TaskGroup() as tasks:
        made = [tasks.create_task(item) for item in work]
    return [task.result() for task in made]


BEFORE = {
    "effect": lambda ctx: ctx.effect(act, 0),
    "effect in a thread": lambda ctx: ctx.effect(act_in_thread, 0, key="zero"),
    "agent with a read tool": lambda ctx: ctx.run(looks, "?"),
    "agent with a once-tool": lambda ctx: ctx.run(sends, "?"),
    "child": lambda ctx: ctx.run(child, 0),
}
AFTER = {
    "functions": lambda ctx: asyncio.gather(ctx.run(act, 1), ctx.run(act, 2)),
    "effects": lambda ctx: group(ctx.effect(act, 1), ctx.effect(act, 2)),
    "agents": lambda ctx: group(ctx.run(writer, "same"), ctx.run(writer, "same")),
    "children": lambda ctx: asyncio.gather(ctx.run(child, 1), ctx.run(child, 2)),
}
PAIRS = [
    ("effect", "effects"),
    ("effect", "agents"),
    ("effect in a thread", "children"),
    ("agent with a read tool", "functions"),
    ("agent with a once-tool", "effects"),
    ("child", "children"),
    ("child", "agents"),
]


@stores
@pytest.mark.parametrize(("before", "after"), PAIRS)
async def test_what_was_called_before_does_not_shift_the_places_of_tasks(before, after, url):
    @workflow
    async def flow(ctx: Context, value: int) -> list[str]:
        await BEFORE[before](ctx)
        found = await AFTER[after](ctx)
        await ctx.ask(bool, "go?", key="go")
        return [str(getattr(item, "output", item)) for item in found]

    run = await left_waiting(url, flow, child)
    once = list(DID)
    output, _ = await answered(url, flow, child, run=run)
    async with Runtime(url, workflows=[flow, child]) as runtime:
        assert await result(await runtime.replay(run)) == output
    assert once == DID


async def paths_of(url: str, flow: Any, *kinds: str) -> list[str]:
    async with Runtime(url) as runtime:
        run = await runtime.start(flow, 0)
        await result(run)
        return [event.path for event in await run.recorded() if event.kind in kinds]


async def test_what_wait_for_is_given_is_placed_as_without_it(url):
    @workflow
    async def flow(ctx: Context, value: int) -> int:
        return await asyncio.wait_for(ctx.run(act, 1), 20) + await ctx.run(act, 2)

    assert await paths_of(url, flow, "function.completed") == ["flow[0]/act", "flow[0]/act.1"]


@pytest.mark.parametrize("concurrency", [None, 1, 2])
async def test_items_of_a_map_are_placed_by_their_index(concurrency, url):
    @workflow
    async def flow(ctx: Context, value: int) -> list[int]:
        return await ctx.map(act, [3, 2, 1], concurrency=concurrency)

    found = await paths_of(url, flow, "function.completed")
    assert sorted(found) == [f"flow[0]/act[{index}]/act" for index in range(3)]


async def test_functions_of_one_name_are_counted_by_themselves(url):
    async def other(ctx: Context) -> int:
        return await ctx.run(act, 1)

    async def more(ctx: Context) -> int:
        return await ctx.run(act, 2)

    @workflow
    async def flow(ctx: Context, value: int) -> list[int]:
        return await asyncio.gather(other(ctx), more(ctx), other(ctx))

    found = await paths_of(url, flow, "function.completed")
    assert sorted(found) == [f"flow[0]/{task}/act" for task in ("more:0", "other:0", "other:1")]


@stores
async def test_as_completed_over_coroutines_is_refused(url):
    @workflow
    async def flow(ctx: Context, value: int) -> list[int]:
        work = [ctx.run(act, item) for item in (1, 2)]
        try:
            return [await first for first in asyncio.as_completed(work)]
        finally:
            for left in work:
                left.close()  # it would warn that nobody awaited it

    async with Runtime(url) as runtime:
        run = await runtime.start(flow, 0)
        with pytest.raises(RunFailed, match=r"as_completed\(\[create_task\(c\) for c in"):
            await result(run)


TENANT: ContextVar[str] = ContextVar("tenant", default="nobody")


async def whose(item: int = 0) -> str:
    return TENANT.get()


def whose_in_thread(item: int = 0) -> str:
    return TENANT.get()


@tool(effect="read")
async def whose_tool(q: str) -> str:
    """Say whose it is."""
    return TENANT.get()


tells = Agent(
    "whose_tool",
    tools=[whose_tool],
    model=ScriptedModel(
        lambda request: (
            ToolCall("whose_tool", {"q": ""})
            if request.messages[-1].role == "user"
            else request.messages[-1].text
        )
    ),
)


async def of_agent(ctx: Context) -> str:
    return (await ctx.run(tells, "?")).output


SEES = {
    "function": lambda ctx: ctx.run(whose),
    "function in a thread": lambda ctx: ctx.run(whose_in_thread),
    "effect": lambda ctx: ctx.effect(whose),
    "effect in a thread": lambda ctx: ctx.effect(whose_in_thread),
    "task": lambda ctx: asyncio.create_task(ctx.effect(whose)),
    "tool": of_agent,
}


@stores
@pytest.mark.parametrize("where", SEES)
async def test_context_variables_of_the_user_reach(where, url):
    @workflow
    async def flow(ctx: Context, value: int) -> str:
        TENANT.set("acme")
        return await SEES[where](ctx)

    async with Runtime(url) as runtime:
        assert await result(await runtime.start(flow, 0)) == "acme"


INSIDE = {
    "run": lambda ctx: ctx.run(act, 1),
    "effect": lambda ctx: ctx.effect(act, 1, key="one"),
    "child": lambda ctx: ctx.run(child, 1),
    "map": lambda ctx: ctx.map(act, [1]),
    "ask": lambda ctx: ctx.ask(bool, "?", key="go"),
    "sleep": lambda ctx: ctx.sleep(0.01),
    "now": lambda ctx: ctx.now(),
    "agent": lambda ctx: ctx.run(writer, "?"),
}


async def in_effect(ctx: Context, work: Any) -> None:
    async def acts() -> None:
        await work(ctx)

    await ctx.effect(acts)


async def in_task_of_effect(ctx: Context, work: Any) -> None:
    async def acts() -> None:
        await asyncio.create_task(work(ctx))

    await ctx.effect(acts)


async def in_tool(ctx: Context, work: Any) -> None:
    @tool(effect="read")
    async def look(q: str) -> str:
        """Look."""
        return str(await work(ctx))

    await ctx.run(agent("look", look), "?")


async def in_once_tool(ctx: Context, work: Any) -> None:
    @tool(effect="once")
    async def send(q: str) -> str:
        """Send."""
        return str(await work(ctx))

    await ctx.run(agent("send", send), "?")


async def in_child(ctx: Context, work: Any) -> None:
    @workflow
    async def inner(own: Context, value: int) -> str:
        return str(await work(ctx))

    await ctx.run(inner, 0)


MISPLACED = [
    (in_effect, "run"),
    (in_effect, "map"),
    (in_effect, "ask"),
    (in_task_of_effect, "effect"),
    (in_task_of_effect, "now"),
    (in_tool, "sleep"),
    (in_tool, "child"),
    (in_once_tool, "effect"),
    (in_once_tool, "ask"),
    (in_child, "agent"),
    (in_child, "effect"),
]


@stores
@pytest.mark.parametrize(("where", "call"), MISPLACED)
async def test_a_context_is_refused_where_its_calls_have_no_place(where, call, url):
    @workflow
    async def flow(ctx: Context, value: int) -> str:
        await where(ctx, INSIDE[call])
        return "not refused"

    async with Runtime(url) as runtime:
        run = await runtime.start(flow, 0)
        assert await until(run, "failed", "completed", "waiting") == "failed"
        with pytest.raises(RunFailed, match="was used for .*; call it in the step's code"):
            await result(run)
    assert not [item for item in DID if isinstance(item, int)]


@pytest.mark.parametrize("word", ["emit", "progress"])
async def test_a_context_is_refused_in_the_thread_of_an_effect(word, url):
    @workflow
    async def flow(ctx: Context, value: int) -> str:
        await ctx.effect(lambda: getattr(ctx, word)("a word"))
        return "not refused"

    async with Runtime(url) as runtime:
        run = await runtime.start(flow, 0)
        with pytest.raises(RunFailed, match=f"was used for '{word}' inside the effect"):
            await result(run)
