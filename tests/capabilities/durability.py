"""Durable programs: acts that happen once, time that goes on, values that stay the same."""

import asyncio
from typing import Any

from crew import Context, RunCancelled, Runtime
from tests.capabilities.capability import act, begin, capability, echo, page


def charge(cents: int, idempotency_key: str) -> str:
    return act(f"charged {cents}")


@capability(
    "exactly-once effects",
    calls=1,
    struck="echo 0",
    outcome="charged 9!",
    acts=["charged 9"],
)
async def effects(ctx: Context, text: str) -> str:
    done = await ctx.effect(charge, 9, key="charge")
    return (await ctx.run(echo, f"{text}: {done}")).output


async def ship(order: str, idempotency_key: str) -> str:
    act(f"shipped {order}")
    return await page(f"an effect retried under its key: {idempotency_key}")


@capability(
    "an effect retried under its key",
    calls=1,
    struck="page",
    outcome=True,
    acts=["shipped o3"] * 2,
)
async def retried_effect(ctx: Context, text: str) -> bool:
    """The far side is asked the same both times, and could tell."""
    return (await ctx.effect(ship, "o3", unknown="retry")).startswith("the page")


async def launch(pad: str) -> str | None:
    act(f"launched from {pad}")
    return await page("an effect that a person looks into: pad")


@capability(
    "an effect that a person looks into",
    calls=1,
    struck="page",
    again=False,
    answers={"Did the effect capabilities[0]/launch happen?": True},
    outcome="launched",
    acts=["launched from A"],
)
async def asked_effect(ctx: Context, text: str) -> str:
    await ctx.effect(launch, "A", unknown="ask")
    return "launched"


async def step(number: int) -> str:
    return act(f"step {number}")


@capability(
    "durable function calls",
    calls=1,
    struck="echo 0",
    outcome="step 1 step 2!",
    acts=["step 1", "step 2"],
)
async def durable_functions(ctx: Context, text: str) -> str:
    done = [await ctx.run(step, number) for number in (1, 2)]
    return (await ctx.run(echo, f"{text}: {' '.join(done)}")).output


@capability(
    "durable timers",
    calls=2,
    struck="echo 0: durable timers: slept",
    outcome="slept, ready!!",
)
async def timers(ctx: Context, text: str) -> str:
    before = (await ctx.run(echo, f"{text}: ready")).output
    await ctx.sleep(0.2)
    return (await ctx.run(echo, f"{text}: slept, {before}")).output


@capability(
    "deadlines",
    calls=1,
    struck="echo 0",
    outcome="too late!",
)
async def deadlines(ctx: Context, text: str) -> str:
    said = "in time"
    try:
        async with ctx.timeout(0.2):
            await ctx.sleep(3600)
    except TimeoutError:
        said = "too late"
    return (await ctx.run(echo, f"{text}: {said}")).output


@capability(
    "clock and chance that stay the same",
    calls=2,
    struck="echo 0: clock and chance that stay the same: second",
    outcome=[True, True],
)
async def same_values(ctx: Context, text: str) -> list[bool]:
    now, chance = await ctx.now(), await ctx.random()
    await ctx.run(echo, f"{text}: first")
    kept = await ctx.run(str, f"{now} {chance}")
    await ctx.run(echo, f"{text}: second")
    return [f"{now} {chance}" == kept, 0 <= chance < 1]


@capability(
    "the first answer wins",
    calls=2,
    struck="echo 0: the first answer wins: winner",
    outcome="winner quick!!",
    acts=["won by quick!"],
)
async def first_wins(ctx: Context, text: str) -> str:
    async def slow() -> str:
        await ctx.sleep(3600)
        return "slow"

    async def quick() -> str:
        return (await ctx.run(echo, f"{text}: quick")).output

    tasks = [asyncio.create_task(each()) for each in (slow, quick)]
    done, late = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in late:
        task.cancel()
    winner = done.pop().result()
    await ctx.effect(act, f"won by {winner}")
    return (await ctx.run(echo, f"{text}: winner {winner}")).output


async def stopped(runtime: Runtime) -> list[Any]:
    run = await begin(runtime, "cancellation")
    while not any(event.kind == "timer.started" for event in await run.recorded()):
        await asyncio.sleep(0.05)
    await run.cancel()
    try:
        return [await run.result()]
    except RunCancelled:
        return ["cancelled", await run.status()]


@capability(
    "cancellation",
    calls=1,
    struck="echo 0",
    outcome=["cancelled", "cancelled"],
    acts=["ready to be cancelled"],
    drive=stopped,
)
async def cancellation(ctx: Context, text: str) -> str:
    await ctx.effect(act, "ready to be cancelled")
    await ctx.run(echo, f"{text}: before")
    await ctx.sleep(3600)
    return await ctx.effect(act, "never")


async def started_twice(runtime: Runtime) -> list[Any]:
    runs = [await begin(runtime, "keyed starts") for _ in range(2)]
    results = [await run.result() for run in runs]
    return [runs[0].id == runs[1].id, *results]


@capability(
    "keyed starts",
    calls=1,
    struck="echo 0",
    outcome=[True, "once!", "once!"],
    acts=["started once"],
    drive=started_twice,
)
async def keyed_starts(ctx: Context, text: str) -> str:
    await ctx.effect(act, "started once")
    return (await ctx.run(echo, f"{text}: once")).output
