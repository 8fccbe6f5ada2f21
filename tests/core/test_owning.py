"""Runs that several want at once, or that their owner loses while it takes them."""

import asyncio
from typing import Any

import pytest

from crew import Context, Graph, Retry, RunCancelled, Runtime, StoreError, workflow
from crew.journal import PARKED, Append, Damaged, Release, Take
from crew.journal.memory import MemoryStore
from crew.run import owned
from crew.run import runtime as runtimes
from crew.run.poison import deaths_of
from crew.testing import CrashingStore

SECONDS = 20


async def done(text: str) -> str:
    return text


@workflow
async def asks(ctx: Context) -> str:
    return await ctx.run(done, "said ") + await ctx.ask(str, "What?", key="what")


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch):
    monkeypatch.setattr(owned, "TAKE_SECONDS", 0.02)
    monkeypatch.setattr(runtimes, "TAKE_SECONDS", 0.02)


async def left_waiting(store: Any, flow: Any = asks) -> str:
    """Start a run, and leave it where it asks."""
    async with Runtime(store, workflows=[flow]) as runtime, asyncio.timeout(SECONDS):
        run = await runtime.start(flow)
        while not await run.questions():
            await asyncio.sleep(0.01)
    return run.id


class Stealing(CrashingStore):
    """A store in which another worker takes a run right after it was taken, and lets it go."""

    thefts = 0

    def commit(self, operations):
        results = super().commit(operations)
        for operation in operations:
            if isinstance(operation, Take) and self.thefts:
                self.thefts -= 1
                (row,) = self._store.commit([Take(operation.number, "thief", operation.owner)])
                self._store.commit([Release(row.number, row.epoch)])
        return results


class Refusing(CrashingStore):
    """A store that refuses what is appended to a run that was just taken, for a while."""

    refusals = 0

    def commit(self, operations):
        if self.refusals and any(isinstance(operation, Append) for operation in operations):
            self.refusals -= 1
            raise StoreError(message="for a moment")
        return super().commit(operations)


async def test_a_run_that_two_resume_at_once_is_taken_once():
    store = MemoryStore()
    number = await left_waiting(store)
    async with Runtime(store, workflows=[asks], takes_over=False) as runtime:
        async with asyncio.timeout(SECONDS):
            one, other = await asyncio.gather(runtime.resume(number), runtime.resume(number))
            await one.answer("what", "it")
            assert await other.result() == "said it"
    taken = [event for event in store.events(1) if event.kind == "run.taken"]
    assert len(taken) == 1


async def test_a_run_that_another_worker_takes_meanwhile_is_left_to_it():
    kept, acts = MemoryStore(), []

    @workflow
    async def acting(ctx: Context) -> str:
        acts.append("entered")
        return await ctx.run(done, "done")

    store = CrashingStore(kept, after=2)
    async with Runtime(store, workflows=[acting]) as runtime:
        run = await runtime.start(acting)
        with pytest.raises(StoreError):
            await run.result()
    kept.forget_owners()
    stealing = Stealing(kept, after=1000)
    stealing.thefts = 1
    async with Runtime(stealing, workflows=[acting]) as runtime, asyncio.timeout(SECONDS):
        assert await (await runtime.get(run.id)).result() == "done"
    assert (stealing.thefts, len(acts)) == (0, 2)


@pytest.mark.parametrize("fault", [Stealing, Refusing])
async def test_a_cancel_of_a_run_that_nobody_drives_survives_a_fault(fault):
    kept = MemoryStore()
    number = await left_waiting(kept)
    store = fault(kept, after=1000)
    store.thefts = store.refusals = 1
    async with Runtime(store, workflows=[asks]) as runtime, asyncio.timeout(SECONDS):
        run = await runtime.get(number)
        try:
            await run.cancel()
        except StoreError:
            await run.cancel()
        with pytest.raises(RunCancelled):
            await run.result()


async def test_a_run_that_is_started_while_its_runtime_is_left_is_for_the_next_one():
    store = MemoryStore()
    runtime = await Runtime(store, workflows=[asks]).__aenter__()
    starting = asyncio.create_task(runtime.start(asks, key="k"))
    await asyncio.sleep(0)
    await runtime.__aexit__(None, None, None)
    await asyncio.gather(starting, return_exceptions=True)
    async with Runtime(store, workflows=[asks]) as again, asyncio.timeout(SECONDS):
        run = await again.start(asks, key="k")
        await run.answer("what", "it")
        assert await run.result() == "said it"


class Broken(Retry):
    """A policy of somebody's own that fails."""

    def delay(self, attempt: int) -> float:
        raise ArithmeticError("of the policy")


async def test_a_policy_that_fails_is_told_to_whoever_waits():
    graph = Graph("broken", input=str, output=str)

    @graph.node(retry=Broken(attempts=2))
    async def fails(text: str) -> str:
        raise OSError("of the node")

    async with Runtime(MemoryStore()) as runtime, asyncio.timeout(SECONDS):
        run = await runtime.start(graph, "go")
        with pytest.raises(StoreError, match="is not driven: ArithmeticError"):
            await run.result()


