"""A run drawn as the tree of what it did, with what each part cost."""

import asyncio

import pytest

from crew import Agent, Context, Graph, ModelError, Retry, Runtime, tool, workflow
from crew.fold import Span
from crew.testing import ScriptedModel, ToolCall
from tests.core.lives import SECONDS, result, stores, until


@tool(effect="read")
async def look(word: str) -> str:
    """Look a word up."""
    return word.upper()


def asks_a_tool(request):
    return "done" if request.messages[-1].role == "tool" else ToolCall("look", {"word": "a"})


def named(span: Span, name: str) -> Span:
    return next(inner for inner in span if inner.name == name)


@workflow
async def research(ctx: Context, word: str) -> str:
    agent = Agent("reader", model=ScriptedModel(asks_a_tool), tools=[look])
    return (await ctx.run(agent, word)).output


@stores
async def test_spans_are_a_tree_of_step_agent_models_and_tools(url):
    async with Runtime(url) as runtime:
        run = await runtime.start(research, "x")
        await run.result()
        whole = await run.spans()
        usage = await run.usage()
    assert (whole.kind, whole.name, whole.outcome) == ("run", "research", "completed")
    agent = named(whole, "reader")
    assert [child.kind for child in agent.children] == ["model", "tool", "model"]
    assert named(whole, "look").outcome == "completed"
    assert whole.usage == usage
    assert agent.usage["calls"] == 2
    assert all(span.start <= (span.end or 0) for span in whole)
    assert all(span.start >= whole.start for span in whole)


async def test_a_failure_stands_in_the_span_that_failed_and_in_those_around_it():
    def no(request):
        raise ModelError(message="no model")

    @workflow
    async def flow(ctx: Context, word: str) -> str:
        return (await ctx.run(Agent("a", model=ScriptedModel(no)), word)).output

    async with Runtime(":memory:") as runtime:
        run = await runtime.start(flow, "x")
        await until(run, "failed")
        whole = await run.spans()
    assert {span.outcome for span in whole} == {"failed"}
    assert whole.error is not None
    assert "no model" in whole.error.message


async def test_what_is_under_way_has_no_end_yet():
    gate = asyncio.Event()

    @workflow
    async def flow(ctx: Context, word: str) -> str:
        return await ctx.run(hold, word)

    async def hold(word: str) -> str:
        await gate.wait()
        return word

    async with Runtime(":memory:") as runtime:
        run = await runtime.start(flow, "x")
        async with asyncio.timeout(SECONDS):
            while not (await run.spans()).children:
                await asyncio.sleep(0.01)
        whole = await run.spans()
        assert (whole.end, whole.seconds, whole.outcome) == (None, None, "running")
        assert whole.seconds_by(whole.start + 2) == 2
        gate.set()
        await result(run)
        assert (await run.spans()).end is not None


async def test_each_attempt_is_a_span_of_its_own():
    graph = Graph("twice", input=int, output=int)
    tries = []

    @graph.node(retry=Retry(attempts=2, first_delay=0.001))
    async def attempt(ctx: Context, number: int) -> int:
        tries.append(number)
        if len(tries) == 1:
            raise ValueError("again")
        return number

    async with Runtime(":memory:") as runtime:
        run = await runtime.start(graph, 1)
        await run.result()
        whole = await run.spans()
    assert [span.outcome for span in whole.children] == ["failed", "completed"]
    assert {span.name for span in whole.children} == {"attempt"}


async def test_what_a_fork_reuses_costs_it_nothing():
    async with Runtime(":memory:") as runtime:
        run = await runtime.start(research, "x")
        await run.result()
        fork = await runtime.fork(run.id)
        await fork.result()
        whole = await fork.spans()
        assert named(whole, "reader").reused
        assert whole.tokens == 0
        assert whole.usage == await fork.usage()


async def test_a_child_runs_cost_is_its_parents():
    @workflow
    async def parent(ctx: Context, word: str) -> str:
        return await ctx.run(research, word)

    async with Runtime(":memory:") as runtime:
        run = await runtime.start(parent, "x")
        await run.result()
        whole = await run.spans()
    child = next(span for span in whole if span.kind == "child")
    assert child.name == "research"
    assert child.usage["calls"] == whole.usage["calls"] == 2


@pytest.mark.parametrize("kind", ["agent", "child"])
@stores
async def test_usage_is_told_while_a_run_goes_on(url, kind):
    @workflow
    async def flow(ctx: Context, word: str) -> bool:
        await ctx.run(research, word) if kind == "child" else await research.function(ctx, word)
        return await ctx.ask(bool, "Enough?", key="go")

    async with Runtime(url) as runtime:
        run = await runtime.start(flow, "x")
        await until(run, "waiting")
        so_far = await run.usage()
        assert so_far["calls"] == 2
        await run.answer("go", True)
        await result(run)
        assert await run.usage() == so_far


async def test_usage_counts_children_that_go_on():
    @workflow
    async def child(ctx: Context, word: str) -> bool:
        await research.function(ctx, word)
        return await ctx.ask(bool, "Enough?", key="go")

    @workflow
    async def parent(ctx: Context, word: str) -> bool:
        return await ctx.run(child, word)

    async with Runtime(":memory:") as runtime:
        run = await runtime.start(parent, "x")
        async with asyncio.timeout(SECONDS):
            while (await run.usage()).get("calls") != 2:
                await asyncio.sleep(0.01)
        await run.cancel()
        await until(run, "cancelled")
