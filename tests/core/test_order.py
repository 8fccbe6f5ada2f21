"""What several tasks wait for comes back in one order: live, after a restart, and on replay."""

import asyncio
from typing import Any

import pytest

from crew import Agent, Context, Graph, RunFailed, Runtime, tool, workflow
from crew.llm import ModelReply
from crew.message import ToolCall, Usage
from tests.core.flows import Count, Done
from tests.core.lives import answered, left_waiting, result, stores, until

DID: list[Any] = []
SLOW, FAST = 1, 2


@pytest.fixture(autouse=True)
def nothing_done():
    DID.clear()


async def pause(item: int) -> None:
    """Let what is asked for first come last."""
    await asyncio.sleep(0.3 if item == SLOW else 0.01)


async def work(item: int) -> int:
    await pause(item)
    return item


async def broken(item: int) -> int:
    await pause(item)
    raise ValueError(str(item))


async def act(item: int) -> int:
    await pause(item)
    DID.append(item)
    return item


async def charge(item: int) -> int:
    DID.append(f"charged {item}")
    return item


@workflow
async def child(ctx: Context, item: int) -> int:
    return await ctx.run(work, item)


class Model:
    """Takes as long as the item says that it is asked about, and uses a tool if it has one."""

    name = "model"

    async def complete(self, request: Any, *, on_text: Any = None) -> ModelReply:
        usage = Usage(1, 1, 0, 1)
        asked = next(m.text for m in reversed(request.messages) if m.role == "user")
        if request.tools and request.messages[-1].role == "user":
            return ModelReply("", (ToolCall("send", {"item": int(asked)}, "1"),), usage)
        await pause(int(asked))
        return ModelReply(asked, (), usage)

    async def close(self) -> None:
        pass


@tool(effect="once")
async def send(item: int) -> str:
    """Send."""
    return str(await act(item))


thinker, sender = Agent("thinker", model=Model()), Agent("sender", model=Model(), tools=[send])


async def of(agent: Agent, ctx: Context, item: int) -> int:
    return int((await ctx.run(agent, str(item))).output)


async def caught(ctx: Context, item: int) -> int:
    try:
        return await ctx.run(broken, item)
    except ValueError as error:
        return int(str(error))


async def given_up(ctx: Context, item: int) -> int:
    try:
        async with asyncio.timeout(0.3 if item == SLOW else 0.01):
            return await ctx.ask(int, "which?", key=f"q{item}")
    except TimeoutError:
        return item


async def slept(ctx: Context, item: int) -> int:
    await ctx.sleep(0.3 if item == SLOW else 0.01)
    return item


async def mapped(ctx: Context, item: int) -> int:
    return (await ctx.map(work, [item, item]))[0]


WORK = {
    "function": lambda ctx, item: ctx.run(work, item),
    "effect": lambda ctx, item: ctx.effect(act, item),
    "agent": lambda ctx, item: of(thinker, ctx, item),
    "agent with a tool": lambda ctx, item: of(sender, ctx, item),
    "child": lambda ctx, item: ctx.run(child, item),
    "map": mapped,
    "error": caught,
    "timer": slept,
    "deadline of a question": given_up,
}


async def appended(ctx: Context, one: Any) -> list[int]:
    found: list[int] = []

    async def append(item: int) -> None:
        found.append(await one(ctx, item))

    await asyncio.gather(append(SLOW), append(FAST))
    return found


async def grouped(ctx: Context, one: Any) -> list[int]:
    found: list[int] = []

    async def append(item: int) -> None:
        found.append(await one(ctx, item))

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(append(SLOW))
        tasks.create_task(append(FAST))
    return found


async def queued(ctx: Context, one: Any) -> list[int]:
    queue: asyncio.Queue[int] = asyncio.Queue()

    async def put(item: int) -> None:
        queue.put_nowait(await one(ctx, item))

    tasks = [asyncio.create_task(put(item)) for item in (SLOW, FAST)]
    found = [await queue.get(), await queue.get()]
    await asyncio.gather(*tasks)
    return found


async def completed(ctx: Context, one: Any) -> list[int]:
    tasks = [asyncio.create_task(one(ctx, item)) for item in (SLOW, FAST)]
    return [await first for first in asyncio.as_completed(tasks)]


async def raced(ctx: Context, one: Any) -> list[int]:
    tasks = [asyncio.create_task(one(ctx, item)) for item in (SLOW, FAST)]
    done, left = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    (first,) = done
    (last,) = left
    return [first.result(), await last]


