"""What is accepted while old runs are removed is kept, with the conversation it is of."""

import asyncio
import contextlib

import pytest

from crew import Context, InputInvalid, RunNotFound, Runtime, workflow
from crew.journal import Append, KeepThread, Remove
from crew.journal.sqlite import SqliteStore
from crew.run.retention import Removed
from crew.testing.store_suite import event, new_run
from tests.core.lives import stores, until


@workflow
async def echo(ctx: Context, text: str) -> str:
    return text


@workflow
async def asking(ctx: Context, text: str) -> str:
    return await ctx.ask(str, text, key="what")


async def done(runtime, flow, text, **options):
    run = await runtime.start(flow, text, **options)
    await run.result()
    return run


class Meanwhile(SqliteStore):
    """A store in which something is done just before a removal is committed."""

    work = None

    def commit(self, operations):
        if self.work is not None and any(isinstance(item, Remove) for item in operations):
            work, self.work = self.work, None
            work(self)
        return super().commit(operations)


def turn(name="new", **changes):
    first = event(1, '{"workflow":"echo","version":"1","input":"new"}')
    return lambda store: store.commit(
        [new_run(name, workflow="unknown", owner=None, thread="t", first=first, **changes)]
    )


def described(store):
    store.commit([KeepThread("default", "t", '{"a": 1}', 9e9)])


@pytest.fixture
async def meanwhile(tmp_path):
    """A runtime with a conversation of three turns, and its store."""
    store = Meanwhile(tmp_path / "meanwhile.db")
    async with Runtime(store) as runtime:
        for n in range(3):
            await done(runtime, echo, f"turn {n}", thread="t")
        yield runtime, store
    store.close()


async def test_a_turn_accepted_meanwhile_keeps_its_conversation(meanwhile):
    runtime, store = meanwhile
    await done(runtime, echo, "alone")
    store.work = turn()
    assert await runtime.prune(older_than=0) == Removed(1)
    assert [row.id for row in store.turns("default", "t")][-1] == "new"
    assert len(store.turns("default", "t")) == 4


async def test_a_fork_made_meanwhile_keeps_its_conversation(meanwhile):
    runtime, store = meanwhile
    base = store.turns("default", "t")[0]
    store.work = turn(base=base.number, base_offset=1)
    assert await runtime.prune(older_than=0) == Removed(0)
    assert len(store.turns("default", "t")) == 3


async def test_a_conversation_that_is_described_meanwhile_is_in_use(meanwhile):
    runtime, store = meanwhile
    store.work = described
    assert await runtime.prune(older_than=0) == Removed(0)
    assert await runtime.thread_metadata("t") == {"a": 1}
    assert len((await runtime.thread("t")).messages) == 6


async def test_a_fork_of_a_run_alone_made_meanwhile_keeps_it(meanwhile):
    runtime, store = meanwhile
    run = await done(runtime, echo, "alone")
    number = store.run(run.id).number
    fork = new_run("fork", owner=None, workflow="unknown", base=number, base_offset=1)
    store.work = lambda store: store.commit([fork])
    assert await runtime.prune(older_than=0) == Removed(3, kept_for_forks=(run.id,))


@pytest.mark.parametrize("thread", ["t", None])
async def test_a_turn_accepted_while_it_is_erased_is_said_and_keeps_it(meanwhile, thread):
    runtime, store = meanwhile
    store.work = turn()
    with pytest.raises(InputInvalid, match="such as new"):
        await runtime.erase(thread=thread)
    assert len(store.turns("default", "t")) == 4


async def test_a_turn_that_has_ended_meanwhile_is_erased_too(meanwhile):
    runtime, store = meanwhile

    def ended(store):
        (found,) = turn()(store)
        store.commit([Append(found.row.number, 1, (event(2),), "completed")])

    store.work = ended
    assert await runtime.erase(thread="t") == Removed(4)
    assert store.runs() == []


@stores
async def test_turns_go_on_while_everything_is_pruned_again_and_again(url):
    async with Runtime(url) as runtime:
        pruning = asyncio.create_task(prune_for_ever(runtime))
        for n in range(12):
            run = await runtime.start(asking, f"turn {n}", thread="t")
            turns = [row.turn for row in runtime.store.turns("default", "t")]
            # Whole or not at all: what is there leads up to the newest without a gap.
            assert turns == list(range(1, run.turn + 1))
            await until(run, "waiting")
            await run.answer("what", "this")
            with contextlib.suppress(RunNotFound):
                await until(run, "completed")
        pruning.cancel()
        await asyncio.wait([pruning])


async def prune_for_ever(runtime):
    while True:
        await runtime.prune(older_than=0)
        await asyncio.sleep(0.001)
