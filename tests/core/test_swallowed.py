"""A cancel that a call swallows is swallowed again on a restart and on replay, and no other is."""

import asyncio
from typing import Any

import pytest

from crew import Context, Retry, Runtime, workflow
from tests.core.lives import replayed, restarted, result, stores

BEGUN: list[str] = []


@pytest.fixture(autouse=True)
def nothing_begun():
    BEGUN.clear()


async def begun(calls: int) -> None:
    """Return once so many calls of the step were begun, or recorded in an earlier life."""
    while len(BEGUN) < calls:
        await asyncio.sleep(0)


async def returns() -> str:
    BEGUN.append("returns")
    try:
        await asyncio.sleep(60)
    except asyncio.CancelledError:
        await asyncio.sleep(0)
    return "instead"


async def raises() -> str:
    BEGUN.append("raises")
    try:
        await asyncio.sleep(60)
    except asyncio.CancelledError as cancel:
        raise ValueError("instead") from cancel
    return "in time"


async def raises_at_first() -> str:
    return "the second time" if BEGUN else await raises()


async def group_raises() -> str:
    """Two tasks of its own: an error of one of them while all are cancelled wins."""
    BEGUN.append("group")
    async with asyncio.TaskGroup() as group:
        group.create_task(raises())
        group.create_task(asyncio.sleep(60))
    return "in time"


async def quick() -> str:
    """Be done once the other call was begun."""
    await begun(1)
    return "quick"


async def at_last() -> str:
    return "at last"


def race(*calls: Any, **policies: Any):
    """Return a workflow that cancels a branch in a call, then asks, then goes on."""

    @workflow(name="race")
    async def flow(ctx: Context, item: int) -> list[str]:
        async def branch() -> str:
            try:
                said = await ctx.run(*calls, **policies)
            except (ValueError, ExceptionGroup) as error:
                said = type(error).__name__
            # A cancel that was swallowed does not come here.
            return f"{said}, {await ctx.run(at_last)}"

        task = asyncio.create_task(branch())
        seen = await ctx.run(quick)
        task.cancel()
        (ended,) = await asyncio.gather(task, return_exceptions=True)
        await ctx.ask(bool, "Go on?", key="go")
        return [seen, str(ended)]

    return flow


WAYS = {
    "returns": (race(returns), "instead, at last"),
    "raises": (race(raises), "ValueError, at last"),
    "raises in a group": (race(group_raises), "ExceptionGroup, at last"),
    "returns within a time": (race(returns, timeout=50), "instead, at last"),
    "is tried again": (
        race(raises_at_first, retry=Retry(attempts=2, first_delay=0)),
        "the second time, at last",
    ),
}
ways = pytest.mark.parametrize("way", WAYS)


@stores
@ways
async def test_what_a_call_came_to_instead_stands_after_a_restart(way, url):
    flow, ended = WAYS[way]
    assert await restarted(url, flow) == ["quick", ended]


@ways
async def test_what_a_call_came_to_instead_is_replayed(way):
    flow, ended = WAYS[way]
    assert await replayed("memory:", flow) == (["quick", ended], ["quick", ended])


async def test_a_second_cancel_ends_the_task_on_replay_too():
    @workflow
    async def flow(ctx: Context, item: int) -> str:
        async def branch() -> str:
            await ctx.run(returns)
            return await ctx.run(at_last)

        task = asyncio.create_task(branch())
        await ctx.run(quick)
        task.cancel()
        await ctx.run(quick, key="again")
        task.cancel()
        (ended,) = await asyncio.gather(task, return_exceptions=True)
        return type(ended).__name__ if isinstance(ended, BaseException) else ended

    live, again = await replayed("memory:", flow)
    assert live == again == "CancelledError"


async def test_a_failed_group_of_a_call_swallows_no_cancel_that_comes_behind_it():
    """Both calls end at once; what is done with the first cancels the second's task."""
    go = asyncio.Event()

    async def fails() -> None:
        await go.wait()
        raise ValueError("alone")

    async def group() -> str:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(fails())
        return "never"

    async def first() -> str:
        asyncio.get_running_loop().call_later(0.01, go.set)
        await go.wait()
        return "first"

    @workflow
    async def flow(ctx: Context, item: int) -> str:
        task = asyncio.create_task(ctx.run(group))
        seen = await ctx.run(first)
        task.cancel()
        (ended,) = await asyncio.gather(task, return_exceptions=True)
        return f"{seen}, {type(ended).__name__}"

    live, again = await replayed("memory:", flow)
    assert live == again == "first, CancelledError"


async def test_a_cancel_in_a_timeout_that_is_swallowed_is_replayed():
    @workflow
    async def flow(ctx: Context, item: int) -> str:
        async with ctx.timeout(0.05):
            said = await ctx.run(returns)
        return f"{said}, {await ctx.run(at_last)}"

    assert await replayed("memory:", flow) == ("instead, at last",) * 2


@stores
async def test_what_a_call_came_to_when_its_process_left_is_not_recorded(url):
    """Whoever goes on calls it again: nobody in the workflow cancelled it."""
    done = asyncio.Event()

    async def stubborn() -> str:
        BEGUN.append("stubborn")
        try:
            await done.wait()
        except asyncio.CancelledError as cancel:
            raise ValueError("the process leaves") from cancel
        return "whole"

    @workflow
    async def flow(ctx: Context, item: int) -> str:
        return await ctx.run(stubborn)

    async with Runtime(url, workflows=[flow]) as first:
        run = await first.start(flow, 0)
        await begun(1)
    done.set()
    async with Runtime(url, workflows=[flow]) as second:
        assert await result(await second.get(run.id)) == "whole"
