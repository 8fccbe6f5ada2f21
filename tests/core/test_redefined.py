"""A workflow that is defined anew beside a waiting run of the old one: each keeps its code."""

import asyncio
from contextlib import asynccontextmanager

import pytest

from crew import Agent, Context, Diverged, Graph, Runtime, workflow
from crew.run import leaving
from crew.testing import ScriptedModel
from tests.core.lives import result, stores, until

REST_SECONDS = 0.3
"""After which a run that waits is not in memory any more, if it lingers no longer than here."""


def plain(word: str):
    @workflow(name="flow")
    async def flow(ctx: Context, number: int) -> str:
        await ctx.ask(bool, "Go on?", key="go")
        return word

    return flow


def with_effect(word: str):
    async def act(number: int) -> str:
        return word

    @workflow(name="flow")
    async def flow(ctx: Context, number: int) -> str:
        await ctx.ask(bool, "Go on?", key="go")
        return await ctx.effect(act, number)

    return flow


def with_agent(word: str):
    agent = Agent(word, model=ScriptedModel(lambda request: word))

    @workflow(name="flow")
    async def flow(ctx: Context, number: int) -> str:
        await ctx.ask(bool, "Go on?", key="go")
        return (await ctx.run(agent, "x")).output

    return flow


def with_child(word: str):
    @workflow(name=f"child {word}")
    async def child(ctx: Context, number: int) -> str:
        return word

    @workflow(name="flow")
    async def flow(ctx: Context, number: int) -> str:
        await ctx.ask(bool, "Go on?", key="go")
        return await ctx.run(child, number)

    return flow


graph = Graph("flow", input=int, output=str)


def of_nodes(word: str):
    """One graph, of which a node is defined again, as by running a notebook's cell again."""

    @graph.node
    async def first(ctx: Context, number: int) -> float:
        await ctx.ask(bool, "Go on?", key="go")
        return 1.5

    @graph.node
    async def second(ctx: Context, number: float) -> str:
        return word

    return graph


@pytest.mark.parametrize("made", [plain, with_effect, with_agent, with_child, of_nodes])
@stores
async def test_a_waiting_run_goes_on_with_the_code_it_was_started_with(url, made, monkeypatch):
    monkeypatch.setattr(leaving, "LINGER_SECONDS", 0.05)
    async with Runtime(url) as runtime:
        old = await runtime.start(made("old"), 1)
        await until(old, "waiting")
        await asyncio.sleep(REST_SECONDS)
        new = await runtime.start(made("new"), 1)
        await until(new, "waiting")
        for run in (old, new):
            await run.answer("go", True)
        assert await result(old) == "old"
        assert await result(new) == "new"


async def test_another_runtime_goes_on_with_the_code_that_it_knows():
    from crew.journal.memory import MemoryStore

    store = MemoryStore()
    async with Runtime(store) as runtime:
        run = await runtime.start(plain("old"), 1)
        await until(run, "waiting")
    store.forget_owners()
    async with Runtime(store, workflows=[plain("new")]) as runtime:
        run = await runtime.get(run.id)
        await run.answer("go", True)
        assert await result(run) == "new"


async def test_a_replay_and_a_fork_are_of_the_newest_code():
    def flow(word: str):
        @workflow(name="flow")
        async def flow(ctx: Context, number: int) -> str:
            return word

        return flow

    async with Runtime(":memory:") as runtime:
        run = await runtime.start(flow("old"), 1)
        await run.result()
        assert await result(await runtime.start(flow("new"), 1)) == "new"
        assert await result(await runtime.fork(run.id)) == "new"
        with pytest.raises(Diverged):
            await runtime.replay(run.id)


async def test_a_result_is_of_the_type_that_its_run_was_started_with():
    def flow(kind: type):
        @workflow(name="flow")
        async def flow(ctx: Context, number: int) -> kind:
            return kind(number)

        return flow

    async with Runtime(":memory:") as runtime:
        old = await runtime.start(flow(str), 7)
        await old.result()
        await (await runtime.start(flow(bytes), 7)).result()
        assert await old.result() == "7"


def opened(name: str):
    @asynccontextmanager
    async def deps():
        yield name

    return deps


def test_workflow_with_other_dependencies_is_another_one():
    one, two = (Graph("flow", input=str, output=str, deps=opened(name)) for name in "ab")
    assert one.is_same(one.frozen())
    assert not one.is_same(two)
