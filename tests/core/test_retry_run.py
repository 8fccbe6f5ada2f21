"""A run that failed, gone on with in a new one: what it finished stays."""

import asyncio

import pytest

from crew import Agent, Context, EffectUnknown, Graph, InputInvalid, ModelError, Runtime, workflow
from crew.testing import ScriptedModel
from tests.core.lives import result, stores, until


class Repaired:
    """What fails until it is repaired, and counts what it is asked."""

    def __init__(self) -> None:
        self.is_broken = True
        self.calls: list[str] = []

    async def good(self, text: str) -> str:
        self.calls.append("good")
        return text

    async def bad(self, text: str) -> str:
        self.calls.append("bad")
        if self.is_broken:
            raise ValueError("broken")
        return text

    def say(self, request) -> str:
        self.calls.append("model")
        if self.is_broken and "bad" in request.messages[-1].text:
            raise ModelError(message="broken")
        return request.messages[-1].text


def by_functions(it: Repaired):
    @workflow(name="flow")
    async def flow(ctx: Context, text: str) -> str:
        return await ctx.run(it.bad, await ctx.run(it.good, text))

    return flow


def by_effects(it: Repaired):
    @workflow(name="flow")
    async def flow(ctx: Context, text: str) -> str:
        return await ctx.effect(it.bad, await ctx.effect(it.good, text))

    return flow


def by_agents(it: Repaired):
    agent = Agent("a", model=ScriptedModel(it.say))

    @workflow(name="flow")
    async def flow(ctx: Context, text: str) -> str:
        await ctx.run(agent, "good")
        await ctx.run(agent, "bad")
        return text

    return flow


def by_children(it: Repaired):
    @workflow
    async def child(ctx: Context, text: str) -> str:
        return await it.bad(text)

    @workflow(name="flow")
    async def flow(ctx: Context, text: str) -> str:
        return await ctx.run(child, await ctx.run(it.good, text))

    return flow


def by_nodes(it: Repaired):
    graph = Graph("flow", input=str, output=float)

    @graph.node
    async def first(ctx: Context, text: str) -> int:
        await it.good(text)
        return 1

    @graph.node
    async def second(ctx: Context, number: int) -> float:
        await it.bad(str(number))
        return 1.5

    return graph


@pytest.mark.parametrize("made", [by_functions, by_effects, by_agents, by_children, by_nodes])
@stores
async def test_a_retry_makes_again_only_what_failed(url, made):
    it = Repaired()
    async with Runtime(url) as runtime:
        run = await runtime.start(made(it), "x")
        await until(run, "failed")
        done = list(it.calls)
        it.is_broken = False
        again = await runtime.retry(run.id)
        assert await result(again) in ("x", 1.5)
        assert await run.status() == "failed"
    assert it.calls[: len(done)] == done
    assert len(it.calls) == len(done) + 1


async def test_a_retry_that_fails_can_be_tried_again():
    it = Repaired()
    async with Runtime(":memory:") as runtime:
        first = await runtime.start(by_functions(it), "x")
        await until(first, "failed")
        second = await runtime.retry(first.id)
        await until(second, "failed")
        it.is_broken = False
        assert await result(await runtime.retry(second.id)) == "x"
    assert it.calls == ["good", "bad", "bad", "bad"]


async def test_a_run_that_completed_is_not_tried_again():
    it = Repaired()
    it.is_broken = False
    async with Runtime(":memory:") as runtime:
        run = await runtime.start(by_functions(it), "x")
        await run.result()
        with pytest.raises(InputInvalid, match="completed"):
            await runtime.retry(run.id)


@stores
async def test_a_retry_repeats_no_effect_that_may_have_happened(url):
    acts: list[str] = []

    async def act(text: str) -> str:
        acts.append(text)
        return text

    @workflow(name="flow")
    async def flow(ctx: Context, text: str) -> str:
        before = len(acts)

        async def slowly(text: str) -> str:
            await act(text)
            await asyncio.sleep(60)
            return text

        async def fail() -> None:
            while len(acts) == before:
                await asyncio.sleep(0.001)
            raise ValueError("meanwhile")

        async with asyncio.TaskGroup() as group:
            group.create_task(ctx.effect(slowly, text))
            group.create_task(fail())
        return text

    async with Runtime(url) as runtime:
        run = await runtime.start(flow, "x")
        await until(run, "failed")
        with pytest.raises(EffectUnknown, match="nobody knows"):
            await runtime.retry(run.id)
        assert acts == ["x"]
        again = await runtime.retry(run.id, unknown="retry")
        await until(again, "failed")
        assert acts == ["x", "x"]


async def test_a_cancelled_run_is_gone_on_with():
    it = Repaired()
    it.is_broken = False

    @workflow
    async def flow(ctx: Context, text: str) -> bool:
        await ctx.run(it.good, text)
        return await ctx.ask(bool, "Go on?", key="go")

    async with Runtime(":memory:") as runtime:
        run = await runtime.start(flow, "x")
        await until(run, "waiting")
        await run.cancel()
        await until(run, "cancelled")
        again = await runtime.retry(run.id)
        await until(again, "waiting")
        await again.answer("go", True)
        assert await result(again) is True
    assert it.calls == ["good"]


@stores
async def test_two_runs_are_compared_by_their_ids_or_themselves(url):
    it = Repaired()
    async with Runtime(url) as runtime:
        run = await runtime.start(by_functions(it), "x")
        await until(run, "failed")
        it.is_broken = False
        again = await runtime.retry(run.id)
        await result(again)
        found = await runtime.diff(run.id, again.id)
        assert found == await runtime.diff(run, again)
    assert found.runs == (run.id, again.id)
    assert [end.kind for end in found.ends] == ["failed", "completed"]
    assert not found.same_answer
