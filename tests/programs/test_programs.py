"""A random program is the same for a seed, runs anywhere, and can be read."""

import asyncio

import pytest

from crew import Context, Runtime, workflow
from crew.testing import SeededLoop, programs
from crew.testing.generator import tree_of
from crew.testing.generator.history import End, History
from crew.testing.generator.points import Subject
from crew.testing.generator.text import text_of
from crew.testing.generator.tree import Act, First, Function, Note, Plain
from crew.testing.generator.world import Plan
from crew.testing.scheduler import Stuck


def test_a_seed_gives_the_same_program_and_another_one_another():
    assert tree_of(3) == tree_of(3)
    assert len({repr(tree_of(seed)) for seed in range(50)}) == 50


async def test_a_program_runs_on_an_ordinary_loop():
    hard = ("Ask(", "uncaught", "Left(")
    flow, value = programs(
        next(n for n in range(99) if not any(h in repr(tree_of(n)) for h in hard))
    )
    async with Runtime(":memory:") as runtime:
        run = await runtime.start(flow, value)
        assert (await run.result()).site == "site:"


def test_a_program_reads_like_python():
    race = First(3, ((Act(1),), (Function(2),)))
    assert text_of(Plain((race, Note(4)))).splitlines() == [
        "program:",
        "    3 wait(FIRST_COMPLETED), ctx.effect(act, key=winner), wait for the others:",
        "        1 ctx.effect(act, key=none, unknown='retry')",
        "    beside:",
        "        2 ctx.run(work)",
        "    4 log.append(value)",
    ]


def test_a_straight_program_is_right_after_every_event():
    points = list(Subject(Plain((Function(1), Act(2), Note(3), Function(4))), 0).points())
    assert len(points) > 10
    assert not [point.wrong for point in points if point.wrong]


def test_an_outcome_is_looked_for_in_the_order_it_came_in():
    race = First(3, ((Function(1),), (Function(2),)))
    subject = Subject(Plain((race,)), 0)
    names = ["function:3.1/2", "effect:3", "function:3.0/1"]
    orders = names, [names[2], names[1], names[0]]
    ends = [[End(n, 1, n, name, False) for n, name in enumerate(order)] for order in orders]
    outcomes = [subject.undisturbed(History(ends=each).plan()).outcome for each in ends]
    assert all(outcomes)
    assert outcomes[0] != outcomes[1]


def test_ends_of_two_runs_at_one_moment_are_planned_in_either_order():
    ends = [End(1.0, 1, 4, "parent", False), End(1.0, 2, 7, "child", False)]
    assert History(ends=ends).plan().ranks == {"child": [0], "parent": [1]}
    assert History(ends=ends).plan(children_first=False).ranks == {"parent": [0], "child": [1]}


def test_a_call_that_did_not_end_does_not_end_in_the_plan_either():
    life = Subject(Plain((Function(1),)), 0).undisturbed(Plan({}, {}))
    assert life.outcome  # 3,000 virtual seconds later


def test_tasks_of_a_step_keep_their_order_whatever_the_seed():
    @workflow
    async def flow(ctx: Context) -> list[int]:
        seen: list[int] = []

        async def one(number: int) -> None:
            await asyncio.sleep(0)
            seen.append(number)

        await asyncio.gather(*map(one, range(6)))
        return seen

    async def run() -> list[int]:
        async with Runtime(":memory:", workflows=[flow]) as runtime:
            return await (await runtime.start(flow)).result()

    assert [on_loop(seed, run()) for seed in range(10)] == [list(range(6))] * 10


def test_tasks_that_are_nobodys_change_places():
    async def run() -> tuple[int, ...]:
        seen: list[int] = []

        async def one(number: int) -> None:
            seen.append(number)

        await asyncio.gather(*map(one, range(6)))
        return tuple(seen)

    assert len({on_loop(seed, run()) for seed in range(10)}) > 5


@pytest.mark.parametrize("limit", [10.0, 1e9])
def test_a_loop_with_a_limit_says_that_it_is_stuck(limit):
    async def spin() -> None:
        while True:
            await asyncio.sleep(0 if limit > 10 else 1)

    with pytest.raises(Stuck):
        on_loop(0, spin(), limit=limit)


def test_a_loop_on_which_nothing_can_happen_is_stuck():
    with pytest.raises(Stuck, match="nothing is ready"):
        on_loop(0, asyncio.Event().wait(), limit=10.0)


def on_loop(seed, work, limit=None):
    with asyncio.Runner(loop_factory=lambda: SeededLoop(seed, limit=limit)) as runner:
        return runner.run(work)
