"""What becomes of a run's children when its end has one cause or another."""

import asyncio
from typing import Any

import pytest

from crew import Agent, Budget, Context, Graph, RunCancelled, Runtime, StoreError, workflow
from crew.errors import GraphError
from crew.journal import OPEN, Append, Post
from crew.journal.memory import MemoryStore
from crew.journal.opening import open_store
from crew.testing import ScriptedModel
from tests.core.test_cancel import slow, under_way
from tests.core.test_take import FailsOnce, In, Out, databases, parked

SECONDS = 30.0


async def tick(n: int) -> int:
    return n


@workflow
async def work(ctx: Context, given: In) -> int:
    for n in range(30):
        await ctx.run(tick, n)
        await asyncio.sleep(0.03)
    return 7


async def beside(ctx: Context, waiting: Any) -> Any:
    """Make calls while something is awaited, so that a lost run is noticed."""

    async def calls() -> None:
        for n in range(1000):
            await ctx.run(tick, n)
            await asyncio.sleep(0.02)

    ticking = asyncio.create_task(calls())
    done = await waiting
    ticking.cancel()
    return done


@workflow
async def alone(ctx: Context, given: In) -> int:
    return await beside(ctx, ctx.run(work, In()))


@workflow
async def gathered(ctx: Context, given: In) -> int:
    both = asyncio.gather(*(ctx.run(work, In(), key=f"k{n}") for n in range(2)))
    return max(await beside(ctx, both))


@workflow
async def mapped(ctx: Context, given: In) -> int:
    return max(await beside(ctx, ctx.map(work, [In(n=n) for n in range(3)])))


@workflow
async def nested(ctx: Context, given: In) -> int:
    return await beside(ctx, ctx.run(alone, In()))


@workflow
async def quiet(ctx: Context, given: In) -> int:
    return await ctx.run(work, In())


in_a_graph = Graph("in_a_graph", input=In, output=Out)


@in_a_graph.node
async def first(given: In) -> float:
    return 1.0


@in_a_graph.node
async def second(ctx: Context, value: float) -> Out:
    return Out(n=await beside(ctx, ctx.run(work, In())))


PARENTS = [alone, gathered, mapped, nested, quiet, in_a_graph]
COUNTS = {alone: 1, gathered: 2, mapped: 3, nested: 2, quiet: 1, in_a_graph: 1}
FLOWS = [*PARENTS, work, slow]
each = pytest.mark.parametrize("parent", PARENTS, ids=lambda flow: flow.name)


async def with_children(runtime: Runtime, parent: Any) -> str:
    """Start a run, and return its id once its children are under way."""
    run = await runtime.start(parent, In())
    async with asyncio.timeout(SECONDS):
        while len(runs := await runtime.runs()) < 1 + COUNTS[parent]:
            await asyncio.sleep(0.01)
        for child in runs:
            await under_way(child)
    await asyncio.sleep(0.1)
    return run.id


async def statuses(runtime: Runtime, until: Any) -> list[str]:
    """Return what all runs are, once `until` says so of them."""
    async with asyncio.timeout(SECONDS):
        while not until(found := [await run.status() for run in await runtime.runs()]):
            await asyncio.sleep(0.02)
    return found


def all_cancelled(found: list[str]) -> bool:
    return set(found) == {"cancelled"}


@databases
@each
async def test_a_cancel_of_a_parent_that_nobody_drives_reaches_its_children(parent, url):
    async with Runtime(url, workflows=FLOWS) as runtime:
        run_id = await with_children(runtime, parent)
    async with Runtime(url, worker=False) as runtime:
        await (await runtime.get(run_id)).cancel()
        assert all_cancelled(await statuses(runtime, lambda found: True))


@each
async def test_a_cancel_of_a_parent_that_another_process_drives_reaches_them_too(parent, url):
    async with Runtime(url, workflows=FLOWS) as runtime, Runtime(url, worker=False) as looking:
        run_id = await with_children(runtime, parent)
        await (await looking.get(run_id)).cancel()
        assert await statuses(looking, all_cancelled)


async def test_a_cancel_reaches_a_child_that_another_worker_drives(url):
    async with Runtime(url, workflows=[work]) as child_runtime:
        async with Runtime(url, workflows=[alone]) as runtime:
            run_id = await with_children(runtime, alone)
        async with asyncio.timeout(SECONDS):
            while not child_runtime._worker.owned.drives(2):
                await asyncio.sleep(0.02)
        await (await child_runtime.get(run_id)).cancel()
        assert await statuses(child_runtime, all_cancelled)


async def test_a_cancel_right_after_a_take_reaches_children_nobody_asked_for_yet(url):
    async with Runtime(url, workflows=FLOWS) as runtime:
        run_id = await with_children(runtime, alone)
    async with Runtime(url, workflows=[alone], worker=False) as runtime:
        run = await runtime.get(run_id)
        await run._post("cancel", "", None)
    async with Runtime(url, workflows=FLOWS) as runtime:
        assert await statuses(runtime, all_cancelled)


@databases
@each
async def test_a_parent_that_is_fenced_leaves_its_children_alone(parent, url):
    async with Runtime(url, workflows=FLOWS) as one:
        run_id = await with_children(one, parent)
        async with Runtime(url, workflows=FLOWS) as two:
            await two._worker.taking.take(one.store.run(run_id), proven=False, explicit=True)
            run = await two.get(run_id)
            assert getattr(output := await run.result(), "n", output) == 7
            assert "cancelled" not in await statuses(two, lambda found: True)


class Failing:
    """A store whose next commit fails that appends to a run."""

    def __init__(self, store: Any) -> None:
        self._store, self.number = store, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def commit(self, operations: Any) -> Any:
        if any(isinstance(item, Append) and item.number == self.number for item in operations):
            self.number = 0
            raise StoreError(message="the disk was full for a moment")
        return self._store.commit(operations)


