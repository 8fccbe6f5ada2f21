"""A timer of asyncio's own keeps the run in memory in whose code it is set, on both event loops."""

import asyncio
import logging

import pytest
import uvloop

from crew import Context, Runtime, workflow
from crew.run import leaving
from crew.run.leaving import Leaving
from tests.core.lives import result

loops = pytest.mark.parametrize(
    "loop_factory", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"]
)
SECONDS = 0.4


@pytest.fixture(autouse=True)
def leaves_at_once(monkeypatch):
    monkeypatch.setattr(leaving, "LINGER_SECONDS", 0.02)
    monkeypatch.setattr(leaving, "SHORT_SECONDS", 0.05)
    monkeypatch.setattr(Leaving, "_has_warned", False)


@workflow
async def timeout(ctx: Context, n: int) -> str:
    try:
        async with asyncio.timeout(SECONDS):
            return str(await ctx.ask(bool, "May it go?", key="go"))
    except TimeoutError:
        return "late"


@workflow
async def wait_for(ctx: Context, n: int) -> str:
    try:
        return str(await asyncio.wait_for(ctx.ask(bool, "May it go?", key="go"), SECONDS))
    except TimeoutError:
        return "late"


@workflow
async def beside(ctx: Context, n: int) -> str:
    async def pause() -> str:
        await asyncio.sleep(SECONDS)
        return "late"

    waiting = asyncio.create_task(ctx.ask(bool, "May it go?", key="go"))
    done, _ = await asyncio.wait(
        {waiting, asyncio.create_task(pause())}, return_when=asyncio.FIRST_COMPLETED
    )
    waiting.cancel()
    return str(done.pop().result())


@workflow
async def durable(ctx: Context, n: int) -> str:
    try:
        async with ctx.timeout(3600):
            await asyncio.gather(ctx.sleep(3600), ctx.ask(bool, "May it go?", key="go"))
    except TimeoutError:
        return "late"


@loops
@pytest.mark.parametrize("flow", [timeout, wait_for, beside], ids=lambda flow: flow.name)
def test_a_plain_timer_ends_a_question_while_its_process_lives(flow, loop_factory):
    async def lives():
        async with Runtime(":memory:", workflows=[flow], look_seconds=0.05) as runtime:
            return await result(await runtime.start(flow, 1))

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        assert runner.run(lives()) == "late"


@loops
def test_a_run_whose_times_are_all_on_record_leaves_memory(loop_factory):
    async def lives():
        async with Runtime(":memory:", workflows=[durable]) as runtime:
            run = await runtime.start(durable, 1)
            async with asyncio.timeout(20):
                while await run.status() != "waiting" or runtime.store.run(run.id).owner:
                    await asyncio.sleep(0.01)

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(lives())


async def test_the_log_says_once_which_timeout_is_durable(caplog):
    with caplog.at_level(logging.WARNING):
        async with Runtime(":memory:", workflows=[timeout, wait_for]) as runtime:
            runs = [await runtime.start(flow, 1) for flow in (timeout, wait_for, timeout)]
            assert [await result(run) for run in runs] == ["late"] * 3
    hints = [record.hint for record in caplog.records if record.msg == "run.timer_in_memory"]
    assert len(hints) == 1
    assert "ctx.timeout" in hints[0]
