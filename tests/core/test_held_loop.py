"""Code that holds the event loop loses nothing of what is done: no timer has to come first."""

import asyncio
import time

import pytest

from crew import Agent, Context, Graph, Runtime, tool, workflow
from crew.journal import Take
from crew.journal.memory import MemoryStore
from crew.journal.opening import open_store
from crew.testing import ScriptedModel, ToolCall
from tests.core.flows import Count, Done
from tests.core.lives import result

HELD = 0.02
CALLS = 6

pytestmark = pytest.mark.parametrize("url", ["sqlite", "postgres"], indirect=True)


class Witness:
    """Another process's look at what is on disk of the newest run."""

    def __init__(self, url):
        self._store = open_store(url)
        self.seen = []

    def look(self, kind):
        row = self._store.runs(limit=1)[0]
        kinds = [event.kind for event in self._store.events(row.number)]
        self.seen.append(kinds.count(kind))

    def close(self):
        self._store.close()


@pytest.fixture
async def live(url):
    """A runtime, and a witness of its store."""
    async with Runtime(url) as runtime:
        witness = Witness(url)
        yield runtime, witness
        witness.close()


async def test_calls_that_hold_the_loop_are_durable_before_the_next(live):
    runtime, witness = live

    async def work(n: int) -> int:
        witness.look("function.completed")
        time.sleep(HELD)
        return n

    @workflow
    async def flow(ctx: Context, value: int) -> int:
        return sum([await ctx.run(work, n) for n in range(CALLS)])

    await result(await runtime.start(flow, 0))
    assert witness.seen == [*range(CALLS)]


async def test_so_are_items_of_a_map(live):
    runtime, witness = live

    async def work(n: int) -> int:
        witness.look("function.completed")
        time.sleep(HELD)
        return n

    @workflow
    async def flow(ctx: Context, value: int) -> list[int]:
        return await ctx.map(work, range(CALLS), concurrency=1)

    await result(await runtime.start(flow, 0))
    assert all(durable >= done - 1 for done, durable in enumerate(witness.seen))


async def test_so_are_steps_of_a_graph(live):
    runtime, witness = live
    graph = Graph("held", input=Count, output=Done)

    @graph.node
    async def more(count: Count) -> Count | Done:
        witness.look("step.completed")
        time.sleep(HELD)
        return Count(n=count.n + 1) if count.n < CALLS else Done(n=count.n)

    await result(await runtime.start(graph, Count(n=0)))
    assert all(durable >= done - 1 for done, durable in enumerate(witness.seen))


async def test_so_are_calls_between_which_code_holds_the_loop(live):
    runtime, witness = live

    async def quick(n: int) -> int:
        return n

    @workflow
    async def flow(ctx: Context, value: int) -> int:
        for n in range(CALLS):
            await ctx.run(quick, n)
            time.sleep(HELD)
            await ctx.run(quick, n)
            witness.look("function.completed")
        return value

    await result(await runtime.start(flow, 0))
    assert witness.seen == [2 * (n + 1) for n in range(CALLS)]


async def test_so_are_tools_of_an_agent(live):
    runtime, witness = live

    @tool(effect="read")
    async def look(n: int) -> str:
        """Look."""
        witness.look("tool.completed")
        time.sleep(HELD)
        return "seen"

    replies = [ToolCall("look", {"n": n}) for n in range(CALLS)]
    agent = Agent("a", model=ScriptedModel([*replies, "done"]), tools=[look])

    @workflow
    async def flow(ctx: Context, value: int) -> str:
        return (await ctx.run(agent, "go")).output

    await result(await runtime.start(flow, 0))
    assert all(durable >= done - 1 for done, durable in enumerate(witness.seen))


async def test_a_run_that_was_taken_meanwhile_is_told_in_the_midst(live):
    runtime, _ = live
    began = []

    async def work(n: int) -> int:
        began.append(n)
        if n == 1:
            row = runtime.store.runs(limit=1)[0]
            runtime.store.commit([Take(row.number, "another", row.owner)])
        time.sleep(HELD)
        return n

    @workflow
    async def flow(ctx: Context, value: int) -> int:
        return sum([await ctx.run(work, n) for n in range(CALLS)])

    await runtime.start(flow, 0)
    async with asyncio.timeout(20):
        while 1 not in began:
            await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert began == [0, 1]


async def test_a_loop_that_is_free_commits_as_often_as_ever(url):
    commits = []

    class Counting(MemoryStore):
        def commit(self, operations):
            commits.append(len(operations))
            return super().commit(operations)

    async def work(n: int) -> int:
        return n

    @workflow
    async def flow(ctx: Context, value: int) -> int:
        return sum([await ctx.run(work, n) for n in range(200)])

    async with Runtime(Counting()) as runtime:
        await result(await runtime.start(flow, 0))
    assert len(commits) < 50
