"""Batches: many runs of one workflow, started as there is room and followed to their ends."""

import asyncio
import contextlib

import pytest

from crew import Agent, Budget, Context, InputInvalid, RunFailed, Runtime, workflow
from crew.errors import CrewError, KeyReused, RuntimeLeft
from crew.journal.memory import MemoryStore
from crew.run.batch import Batch
from crew.testing import CrashingStore, ScriptedModel
from tests.core.lives import SECONDS, stores


@workflow
async def double(ctx: Context, number: int) -> int:
    if number == 13:
        raise ValueError("unlucky")
    return 2 * number


class Counted:
    """A workflow whose runs are counted while they are at work."""

    def __init__(self) -> None:
        self.now = self.most = self.all = 0

        @workflow(name="counted")
        async def flow(ctx: Context, number: int) -> int:
            return await ctx.run(self.work, number)

        self.flow = flow

    async def work(self, number: int) -> int:
        self.now, self.all = self.now + 1, self.all + 1
        self.most = max(self.most, self.now)
        await asyncio.sleep(0.001)
        self.now -= 1
        return number


async def results(batch: Batch) -> list:
    async with asyncio.timeout(SECONDS):
        return await batch.results()


@stores
async def test_results_come_in_the_order_of_the_inputs_and_raise_for_none(url):
    async with Runtime(url) as runtime:
        found = await results(runtime.start_many(double, [1, 13, "no number", 4]))
    assert [item.status for item in found] == ["completed", "failed", "refused", "completed"]
    assert [item.output for item in found] == [2, None, None, 8]
    assert isinstance(found[1].error, RunFailed)
    assert isinstance(found[2].error, InputInvalid)
    assert found[2].run is None


async def test_each_run_is_given_once_it_has_ended():
    async with Runtime(":memory:") as runtime:
        batch = await runtime.start_many(double, range(20))
        seen = [await run.status() async for run in batch]
        again = [run.id async for run in batch]
    assert seen == ["completed"] * 20 or seen.count("failed") == 1
    assert len(again) == 20


async def test_no_more_are_at_work_than_may_be_at_once():
    counted = Counted()
    async with Runtime(":memory:") as runtime:
        batch = runtime.start_many(counted.flow, iter(range(40)), at_once=3)
        assert [item.output for item in await results(batch)] == list(range(40))
    assert counted.most <= 3
    assert batch.counts == {"completed": 40}


@pytest.mark.parametrize("keys", ["nightly", [f"n{i}" for i in range(6)], lambda n: f"n{n}"])
@stores
async def test_a_batch_that_is_started_again_starts_only_what_is_missing(url, keys):
    counted = Counted()
    async with Runtime(url) as runtime:
        first = keys[:4] if isinstance(keys, list) else keys
        before = await results(runtime.start_many(counted.flow, range(4), keys=first))
    async with Runtime(url) as runtime:
        after = await results(runtime.start_many(counted.flow, range(6), keys=keys))
    assert [item.output for item in after] == list(range(6))
    assert [item.run.id for item in after][:4] == [item.run.id for item in before]
    assert counted.all == 6


async def test_a_key_with_another_input_is_refused_alone():
    async with Runtime(":memory:") as runtime:
        await results(runtime.start_many(double, [1, 2], keys="k"))
        found = await results(runtime.start_many(double, [1, 3], keys="k"))
    assert [item.status for item in found] == ["completed", "refused"]
    assert isinstance(found[1].error, KeyReused)


async def test_runs_that_wait_for_a_person_leave_their_places():
    @workflow
    async def asks(ctx: Context, number: int) -> bool:
        return number > 1 or await ctx.ask(bool, "Go on?", key="go")

    async with Runtime(":memory:") as runtime:
        batch = runtime.start_many(asks, range(4), at_once=1)
        async with asyncio.timeout(SECONDS):
            while batch.counts["completed"] < 2:
                await asyncio.sleep(0.01)
        for run in await runtime.runs(status="waiting"):
            await run.answer("go", True)
        assert [item.output for item in await results(batch)] == [True] * 4


async def test_inputs_are_read_as_they_are_needed():
    read = []

    async def numbers():
        for number in range(30):
            read.append(number)
            yield number

    @workflow
    async def held(ctx: Context, number: int) -> int:
        await gate.wait()
        return number

    gate = asyncio.Event()
    async with Runtime(":memory:") as runtime:
        batch = await runtime.start_many(held, numbers(), at_once=2)
        await asyncio.sleep(0.05)
        assert len(read) <= 4
        gate.set()
        assert len(await results(batch)) == 30


async def test_inputs_that_raise_end_the_batch_with_their_error():
    def numbers():
        yield 1
        raise OSError("no such file")

    async with Runtime(":memory:") as runtime:
        with pytest.raises(OSError, match="no such file"):
            await results(runtime.start_many(double, numbers()))


@pytest.mark.parametrize("keys", [["a"], ["a", "b", "c"]])
async def test_keys_that_do_not_match_the_inputs_are_refused(keys):
    async with Runtime(":memory:") as runtime:
        with pytest.raises(InputInvalid, match="one without the other"):
            await results(runtime.start_many(double, [1, 2], keys=keys))


async def test_whoever_follows_a_batch_is_told_that_the_runtime_is_left():
    @workflow
    async def asks(ctx: Context, number: int) -> bool:
        return await ctx.ask(bool, "Go on?", key="go")

    async with Runtime(":memory:") as runtime:
        batch = await runtime.start_many(asks, range(3), at_once=2)
        waiting = asyncio.create_task(batch.results())
        await asyncio.sleep(0)
    with pytest.raises(RuntimeLeft):
        await waiting


async def test_what_a_batch_cost_is_added_up():
    agent = Agent("a", model=ScriptedModel(lambda request: "yes"))

    @workflow
    async def asks(ctx: Context, text: str) -> str:
        return (await ctx.run(agent, text)).output

    async with Runtime(":memory:") as runtime:
        batch = runtime.start_many(asks, ["a", "b"], budget=Budget(calls=1), metadata={"of": "x"})
        found = await results(batch)
        assert batch.usage["calls"] == 2
        assert [item.usage["calls"] for item in found] == [1, 1]
        assert len(await runtime.runs(metadata={"of": "x"})) == 2


@pytest.mark.parametrize("after", range(3, 45, 6))
async def test_a_batch_goes_on_after_a_crash_anywhere(after):
    counted = Counted()
    store = CrashingStore(MemoryStore(), after=after)
    with contextlib.suppress(CrewError):
        async with Runtime(store, workflows=[counted.flow]) as runtime:
            await results(runtime.start_many(counted.flow, range(10), keys="k", at_once=4))
    store.restart(after=10_000)
    store.forget_owners()
    async with Runtime(store, workflows=[counted.flow]) as runtime:
        batch = runtime.start_many(counted.flow, range(10), keys="k", at_once=4)
        assert [item.output for item in await results(batch)] == list(range(10))
        assert len(await runtime.runs()) == 10


async def test_two_thousand_runs_are_a_batch():
    async with Runtime(":memory:") as runtime:
        batch = runtime.start_many(double, (14 + n for n in range(2000)), at_once=200)
        async with asyncio.timeout(100):
            count = [1 async for _ in batch]
    assert len(count) == batch.counts["completed"] == 2000