async def called_back(ctx: Context, one: Any) -> list[int]:
    found: list[int] = []
    tasks = [asyncio.create_task(one(ctx, item)) for item in (SLOW, FAST)]
    for task in tasks:
        task.add_done_callback(lambda done: found.append(done.result()))
    await asyncio.gather(*tasks)
    return found


WAYS = [
    ("function", queued),
    ("effect", appended),
    ("effect", completed),
    ("agent", grouped),
    ("agent with a tool", raced),
    ("child", appended),
    ("child", raced),
    ("map", called_back),
    ("error", grouped),
    ("timer", completed),
    ("deadline of a question", queued),
]


def acting_on(what: str, way: Any) -> Any:
    """Return a workflow that charges for each of two in the order in which they come."""

    @workflow
    async def flow(ctx: Context, value: int) -> list[int]:
        found = await way(ctx, WORK[what])
        for item in found:
            await ctx.effect(charge, item, key=f"charge {item}")
        await ctx.ask(bool, "go?", key="go")
        return found

    return flow


@stores
@pytest.mark.parametrize(("what", "way"), WAYS)
async def test_calls_come_back_in_the_order_in_which_they_came_live(what, way, url):
    flow = acting_on(what, way)
    run = await left_waiting(url, flow, child)
    live = list(DID)
    assert live[-2:] == ["charged 2", "charged 1"]
    output, _ = await answered(url, flow, child, run=run)
    async with Runtime(url, workflows=[flow, child]) as runtime:
        again = await result(await runtime.replay(run))
    assert (output, again, DID) == ([FAST, SLOW], [FAST, SLOW], live)


@stores
@pytest.mark.parametrize("what", ["function", "effect", "agent", "child"])
async def test_only_the_first_of_two_is_acted_on_after_a_restart_too(what, url):
    @workflow
    async def flow(ctx: Context, value: int) -> int:
        tasks = [asyncio.create_task(WORK[what](ctx, item)) for item in (SLOW, FAST)]
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        first = min(task.result() for task in done)
        await ctx.effect(charge, first, key=f"charge {first}")
        await asyncio.gather(*tasks)
        await ctx.ask(bool, "go?", key="go")
        return first

    output, _ = await answered(url, flow, child, run=await left_waiting(url, flow, child))
    assert output == FAST
    assert [item for item in DID if isinstance(item, str)] == ["charged 2"]


@stores
async def test_nodes_that_patch_what_they_share_do_so_in_one_order(url):
    graph = Graph("graph", input=Count, output=Done)

    @graph.node
    async def race(ctx: Context, value: Count) -> Done:
        found = await appended(ctx, lambda ctx, item: ctx.effect(act, item))
        last = await ctx.run(work, found[0] * 10)
        return Done(n=last + (await ctx.ask(bool, "go?", key="go")))

    run = await left_waiting(url, graph, value=Count(n=0))
    output, _ = await answered(url, graph, run=run)
    assert output == Done(n=21)
    assert DID == [FAST, SLOW]


@stores
async def test_answers_of_people_come_back_in_the_order_in_which_they_were_given(url):
    @workflow
    async def flow(ctx: Context, value: int) -> list[int]:
        async def asks(ctx: Context, item: int) -> int:
            return await ctx.ask(int, "which?", key=f"q{item}")

        found = await appended(ctx, asks)
        await ctx.ask(bool, "go?", key="go")
        return found

    async with Runtime(url) as runtime:
        run = await runtime.start(flow, 0)
        await until(run, "waiting")
        await run.answer("q2", FAST)
        await run.answer("q1", SLOW)
        await until(run, "waiting")
        live = run.id
    output, _ = await answered(url, flow, run=live)
    assert output == [FAST, SLOW]
    async with Runtime(url, workflows=[flow]) as runtime:
        assert await result(await runtime.replay(live)) == [FAST, SLOW]


@stores
@pytest.mark.parametrize("what", ["function", "effect", "agent", "child", "agent with a tool"])
async def test_of_two_errors_the_first_one_fails_the_run_again(what, url):
    @workflow
    async def flow(ctx: Context, value: int) -> list[int]:
        async def fails(item: int) -> None:
            raise ValueError(str(await WORK[what](ctx, item)))

        return await asyncio.gather(fails(SLOW), fails(FAST))

    async with Runtime(url, workflows=[flow, child]) as runtime:
        run = await runtime.start(flow, 0)
        with pytest.raises(RunFailed, match="ValueError: 2"):
            await result(run)
        again = await runtime.replay(run.id)
        with pytest.raises(RunFailed, match="ValueError: 2"):
            await result(again)
