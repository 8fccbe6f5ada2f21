"""A worker keeps nothing of the runs that are over."""

import asyncio
import gc
import itertools
from typing import Any

import pytest

from crew import Agent, Budget, Context, Runtime, workflow
from crew.llm import ModelReply, ModelRequest
from tests.core.lives import until

RUNS = 10_000
WARM = 3_500
"""After so many what is kept of the last few thousand is full: of questions, those of 1,024."""
AT_ONCE = 50
MOST_OBJECTS = 500
"""How many more may be there after all others: a hundredth of what the process has in all."""


class Forgetful:
    """A model that keeps nothing of what it was asked."""

    name = "forgetful"

    async def complete(self, request: ModelRequest, *, on_text: Any = None) -> ModelReply:
        return ModelReply("done")

    async def close(self) -> None:
        """It has opened nothing."""


async def double(number: int) -> int:
    return 2 * number


async def refuse(number: int) -> int:
    raise ValueError(f"no {number}")


AGENT = Agent("helper", model=Forgetful())


@workflow
async def half(ctx: Context, number: int) -> int:
    return await ctx.run(double, number)


@workflow
async def everything(ctx: Context, number: int) -> int:
    """Call, act, fail, ask, and start a child."""
    await asyncio.gather(ctx.run(double, number), ctx.effect(double, number, key="once"))
    await ctx.run(AGENT, "hello")
    await ctx.run(half, number)
    if number % 3 == 0:
        await ctx.ask(bool, "Go on?", key="go")
    return await ctx.run(refuse if number % 7 == 0 else double, number)


async def go_through(runtime: Runtime, number: int) -> None:
    budget = Budget(tokens=1_000_000) if number % 2 else None
    run = await runtime.start(everything, number, budget=budget)
    if number % 3 == 0:
        await until(run, "waiting")
        await run.answer("go", True)
    ended = await until(run, "completed", "failed")
    assert ended == ("failed" if number % 7 == 0 else "completed")


async def forget_timers() -> None:
    """Let the loop drop cancelled timers: it keeps some of them, with all that they hold."""
    loop = asyncio.get_running_loop()
    for _ in range(1_000):
        loop.call_later(60, loop.stop).cancel()
    await asyncio.sleep(0)


@pytest.mark.slow
@pytest.mark.timeout(900)
async def test_ten_thousand_runs_leave_no_object_behind(tmp_path):
    numbers = iter(range(RUNS))
    url = f"sqlite:///{tmp_path}/crew.db"
    async with Runtime(url, workflows=[everything, half]) as runtime:

        async def many(upto: int) -> int:
            batch = [n for n, _ in zip(numbers, range(upto), strict=False)]
            for first in range(0, len(batch), AT_ONCE):
                some = batch[first : first + AT_ONCE]
                await asyncio.gather(*(go_through(runtime, number) for number in some))
            await asyncio.sleep(0.5)
            await forget_timers()
            gc.collect()
            return len(gc.get_objects())

        counts = [await many(size) for size in (WARM, RUNS // 2, RUNS // 2)]
        grown = [after - before for before, after in itertools.pairwise(counts)]
        # What runs leave is left by both halves; what else goes on in this process is not.
        assert min(grown) < MOST_OBJECTS // 2, grown