class Forgetful(CrashingStore):
    """A store with a fault of its own, which is none of those that stores may have."""

    faults = 1

    def takeable(self, *arguments: Any, **options: Any) -> Any:
        if self.faults:
            self.faults -= 1
            raise TypeError("a defect")
        return self._store.takeable(*arguments, **options)


async def test_a_defect_that_comes_up_in_looking_for_work_stops_no_run(caplog):
    kept = MemoryStore()
    number = await left_waiting(kept)
    store = Forgetful(kept, after=1000)
    async with Runtime(store, workflows=[asks]) as runtime, asyncio.timeout(SECONDS):
        run = await runtime.get(number)
        await run.answer("what", "it")
        assert await run.result() == "said it"
    assert "looking for work failed; it is tried again" in caplog.messages


class Torn:
    """A store in which a run's events cannot be read."""

    def events(self, *arguments: Any, **options: Any) -> Any:
        raise Damaged("torn")


async def test_the_owners_of_a_run_that_cannot_be_read_are_counted_by_what_is_known():
    store = MemoryStore()
    row = store.run(await left_waiting(store))._replace(status="running", epoch=5)
    assert deaths_of(Torn(), row, died=True) == 1


class Unparking(CrashingStore):
    """A store that refuses, once, to leave a run to a person."""

    refusals = 1

    def commit(self, operations):
        parks = any(isinstance(item, Release) and item.to == PARKED for item in operations)
        if parks and self.refusals:
            self.refusals -= 1
            raise StoreError(message="for a moment")
        return super().commit(operations)


async def test_a_run_that_could_not_be_left_to_a_person_is_parked_again():
    kept, lives = MemoryStore(), []

    @workflow
    async def changes(ctx: Context) -> str:
        lives.append("a life")
        return await ctx.run(done, f"{len(lives)}") + await ctx.ask(str, "What?", key="what")

    number = await left_waiting(kept, changes)
    store = Unparking(kept, after=1000)
    async with Runtime(store, workflows=[changes]) as runtime, asyncio.timeout(SECONDS):
        asking = asyncio.create_task((await runtime.get(number)).answer("what", "it"))
        while kept.run(number).owner != PARKED:
            await asyncio.sleep(0.01)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
    assert store.refusals == 0


async def test_a_run_that_is_accepted_while_its_runtime_ends_its_steps_is_for_the_next_one():
    @workflow
    async def stops_slowly(ctx: Context) -> str:
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0.5)
        return ""

    store = MemoryStore()
    async with asyncio.timeout(SECONDS):
        async with Runtime(store, workflows=[asks]) as runtime:
            await runtime.start(stops_slowly)
            await asyncio.sleep(0.05)

            async def late() -> str:
                await asyncio.sleep(0.2)
                return (await runtime.start(asks)).id

            starting = asyncio.create_task(late())
        row = store.run(await starting)
        assert (row.status, row.owner) == ("running", None)


class Robbing(CrashingStore):
    """A store in which another worker takes a run just before it is parked."""

    robbed = False

    def commit(self, operations):
        for operation in operations:
            events = operation.events if isinstance(operation, Append) else ()
            if not self.robbed and "run.parked" in [event.kind for event in events]:
                self.robbed = True
                owner = self.numbered(operation.number).owner
                self._store.commit([Take(operation.number, "thief", owner)])
        return super().commit(operations)


def asking_graph(node: str) -> Graph:
    graph = Graph("asking", input=int, output=str)

    async def what(ctx: Context, n: int) -> str:
        return await ctx.ask(str, "What?", key="what")

    graph.node(what, name=node)
    return graph


async def test_a_run_that_another_worker_takes_while_it_is_parked_is_left_to_it():
    kept = MemoryStore()
    async with Runtime(kept) as runtime, asyncio.timeout(SECONDS):
        run = await runtime.start(asking_graph("old"), 1)
        while not await run.questions():
            await asyncio.sleep(0.01)
    async with Runtime(kept, worker=False) as asking:
        await (await asking.get(run.id)).answer("what", "it")
    kept.claim_owner("thief")
    store = Robbing(kept, after=1000)
    async with Runtime(store, workflows=[asking_graph("new")]), asyncio.timeout(SECONDS):
        while not store.robbed:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.05)
        assert kept.run(run.id).owner == "thief"


class Odd(CrashingStore):
    """A store that breaks in a way of its own when a journal is read, once."""

    left = 1

    def events(self, *arguments, **options):
        if self.left:
            self.left -= 1
            raise ArithmeticError("odd")
        return self._store.events(*arguments, **options)


async def test_whatever_comes_up_while_a_run_is_taken_parks_it():
    kept = MemoryStore()
    run_id = await left_waiting(kept)
    async with Runtime(kept, worker=False) as asking:
        await (await asking.get(run_id)).answer("what", "it")
    store = Odd(kept, after=1000)
    async with Runtime(store, workflows=[asks]) as runtime, asyncio.timeout(SECONDS):
        while kept.run(run_id).owner != PARKED:
            await asyncio.sleep(0.01)
        assert "ArithmeticError: odd" in (await (await runtime.get(run_id)).ending()).parked.detail
        assert await (await runtime.resume(run_id)).result() == "said it"
