"""An answer that was posted in time counts, though its run is taken after the deadline."""

import asyncio

import pytest

from crew import Budget, BudgetExceeded, Context, Runtime, workflow
from crew.clock import wall_clock
from crew.errors import AskError
from crew.journal import Busy
from crew.journal.memory import MemoryStore
from crew.testing import SeededLoop

SECONDS = 100.0
"""For how long the questions stay open."""


@workflow
async def asks(ctx: Context, n: int) -> str:
    try:
        return str(await ctx.ask(int, "How many?", key="go", timeout=SECONDS))
    except TimeoutError:
        return "late"


@workflow
async def in_a_block(ctx: Context, n: int) -> str:
    try:
        async with ctx.timeout(SECONDS):
            return str(await ctx.ask(int, "How many?", key="go"))
    except TimeoutError:
        return "late"


@workflow
async def with_seconds(ctx: Context, n: int) -> str:
    async def consult() -> int:
        return await ctx.ask(int, "How many?", key="go")

    try:
        return str(await ctx.run(consult, budget=Budget(seconds=SECONDS)))
    except BudgetExceeded:
        return "late"


@workflow
async def one_of_several(ctx: Context, n: int) -> str:
    async def ask(key: str, seconds: float) -> str:
        try:
            return str(await ctx.ask(int, "How many?", key=key, timeout=seconds))
        except TimeoutError:
            return "late"

    seconds = {"before": SECONDS / 10, "go": SECONDS, "after": SECONDS * 1.1}
    early, go, never = await asyncio.gather(*(ask(key, seconds[key]) for key in seconds))
    assert (early, never) == ("late", "late")
    return go


@workflow
async def beside_a_sleep(ctx: Context, n: int) -> str:
    answer = asyncio.create_task(ctx.ask(int, "How many?", key="go"))
    sleep = asyncio.create_task(ctx.sleep(SECONDS))
    done, late = await asyncio.wait({answer, sleep}, return_when=asyncio.FIRST_COMPLETED)
    for task in late:
        task.cancel()
    return str(await answer) if answer in done else "late"


FORMS = [asks, in_a_block, with_seconds, one_of_several, beside_a_sleep]


class Lives:
    """One run on virtual time, in processes that come and go; its store is in memory or a file."""

    def __init__(self, place, seed):
        self.place = place
        self.seed = seed
        self.now = 1_000_000.0

    def do(self, work, **options):
        loop = SeededLoop(self.seed, limit=10_000.0, began=self.now)
        with asyncio.Runner(loop_factory=lambda: loop) as runner:
            output = runner.run(self._life(work, options))
            self.now = loop.wall_clock()
        return output

    async def _life(self, work, options):
        async with Runtime(self.place, **options) as runtime:
            return await work(runtime)


async def asked(runtime, flow):
    run = await runtime.start(flow, 0)
    while not await run.questions():
        await asyncio.sleep(0.01)
    await asyncio.sleep(1)
    return run.id


@pytest.fixture(params=["memory", "sqlite"])
def place(request, tmp_path):
    return MemoryStore() if request.param == "memory" else f"sqlite:///{tmp_path}/runs.db"


@pytest.fixture(params=[1, 3])
def lives(request, place):
    return Lives(place, request.param)


def answered_after(lives, flow, seconds):
    """Start a run, post an answer after so many seconds, and take it when all time is over."""
    run = lives.do(lambda runtime: asked(runtime, flow), workflows=[flow])
    lives.now += seconds

    async def post(runtime):
        found = await runtime.get(run)
        await found.answer("go", 3)

    async def go_on(runtime):
        found = await runtime.get(run)
        output = await found.result()
        assert await (await runtime.replay(run)).result() == output
        return output

    lives.do(post, worker=False)
    lives.now += 10 * SECONDS
    return lives.do(go_on, workflows=[flow])


@pytest.mark.parametrize("flow", FORMS)
def test_an_answer_in_time_comes_before_the_deadline_that_nobody_saw_pass(lives, flow):
    assert answered_after(lives, flow, SECONDS / 2) == "3"


@pytest.mark.parametrize("flow", FORMS)
def test_an_answer_behind_the_deadline_is_too_late_though_nobody_saw_it_pass(lives, flow):
    assert answered_after(lives, flow, 1.05 * SECONDS) == "late"


@pytest.mark.parametrize("flow", FORMS[:2])
def test_an_answer_in_time_counts_for_a_process_that_has_not_looked_yet(lives, flow):
    async def both(runtime):
        run = await asked(runtime, flow)
        await asyncio.sleep(SECONDS - 2)
        async with Runtime(lives.place, worker=False) as other:
            await (await other.get(run)).answer("go", 3)
        return await (await runtime.get(run)).result()

    assert lives.do(both, workflows=[flow], look_seconds=1e9, takes_over=False) == "3"


def test_whoever_answers_too_late_is_told_so(lives):
    async def late(runtime):
        run = await asked(runtime, asks)
        found = await runtime.get(run)
        await asyncio.sleep(SECONDS)
        with pytest.raises(AskError):
            await found.answer("go", 3)
        return await found.result()

    assert lives.do(late, workflows=[asks]) == "late"


class LockedStore(MemoryStore):
    """Its letters cannot be read for some seconds from a time on."""

    locked_from = float("inf")
    seconds = 2.0

    def letters(self, numbers):
        if self.locked_from <= wall_clock() < self.locked_from + self.seconds:
            raise Busy("somebody else writes")
        return super().letters(numbers)


@pytest.mark.parametrize("flow", [asks, in_a_block, beside_a_sleep])
def test_an_answer_in_time_counts_though_the_store_cannot_be_read_when_time_is_up(flow):
    lives = Lives(LockedStore(), 1)

    async def both(runtime):
        run = await asked(runtime, flow)
        lives.place.locked_from = wall_clock() + SECONDS - 1.5
        await asyncio.sleep(SECONDS - 2)
        async with Runtime(lives.place, worker=False) as other:
            await (await other.get(run)).answer("go", 3)
        return await (await runtime.get(run)).result()

    assert lives.do(both, workflows=[flow], look_seconds=1e9, takes_over=False) == "3"
