"""The one writer of a process: who waits is told, whatever becomes of a commit."""

import asyncio

import pytest

from crew import Context, Fenced, Runtime, StoreError, workflow
from crew.event import CallCompleted, ProgressMade, RunEndedByCancel
from crew.journal import Take, writer
from crew.journal.memory import MemoryStore
from crew.journal.sqlite import connect
from crew.journal.writer import OpenRun, Writer
from crew.testing.store_suite import new_run


@workflow
async def echo(ctx: Context, text: str) -> str:
    return text


@pytest.fixture
def store():
    return MemoryStore()


@pytest.fixture
def writing(store):
    return Writer(store, on_commit=lambda grown: None)


@pytest.fixture
def lock(tmp_path):
    """Another process's lock of the store, which is held from `BEGIN IMMEDIATE` on."""
    db = connect(str(tmp_path / "runs.db"))
    yield db
    db.close()


def driven(row) -> OpenRun:
    return OpenRun(row.id, row.number, row.epoch, row.offset, row.crc, durable_offset=row.offset)


def start(store):
    (started,) = store.commit([new_run("a")])
    return started.row


async def test_an_owner_that_was_replaced_while_it_was_stopped_does_not_act(
    store, writing, monkeypatch
):
    monkeypatch.setattr(writer, "CONFIRMED_SECONDS", 0.0)
    run, told = driven(start(store)), []
    run.lost = told.append
    writing.confirm(run)
    store.commit([Take(run.number, "you", "me")])
    with pytest.raises(Fenced):
        writing.confirm(run)
    with pytest.raises(Fenced):
        writing.append(run, ProgressMade("a", "late"))
    assert [type(error) for error in told] == [Fenced]


async def test_a_late_word_of_the_old_driver_is_not_taken_for_the_new_ones(store, writing):
    old = driven(start(store))
    writing.append(old, ProgressMade("a", "late"))
    (row,) = store.commit([Take(old.number, "you", "me")])
    new = driven(row)
    writing.append(new, ProgressMade("a", "mine"))
    await writing.durable(new)
    with pytest.raises(Fenced):
        await writing.durable(old)
    assert [event.body for event in store.events(row.number, after=1)] == ['{"text":"mine"}']


async def test_an_event_that_is_no_json_leaves_no_gap(store, writing):
    run = driven(start(store))
    with pytest.raises(TypeError):
        writing.append(run, CallCompleted("a", "function", {"result": object()}))
    writing.append(run, ProgressMade("a", "next"))
    await writing.durable(run)
    assert [event.offset for event in store.events(run.number)] == [1, 2]


async def test_a_start_whose_caller_gave_up_is_carried_out_and_harms_nobody(url, lock):
    async with Runtime(url) as runtime:
        lock.execute("BEGIN IMMEDIATE")
        given_up = asyncio.create_task(runtime.start(echo, "a", key="one"))
        other = asyncio.create_task(runtime.start(echo, "b"))
        await asyncio.sleep(0.02)
        given_up.cancel()
        lock.execute("ROLLBACK")
        assert await (await other).result() == "b"
        again = await runtime.start(echo, "a", key="one")
        assert {run.id for run in await runtime.runs()} == {again.id, (await other).id}


async def test_a_store_that_stays_locked_is_said_and_works_again_later(url, lock, monkeypatch):
    monkeypatch.setattr(writer, "BUSY_LIMIT", 0.05)
    async with Runtime(url) as runtime:
        lock.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreError, match="nothing could be written .* locked by another"):
            await runtime.start(echo, "a")
        lock.execute("ROLLBACK")
        assert await (await runtime.start(echo, "b")).result() == "b"


@pytest.mark.parametrize("url", ["memory", "sqlite", "postgres"], indirect=True)
async def test_a_run_may_be_followed_from_where_it_has_not_been_yet(url):
    @workflow
    async def asking(ctx: Context) -> str:
        return await ctx.ask(str, "What?", key="what")

    async with Runtime(url) as runtime:
        run = await runtime.start(asking)
        while not await run.questions():
            await asyncio.sleep(0.01)
        last = len(await run.recorded())
        following = asyncio.create_task(anext(run.events(after=last + 1)))
        await asyncio.sleep(0.02)
        await run.answer("what", "this")
        assert (await following).offset == last + 2


async def test_nothing_follows_the_end_of_a_run_in_its_own_commit(store, writing):
    run = driven(start(store))
    writing.append(run, ProgressMade("a", "first"))
    writing.append(run, RunEndedByCancel(), "cancelled")
    with pytest.raises(Fenced, match="run a has ended; nothing follows its end"):
        writing.append(run, ProgressMade("a", "late"))
    with pytest.raises(Fenced):
        writing.set_status(run, "waiting")
    await writing.durable(run)
    kinds = [event.kind for event in store.events(run.number)]
    assert kinds == ["progress.made", "progress.made", "run.cancelled"]
    assert store.numbered(run.number).status == "cancelled"
