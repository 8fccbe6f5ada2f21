"""Whatever one operation fails of, it fails alone: the others of its batch are written."""

import asyncio
import uuid
from dataclasses import replace
from datetime import datetime

import pytest

from crew import Context, Runtime, StoreError, workflow
from crew.event import ProgressMade
from crew.journal import Append, Blob, KeepThread, Post, Release, Remove, Snapshot, Started, Take
from crew.journal.memory import MemoryStore
from crew.journal.postgres import PostgresStore
from crew.journal.sqlite import SqliteStore
from crew.journal.writer import OpenRun, Writer
from crew.testing.store_suite import event, new_run
from tests.core.lives import result, stores


@workflow
async def echo(ctx: Context, text: str) -> str:
    return text


@pytest.fixture(params=["memory", "sqlite", "postgres"])
def store(request, tmp_path):
    if request.param == "memory":
        yield MemoryStore()
        return
    is_sqlite = request.param == "sqlite"
    store = (
        SqliteStore(tmp_path / "runs.db")
        if is_sqlite
        else PostgresStore(request.getfixturevalue("postgres_url"))
    )
    yield store
    store.close()


class Odd:
    """No database knows what this is; nor has it a hash."""

    __hash__ = None


def started(store, name):
    (found,) = store.commit([new_run(name)])
    return found.row


BAD = {
    "a start with an object for a key": lambda row: new_run("bad", key=Odd()),
    "a start with an object for a thread": lambda row: new_run("bad", thread=Odd()),
    "an append of no events": lambda row: Append(row.number, 1, (None,)),
    "an append whose blob has no bytes": lambda row: Append(
        row.number, 1, (event(2, blobs=(Blob("5a" * 32, Odd()),)), None)
    ),
    "an append whose snapshot is none": lambda row: Append(
        row.number, 1, (event(2), object()), snapshot=Snapshot(2, 7, "1", Odd(), 1)
    ),
    "a take by nobody's name": lambda row: Take(Odd(), "you", "me"),
    "a release of no number": lambda row: Release([Odd()], 1),
    "a removal of no numbers": lambda row: Remove((row.number, Odd())),
    "what is kept at no time": lambda row: KeepThread("default", "t", "{}", Odd()),
}


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD.keys())
def test_an_operation_fails_alone_whatever_it_fails_of(store, bad):
    one, other = started(store, "one"), started(store, "other")
    results = store.commit(
        [
            Append(one.number, 1, (event(2),)),
            bad(other),
            new_run("good", key="k"),
            Post(one.number, "answer", "q", "1", 1.0),
        ]
    )
    assert [isinstance(item, Exception) for item in results] == [False, True, False, False]
    assert isinstance(results[1], StoreError)
    assert isinstance(results[2], Started)
    assert [found.offset for found in store.events(one.number)] == [1, 2]
    assert len(store.letters([one.number])) == 1
    assert store.numbered(other.number) == other
    assert [row.id for row in store.runs()] == ["good", "other", "one"]


def test_blobs_that_a_failed_removal_dropped_are_still_there(tmp_path):
    store = SqliteStore(tmp_path / "runs.db")
    big = Blob("b1" * 32, b"b" * 3_000_000)
    (found,) = store.commit([new_run("a", first=event(1, blobs=(big,)))])
    store.commit([Append(found.row.number, 1, (event(2),), "completed")])
    forget = store._blobs.forget

    def broken(db, numbers):
        forget(db, numbers)
        raise ZeroDivisionError

    store._blobs.forget = broken
    removed, other = store.commit([Remove((found.row.number,)), new_run("b")])
    assert isinstance(removed, StoreError)
    assert isinstance(other, Started)
    assert store.blob(big.digest) == big.body
    store.close()


CARELESS = {
    "a UUID": uuid.uuid4(),
    "a number": 7,
    "a moment": datetime(2026, 1, 1),  # noqa: DTZ001  any object will do
    "bytes": b"k",
    "a list": ["k"],
}


@stores
@pytest.mark.parametrize("key", CARELESS.values(), ids=CARELESS.keys())
async def test_a_start_that_no_store_can_hold_harms_no_other_tenant(url, key):
    async with Runtime(url, workflows=[echo]) as runtime:
        row = (await runtime.of("before").start(echo, "a"))._row
        # Past the door, as a caller of the writer has it.
        bad = replace(new_run("bad", owner=None), key=key)
        refused = runtime.writer.submit(bad)
        others = [runtime.of(f"tenant {n}").start(echo, str(n)) for n in range(3)]
        async with asyncio.timeout(20):
            runs = await asyncio.gather(*others)
            assert [await run.result() for run in runs] == ["0", "1", "2"]
            outcome = await refused
        assert isinstance(outcome, (StoreError, Started))
        assert runtime.store.numbered(row.number) is not None


async def test_a_store_that_fails_in_an_unforeseen_way_lets_nobody_wait():
    class Broken(MemoryStore):
        def commit(self, operations):
            raise ZeroDivisionError("no such thing")

    writer = Writer(Broken(), on_commit=lambda grown: None)
    with pytest.raises(StoreError, match="ZeroDivisionError: no such thing"):
        await asyncio.wait_for(writer.execute(new_run("a")), 20)


async def test_a_snapshot_that_cannot_be_made_harms_nobody(caplog):
    store = MemoryStore()
    writer = Writer(store, on_commit=lambda grown: None)
    rows = [started(store, name) for name in ("one", "other")]
    runs = [OpenRun(row.id, row.number, 1, 1, row.crc, durable_offset=1) for row in rows]

    def broken():
        raise ZeroDivisionError

    runs[0].snapshot = broken
    for run in runs:
        writer.append(run, ProgressMade("a", "said"))
    async with asyncio.timeout(20):
        await asyncio.gather(*(writer.durable(run) for run in runs))
    assert [store.numbered(row.number).offset for row in rows] == [2, 2]
    assert "snapshot.failed" in caplog.messages


@stores
async def test_who_shares_a_batch_with_a_careless_caller_goes_on(url):
    async def act() -> int:
        await asyncio.sleep(0.01)
        return 1

    @workflow
    async def acting(ctx: Context, n: int) -> int:
        return sum([await ctx.effect(act, key=str(k)) for k in range(5)])

    async with Runtime(url, workflows=[acting]) as runtime:
        runs = [await runtime.of(f"tenant {n}").start(acting, n) for n in range(3)]
        for _ in range(20):
            runtime.writer.submit(replace(new_run("bad", owner=None), thread=uuid.uuid4()))
            await asyncio.sleep(0.003)
        assert [await result(run) for run in runs] == [5, 5, 5]
