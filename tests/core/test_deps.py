"""What a workflow's code depends on is opened once in a process, in nobody's step."""

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from pydantic import BaseModel

from crew import Agent, Context, Graph, Retry, RunFailed, Runtime, ToolCall, tool, workflow
from crew.errors import GraphError
from crew.journal.memory import MemoryStore
from crew.testing import CrashingStore, ScriptedModel
from tests.core.lives import result, until


class In(BaseModel):
    n: int = 0


class Out(BaseModel):
    n: int


@dataclass
class Pool:
    """Connections whose reader is a task, as many libraries have it."""

    is_open: bool = True
    read: int = 0
    asked: list[str] = field(default_factory=list)

    async def reads(self) -> None:
        while True:
            await asyncio.sleep(0.001)
            self.read += 1

    def ask(self, text: str) -> str:
        self.asked.append(text)
        return f"{text}!"


class Opened:
    """Opens pools, and keeps them."""

    def __init__(self, fails: int = 0) -> None:
        self.pools: list[Pool] = []
        self.fails = fails

    @asynccontextmanager
    async def open(self):
        if self.fails:
            self.fails -= 1
            raise ConnectionError("nobody is there")
        pool = Pool()
        self.pools.append(pool)
        reading = asyncio.create_task(pool.reads())
        try:
            yield pool
        finally:
            reading.cancel()
            pool.is_open = False


def asking(opened: Opened, **options: Any) -> Any:
    @workflow(name="asking", deps=opened.open)
    async def asking(ctx: Context[Pool], text: str) -> str:
        assert ctx.deps.is_open
        return await ctx.effect(ctx.deps.ask, text)

    return asking


async def test_it_is_opened_once_and_closed_with_the_runtime(url):
    opened = Opened()
    flow = asking(opened)
    async with Runtime(url) as runtime:
        runs = [await runtime.start(flow, f"{n}") for n in range(20)]
        assert [await result(run) for run in runs] == [f"{n}!" for n in range(20)]
        (pool,) = opened.pools
        assert pool.is_open
        before = pool.read
        await asyncio.sleep(0.05)
        assert pool.read > before  # no step has ended its task
    assert not pool.is_open


async def test_nodes_and_tools_find_it(runtime):
    opened = Opened()

    @tool
    async def look(ctx: Context[Pool], text: str) -> str:
        """Look something up."""
        return ctx.deps.ask(text)

    def reply(request: Any) -> Any:
        last = request.messages[-1]
        return last.text if last.role == "tool" else ToolCall("look", {"text": "who"})

    agent = Agent("agent", model=ScriptedModel(reply), tools=[look])
    graph = Graph("graph", input=In, output=Out, deps=opened.open)

    @graph.node
    async def first(ctx: Context[Pool], given: In) -> float:
        assert ctx.deps is opened.pools[0]
        return float(given.n)

    @graph.node
    async def last(ctx: Context[Pool], given: float) -> Out:
        assert (await ctx.run(agent, "x")).output == "who!"
        return Out(n=int(given))

    assert await result(await runtime.start(graph, In(n=3))) == Out(n=3)
    assert opened.pools[0].asked == ["who"]


async def test_one_that_cannot_be_opened_fails_the_step_and_is_tried_again(runtime):
    flow = asking(Opened(fails=1))
    run = await runtime.start(flow, "x")
    with pytest.raises(RunFailed, match=r"'asking' depends on cannot be opened: ConnectionError"):
        await result(run)
    assert await result(await runtime.start(flow, "x")) == "x!"


async def test_a_step_with_attempts_opens_it_again(runtime):
    graph = Graph("graph", input=In, output=Out, deps=Opened(fails=2).open)

    @graph.node(retry=Retry(attempts=3, first_delay=0.001))
    async def only(ctx: Context[Pool], given: In) -> Out:
        return Out(n=given.n + ctx.deps.read)

    assert await result(await runtime.start(graph, In(n=1))) == Out(n=1)


async def test_a_run_that_is_taken_over_has_its_own(tmp_path):
    opened = Opened()
    flow = asking(opened)
    kept = MemoryStore()
    store = CrashingStore(kept, after=2)
    async with Runtime(store, workflows=[flow]) as runtime:
        await runtime.start(flow, "x", key="one")
        async with asyncio.timeout(10):
            while not store.is_down:
                await asyncio.sleep(0.002)
    async with Runtime(kept, workflows=[flow]) as runtime:
        run = await runtime.start(flow, "x", key="one")
        await until(run, "completed")
    assert [pool.is_open for pool in opened.pools] == [False, False]


async def test_a_replay_finds_it_and_asks_nothing_of_it(runtime):
    opened = Opened()
    run = await runtime.start(asking(opened), "x")
    assert await result(run) == "x!"
    assert await result(await runtime.replay(run.id)) == "x!"
    assert opened.pools[0].asked == ["x"]


async def test_a_context_without_says_how_to_give_some(runtime):
    @workflow(name="none")
    async def none(ctx: Context, text: str) -> str:
        return str(ctx.deps)

    with pytest.raises(RunFailed, match="give it what opens them"):
        await result(await runtime.start(none, "x"))


def test_what_is_open_already_is_refused():
    with pytest.raises(GraphError, match="the function that opens it"):
        Graph("graph", input=In, output=Out, deps=Opened().open())


async def test_a_context_knows_whose_run_it_is_and_what_came_with_it(runtime):
    @workflow(name="whose")
    async def whose(ctx: Context, text: str) -> list[Any]:
        return [ctx.tenant, ctx.metadata]

    run = await runtime.start(whose, "x", metadata={"order": "a1"})
    assert await result(run) == ["default", {"order": "a1"}]
    assert await result(await runtime.replay(run.id)) == ["default", {"order": "a1"}]
    assert await result(await runtime.start(whose, "x")) == ["default", {}]


async def test_one_that_cannot_be_closed_is_logged(caplog):
    @asynccontextmanager
    async def opens():
        yield Pool()
        raise ConnectionError("it hangs")

    @workflow(name="flow", deps=opens)
    async def flow(ctx: Context[Pool], text: str) -> str:
        return ctx.deps.ask(text)

    async with Runtime(":memory:") as runtime:
        assert await result(await runtime.start(flow, "x")) == "x!"
    assert "dependencies.not_closed" in caplog.messages


async def test_one_that_is_never_open_holds_up_no_end(url):
    opening = asyncio.Event()

    @asynccontextmanager
    async def opens():
        opening.set()
        await asyncio.sleep(3600)
        yield Pool()

    @workflow(name="flow", deps=opens)
    async def flow(ctx: Context[Pool], text: str) -> str:
        return ctx.deps.ask(text)

    async with asyncio.timeout(20):
        async with Runtime(url) as runtime:
            run = await runtime.start(flow, "x")
            await opening.wait()
            assert await run.status() == "running"


async def test_runs_that_wait_for_one_opening_fail_with_it_and_the_next_tries_again(runtime):
    begun = asyncio.Event()
    fails = [ConnectionError("nobody is there")]

    @asynccontextmanager
    async def opens():
        await begun.wait()
        if fails:
            raise fails.pop()
        yield Pool()

    @workflow(name="flow", deps=opens)
    async def flow(ctx: Context[Pool], text: str) -> str:
        return ctx.deps.ask(text)

    runs = [await runtime.start(flow, f"{n}") for n in range(3)]
    await asyncio.sleep(0.1)
    begun.set()
    for run in runs:
        with pytest.raises(RunFailed, match="nobody is there"):
            await result(run)
    assert await result(await runtime.start(flow, "x")) == "x!"
