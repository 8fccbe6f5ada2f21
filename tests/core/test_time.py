"""Deadlines are on record: they pass on time out of memory and after a restart, and on a replay."""

import asyncio
import time

import pytest
from pydantic import BaseModel

from crew import Agent, Budget, Context, Graph, RunFailed, Runtime, workflow
from crew.errors import AskError, StepTimeout
from crew.run import leaving
from crew.testing import ScriptedModel, ToolCall, simulate
from crew.tool import tool
from tests.core.lives import result, stores, until

SECONDS = 0.6
"""How long things may take that never end."""


@pytest.fixture(autouse=True)
def leaves_at_once(monkeypatch):
    monkeypatch.setattr(leaving, "LINGER_SECONDS", 0.02)
    monkeypatch.setattr(leaving, "SHORT_SECONDS", 0.05)


class In(BaseModel):
    n: int = 0


class Out(BaseModel):
    text: str


async def forever(n: int) -> int:
    await asyncio.sleep(3600)
    return n


async def act_forever(idempotency_key: str) -> str:
    await asyncio.sleep(3600)
    return idempotency_key


async def quick(n: int) -> int:
    await asyncio.sleep(0.01)
    return n


@tool(effect="read")
async def stand_still(n: int) -> int:
    """Stand still."""
    return await forever(n)


@workflow
async def asks(ctx: Context, n: int) -> bool:
    return await ctx.ask(bool, "In the child?", key="child")


@workflow
async def question(ctx: Context, n: int) -> str:
    try:
        async with ctx.timeout(SECONDS):
            return str(await ctx.ask(bool, "May it go?", key="go"))
    except TimeoutError:
        return "late"


@workflow
async def question_itself(ctx: Context, n: int) -> str:
    try:
        return str(await ctx.ask(bool, "May it go?", key="go", timeout=SECONDS))
    except TimeoutError:
        return "late"


@workflow
async def sleep(ctx: Context, n: int) -> str:
    try:
        async with ctx.timeout(SECONDS):
            await ctx.sleep(3600)
    except TimeoutError:
        return "late"


@workflow
async def tasks(ctx: Context, n: int) -> str:
    async def branch(key: str) -> bool:
        return await ctx.ask(bool, "May it go?", key=key)

    try:
        async with ctx.timeout(SECONDS):
            await asyncio.gather(branch("one"), branch("two"), ctx.sleep(3600))
    except TimeoutError:
        return "late"


@workflow
async def nested(ctx: Context, n: int) -> str:
    try:
        async with ctx.timeout(3600), ctx.timeout(SECONDS), ctx.timeout(7200):
            await ctx.ask(bool, "May it go?", key="go")
    except TimeoutError:
        return "late"


async def asks_inside(ctx: Context, n: int) -> bool:
    return await ctx.ask(bool, "Inside?", key="inside")


@workflow
async def call(ctx: Context, n: int) -> str:
    try:
        return str(await ctx.run(asks_inside, ctx, n, timeout=SECONDS))
    except StepTimeout:
        return "late"


@workflow
async def child(ctx: Context, n: int) -> str:
    try:
        async with ctx.timeout(SECONDS):
            return str(await ctx.run(asks, n))
    except TimeoutError:
        return "late"


@workflow
async def mapped(ctx: Context, n: int) -> str:
    try:
        async with ctx.timeout(SECONDS):
            return str(await ctx.map(forever, range(3)))
    except TimeoutError:
        return "late"


@workflow
async def effect(ctx: Context, n: int) -> str:
    try:
        async with ctx.timeout(SECONDS):
            return await ctx.effect(act_forever, key="act", unknown="retry")
    except TimeoutError:
        return "late"


@workflow
async def agent(ctx: Context, n: int) -> str:
    model = ScriptedModel([ToolCall("stand_still", {"n": 1}), "done"])
    try:
        async with ctx.timeout(SECONDS):
            return (await ctx.run(Agent("slow", model=model, tools=[stand_still]), "go")).output
    except TimeoutError:
        return "late"


node = Graph("node", input=In, output=Out)


@node.node(timeout=SECONDS)
async def waits(ctx: Context, given: In) -> Out:
    return Out(text=str(await ctx.ask(bool, "May it go?", key="go")))


@workflow
async def budget(ctx: Context, n: int) -> str:
    return str(await ctx.ask(bool, "May it go?", key="go"))


WAITING = [question, question_itself, sleep, tasks, nested, call, node, budget]
"""Those that wait for the world outside, so that their runs leave memory."""
AT_WORK = [child, mapped, effect, agent]


async def begun(runtime, flow):
    value = In() if flow is node else 1
    return await runtime.start(
        flow, value, budget=Budget(seconds=SECONDS) if flow is budget else None
    )


async def come_to(run):
    try:
        return await result(run)
    except RunFailed as failed:
        is_late = failed.cause_type in ("StepTimeout", "BudgetExceeded")
        return "late" if is_late else failed.cause_type


def named(flow):
    return flow.name


