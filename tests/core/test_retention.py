"""What is pruned is what is old; what is erased is in no file any more."""

import time

import pytest

from crew import Context, InputInvalid, RunNotFound, Runtime, StoreError, workflow
from crew.journal.opening import open_store
from crew.run import retention
from crew.testing import CrashingStore

pytestmark = pytest.mark.parametrize("url", ["memory", "sqlite", "postgres"], indirect=True)


@workflow
async def echo(ctx: Context, text: str) -> str:
    return await ctx.run(repeat, text)


async def repeat(text: str) -> str:
    return text[::-1]


@workflow
async def parent(ctx: Context, text: str) -> str:
    return await ctx.run(echo, text)


@workflow
async def asking(ctx: Context, text: str) -> str:
    return await ctx.ask(str, text, key="what")


async def done(runtime, flow, text, **options):
    run = await runtime.start(flow, text, **options)
    await run.result()
    return run


async def ids(runtime) -> set[str]:
    return {run.id for run in await runtime.runs()}


async def test_the_newest_are_kept(url):
    async with Runtime(url) as runtime:
        runs = [await done(runtime, echo, str(n)) for n in range(5)]
        assert (await runtime.prune(keep=2)).runs == 3
        assert await ids(runtime) == {runs[3].id, runs[4].id}
        assert await runs[4].result() == "4"
        with pytest.raises(RunNotFound):
            await runtime.get(runs[0].id)


async def test_what_is_older_goes_and_what_is_open_stays(url):
    async with Runtime(url) as runtime:
        await done(runtime, echo, "old")
        waiting = await runtime.start(asking, "open")
        time.sleep(0.2)
        young = await done(runtime, echo, "young")
        assert (await runtime.prune(older_than=0.15)).runs == 1
        assert await ids(runtime) == {waiting.id, young.id}
        await waiting.cancel()


async def test_a_conversation_goes_whole_or_not_at_all(url):
    async with Runtime(url) as runtime:
        for text in ("a", "b"):
            await done(runtime, echo, text, thread="long")
        await done(runtime, echo, "alone")
        await done(runtime, echo, "c", thread="long")
        assert (await runtime.prune(keep=1)).runs == 1
        assert len((await runtime.thread("long")).messages) == 6


async def test_what_is_kept_of_a_thread_goes_with_it_and_is_pruned_by_itself(url):
    async with Runtime(url) as runtime:
        await runtime.open_thread("empty", metadata={"n": 1})
        await done(runtime, echo, "a", thread="used")
        await runtime.describe_thread("used", {"n": 2})
        assert (await runtime.prune(keep=1)).runs == 0
        assert [await runtime.thread_metadata(name) for name in ("empty", "used")] == [{}, {"n": 2}]
        assert (await runtime.prune(keep=0)).runs == 1
        assert await runtime.thread_metadata("used") == {}


async def test_erasing_a_tenant_erases_what_is_kept_of_its_threads(url):
    async with Runtime(url) as runtime:
        await runtime.open_thread("t", metadata={"n": 1})
        await runtime.of("another").open_thread("t", metadata={"n": 2})
        await runtime.erase()
        assert await runtime.thread_metadata("t") == {}
        assert await runtime.of("another").thread_metadata("t") == {"n": 2}


async def test_children_go_with_their_parent(url):
    async with Runtime(url) as runtime:
        await done(runtime, parent, "a")
        assert len(await ids(runtime)) == 2
        assert (await runtime.prune(keep=0)).runs == 2


async def test_what_a_fork_stands_on_stays(url):
    async with Runtime(url) as runtime:
        base = await done(runtime, echo, "x" * 70_000)
        fork = await runtime.fork(base.id, at=3)
        await fork.result()
        removed = await runtime.prune(keep=1)
        assert (removed.runs, removed.kept_for_forks) == (0, (base.id,))
        assert await fork.result() == "x" * 70_000
        assert (await runtime.prune(keep=0)).runs == 2


async def test_pruning_needs_to_be_told_what(url):
    async with Runtime(url) as runtime:
        with pytest.raises(InputInvalid, match="say what to prune"):
            await runtime.prune()


async def test_another_tenant_is_left_alone(url, tmp_path):
    if url == ":memory:":
        url = f"sqlite:///{tmp_path}/shared.db"
    async with Runtime(url, tenant="b") as other:
        kept = await done(other, echo, "kept")
        async with Runtime(url, tenant="a") as runtime:
            await done(runtime, echo, "gone")
            assert (await runtime.erase()).runs == 1
        assert await kept.result() == "tpek"


async def test_a_run_that_has_not_ended_is_not_erased(url):
    async with Runtime(url) as runtime:
        run = await runtime.start(asking, "open", thread="t")
        with pytest.raises(InputInvalid, match=f"have not ended .such as {run.id}"):
            await runtime.erase(thread="t")
        await run.cancel()
        assert (await runtime.erase(thread="t")).runs == 1


@pytest.mark.parametrize("count", [3, 4, 5, 9])
async def test_more_goes_than_is_removed_at_once(url, count, monkeypatch):
    monkeypatch.setattr(retention, "BATCH", 4)
    async with Runtime(url) as runtime:
        for number in range(count):
            await done(runtime, echo, str(number))
        assert (await runtime.prune(keep=0)).runs == count
        assert await ids(runtime) == set()


@pytest.mark.parametrize("how", ["prune", "erase"])
async def test_what_cannot_be_removed_stays_and_goes_the_next_time(url, how):
    store = open_store(url)
    failing = CrashingStore(store, after=1000)
    async with Runtime(failing) as runtime:
        run = await done(runtime, echo, "kept")
        failing.is_down = True
        with pytest.raises(StoreError, match="simulated crash"):
            await (runtime.prune(keep=0) if how == "prune" else runtime.erase())
        assert await ids(runtime) == {run.id}
        failing.restart(after=1000)
        assert (await (runtime.prune(keep=0) if how == "prune" else runtime.erase())).runs == 1
    store.close()
