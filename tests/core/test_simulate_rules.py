"""Workflows that break where order, places, acts or tasks are not kept; simulate looks for that."""

import asyncio

import pytest

from crew import Context, workflow
from crew.testing import simulate

SEEDS = 200


async def charge(order: int, idempotency_key: str) -> int:
    return order


async def slow_first(number: int) -> int:
    await asyncio.sleep(0.05 if number == 1 else 0.01)
    return number


async def in_turn(number: int) -> int:
    await asyncio.sleep(number)
    return number


@workflow
async def order_of_a_shared_list(ctx: Context) -> list[int]:
    seen: list[int] = []

    async def one(number: int) -> None:
        seen.append(await ctx.run(slow_first, number))

    await asyncio.gather(one(1), one(2))
    return seen


@workflow
async def places_after_an_effect(ctx: Context) -> int:
    await ctx.effect(charge, 1, key="c", unknown="retry")
    return sum(await asyncio.gather(ctx.run(in_turn, 1), ctx.run(in_turn, 2)))


@workflow
async def effect_keyed_by_the_winner(ctx: Context) -> int:
    tasks = [asyncio.create_task(ctx.run(slow_first, number)) for number in (1, 2)]
    done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    winner = next(task for task in tasks if task in done).result()
    await ctx.effect(charge, winner, key=f"pay-{winner}", unknown="retry")
    await asyncio.gather(*tasks)
    await ctx.sleep(1)
    return 1


@workflow
async def task_that_nobody_waits_for(ctx: Context) -> int:
    left = asyncio.create_task(ctx.run(slow_first, 1))
    return await ctx.run(slow_first, 2) + left.done()


@pytest.mark.parametrize(
    "flow",
    [
        order_of_a_shared_list,
        places_after_an_effect,
        effect_keyed_by_the_winner,
        task_that_nobody_waits_for,
    ],
    ids=lambda flow: flow.name,
)
def test_it_survives_crashes_and_replays(flow):
    assert simulate(flow, seeds=SEEDS).seeds == SEEDS