@databases
@pytest.mark.parametrize("whose", ["the parent's", "the child's"])
@each
async def test_a_commit_that_fails_cancels_no_children(parent, whose, url):
    inner = open_store(url)
    store = Failing(inner)
    async with Runtime(store, workflows=FLOWS) as runtime:
        run_id = await with_children(runtime, parent)
        store.number = 1 if whose == "the parent's" and parent is not quiet else 2
        async with asyncio.timeout(SECONDS):
            while inner.run(run_id).status in OPEN:
                await asyncio.sleep(0.02)
        assert set(await statuses(runtime, lambda found: True)) == {"completed"}
    inner.close()


def parking(version: int) -> Any:
    @workflow(name="parking")
    async def plain(ctx: Context, given: In) -> int:
        ticked, done = ctx.run(tick, version, key="tick"), ctx.run(work, In(), key="work")
        return (await asyncio.gather(ticked, done))[1]

    return plain


@databases
async def test_a_parent_that_is_parked_leaves_its_child_alone(url):
    async with Runtime(url, workflows=[parking(1), work]) as runtime:
        run = await runtime.start(parking(1), In())
        async with asyncio.timeout(SECONDS):
            while len(await runtime.runs()) < 2:
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)
    async with Runtime(url, workflows=[parking(2), work]) as runtime:
        await parked(runtime, run.id)
        assert await statuses(runtime, lambda found: "completed" in found)
    async with Runtime(url, workflows=[parking(1), work]) as runtime:
        assert await (await runtime.resume(run.id)).result() == 7


async def test_a_call_of_a_child_that_is_cancelled_cancels_the_child(runtime):
    @workflow
    async def impatient(ctx: Context, given: In) -> int:
        asking = asyncio.create_task(ctx.run(slow, 60.0))
        await asyncio.sleep(0.3)
        asking.cancel()
        await asyncio.wait([asking])
        return 3

    run = await runtime.start(impatient, In())
    assert await run.result() == 3
    (child,) = [item for item in await runtime.runs() if item.id != run.id]
    with pytest.raises(RunCancelled):
        await child.result()


async def test_a_child_that_was_only_just_asked_for_is_cancelled_too(runtime):
    @workflow
    async def hasty(ctx: Context, given: In) -> int:
        for _ in range(8):
            asking = asyncio.create_task(ctx.run(slow, 60.0))
            for _ in range(given.n):
                await asyncio.sleep(0)
            asking.cancel()
            await asyncio.wait([asking])
        return 3

    for n in range(12):
        assert await (await runtime.start(hasty, In(n=n))).result() == 3
    assert set(await statuses(runtime, lambda found: "running" not in found)) <= {
        "completed",
        "cancelled",
    }


@pytest.mark.parametrize("earlier", [0, 2])
async def test_a_child_that_cannot_begin_costs_nothing(runtime, earlier):
    @workflow
    async def brief(ctx: Context, number: int) -> int:
        return number

    broken = Graph("broken", input=In, output=Out)  # nothing gives its output
    agent = Agent("agent", model=ScriptedModel(lambda request: "yes"))

    @workflow
    async def parent(ctx: Context, given: In) -> int:
        for number in range(earlier):
            await ctx.run(brief, number)
        with pytest.raises(GraphError):
            await ctx.run(broken, In())
        for number in range(3):
            await ctx.run(agent, f"question {number}")
        return given.n

    run = await runtime.start(parent, In(n=5), budget=Budget(calls=3))
    assert await run.result() == 5
    assert len(await runtime.runs()) == 1 + earlier


@pytest.mark.parametrize("is_written", [False, True], ids=["not written", "answer lost"])
async def test_a_cancel_of_a_child_that_could_not_be_posted_is_made_anew(is_written):
    @workflow
    async def breaks_off(ctx: Context, given: In) -> None:
        calling = asyncio.create_task(ctx.run(work, In(), key="child"))
        await asyncio.sleep(0.1)
        calling.cancel()
        await asyncio.wait([calling])
        assert calling.cancelled() or calling.exception()  # the child may have ended before

    def cancels(operation: Any) -> bool:
        return isinstance(operation, Post) and operation.kind == "cancel"

    memory = MemoryStore()
    store = FailsOnce(memory, cancels, is_written=is_written)
    async with Runtime(store, workflows=[breaks_off, work]) as runtime, asyncio.timeout(SECONDS):
        run = await runtime.start(breaks_off, In())
        while await run.status() in OPEN:
            await asyncio.sleep(0.02)
        await run.result()
        while any(row.status in OPEN for row in memory.runs()):
            await asyncio.sleep(0.02)
    assert store.failures == 1
    assert [row.status for row in memory.runs()] == ["cancelled", "completed"]


async def test_a_task_that_cancels_its_child_in_vain_while_its_step_ends_is_not_left_behind():
    @workflow
    async def leaves(ctx: Context, given: In) -> None:
        left.append(asyncio.create_task(ctx.run(work, In(), key="child")))
        await asyncio.sleep(0.1)

    def cancels(operation: Any) -> bool:
        return isinstance(operation, Post) and operation.kind == "cancel"

    store = FailsOnce(MemoryStore(), cancels, is_written=False)
    before, left = asyncio.all_tasks(), list[Any]()
    async with Runtime(store, workflows=[leaves, work]) as runtime, asyncio.timeout(SECONDS):
        run = await runtime.start(leaves, In())
        while await run.status() in OPEN:
            await asyncio.sleep(0.02)
        await run.result()
    assert store.failures == 1
    assert asyncio.all_tasks() == before