async def out_of_memory(runtime, run):
    async with asyncio.timeout(20):
        while await run.status() != "waiting" or runtime.store.run(run.id).owner is not None:
            await asyncio.sleep(0.01)


@stores
@pytest.mark.parametrize("flow", WAITING, ids=named)
async def test_a_deadline_passes_while_its_run_is_out_of_memory(url, flow):
    async with Runtime(url, workflows=[flow], look_seconds=0.05) as runtime:
        run = await begun(runtime, flow)
        await out_of_memory(runtime, run)
        assert await come_to(run) == "late"
        assert await come_to(await runtime.replay(run.id)) == "late"
        assert await run.questions() == []


@stores
@pytest.mark.parametrize("flow", [*WAITING, *AT_WORK], ids=named)
async def test_a_deadline_passes_after_a_restart(url, flow):
    flows = [flow, asks] if flow is child else [flow]
    async with Runtime(url, workflows=flows) as runtime:
        run = await begun(runtime, flow)
        await asyncio.sleep(0.1)
    async with Runtime(url, workflows=flows, look_seconds=0.05) as runtime:
        run = await runtime.get(run.id)
        assert await come_to(run) == "late"
        began = time.monotonic()
        assert await come_to(await runtime.replay(run.id)) == "late"
        assert time.monotonic() - began < SECONDS


@pytest.mark.parametrize(
    "flow", [question, question_itself, tasks, nested, call, effect], ids=named
)
def test_what_times_out_survives_a_crash_at_every_event(flow):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(leaving, "LINGER_SECONDS", 1.0)
        done = simulate(flow, 1, seeds=30, answer=lambda question: None)
    assert done.output == "late"


async def test_a_question_that_came_too_late_takes_no_answer():
    @workflow
    async def twice(ctx: Context, n: int) -> str:
        try:
            await ctx.ask(str, "Your name?", key="name", timeout=0.1)
        except TimeoutError:
            return await ctx.ask(str, "Which colour?", key="colour")

    async with Runtime(":memory:", workflows=[twice]) as runtime:
        run = await runtime.start(twice, 1)
        async with asyncio.timeout(20):
            while [item.key for item in await run.questions()] != ["colour"]:
                await asyncio.sleep(0.01)
        with pytest.raises(AskError):
            await run.answer("name", "Eva")
        await run.answer("colour", "blue")
        assert await result(run) == "blue"


async def test_an_answer_in_time_is_all_there_is():
    async with Runtime(":memory:", workflows=[question_itself]) as runtime:
        run = await runtime.start(question_itself, 1)
        await until(run, "waiting")
        await run.answer("go", True)
        assert await result(run) == "True"
        assert await result(await runtime.replay(run.id)) == "True"


async def test_a_block_that_ended_in_time_is_not_broken_off_later():
    @workflow
    async def calm(ctx: Context, n: int) -> list[int]:
        async with ctx.timeout(0.3):
            first = await ctx.run(quick, 1)
        await ctx.sleep(0.5)
        return [first, await ctx.run(quick, 2)]

    async with Runtime(":memory:", workflows=[calm]) as runtime:
        run = await runtime.start(calm, 1)
        assert await result(run) == [1, 2]
        assert "deadline.passed" not in [event.kind for event in await run.recorded()]
        assert await result(await runtime.replay(run.id)) == [1, 2]


async def test_the_inner_of_two_deadlines_leaves_the_outer_one_in_force():
    @workflow
    async def two(ctx: Context, n: int) -> list[str]:
        seen = list[str]()
        try:
            async with ctx.timeout(0.4):
                try:
                    async with ctx.timeout(0.1):
                        await ctx.ask(bool, "One?", key="one")
                except TimeoutError:
                    seen.append("inner")
                await ctx.ask(bool, "Two?", key="two")
        except TimeoutError:
            seen.append("outer")
        return seen

    async with Runtime(":memory:", workflows=[two]) as runtime:
        run = await runtime.start(two, 1)
        assert await result(run) == ["inner", "outer"]
        assert await result(await runtime.replay(run.id)) == ["inner", "outer"]


@pytest.mark.parametrize("beside", ["asks", "timed"])
async def test_a_run_with_an_effect_at_work_stays_in_memory(beside):
    acted = list[str]()

    async def act() -> str:
        acted.append("begun")
        await asyncio.sleep(0.5)
        acted.append("done")
        return "done"

    @workflow
    async def flow(ctx: Context, n: int) -> str:
        async def branch() -> bool:
            return await ctx.ask(bool, "May it go?", key="go")

        asking = asyncio.create_task(branch()) if beside == "asks" else None
        async with ctx.timeout(3600):
            said = await ctx.effect(act, key="act")
        if asking is not None:
            await asking
        return said

    async with Runtime(":memory:", workflows=[flow], look_seconds=0.05) as runtime:
        run = await runtime.start(flow, 1)
        async with asyncio.timeout(20):
            while "done" not in acted:
                await asyncio.sleep(0.01)
        if beside == "asks":
            await run.answer("go", True)
        assert await result(run) == "done"
        assert acted == ["begun", "done"]
