"""What is missing or damaged is said where it is read, and harms no other run."""

import pytest

from crew import Context, Runtime, StoreError, workflow
from crew.budget import Account
from crew.journal import Append, Damaged, Draw, Drawn, KeepThread, Release, Remove, Take
from crew.journal.notes import Forget
from crew.journal.reading import JournalReader
from crew.journal.sqlite import SqliteStore
from crew.testing.store_suite import following, new_run, note
from tests.core.flows import Count, loop

POINTER = '{"text":{"$text":[2,0]},"filler":"' + "short words " * 9 + '"}'


@workflow
async def echo(ctx: Context, text: str) -> str:
    return text


@pytest.fixture
def store(tmp_path):
    store = SqliteStore(tmp_path / "runs.db")
    yield store
    store.close()


def change(store, statement):
    """Change the file as no release does."""
    store._connected().execute(statement)


def started(store, name="a", *bodies):
    (start,) = store.commit([new_run(name)])
    for body in bodies:
        row = store.numbered(start.row.number)
        assert store.commit([Append(row.number, 1, following(row, body))]) == [None]
    return store.numbered(start.row.number)


async def test_a_fork_whose_base_is_gone_is_said_to_be_damaged(store):
    async with Runtime(store, workflows=[loop(3)]) as runtime:
        base = await runtime.start(loop(3), Count(n=0))
        await base.result()
        fork = await runtime.fork(base.id, at=3)
        await fork.result()
        change(store, f"DELETE FROM runs WHERE id = '{base.id}'")
        with pytest.raises(StoreError, match=f"run {fork.id} .* is damaged at event 1"):
            await fork.recorded()


def test_a_checksum_that_differs_is_noticed_for_events_that_lie_together(store):
    row = store.numbered(started(store).number)
    store.commit([Append(row.number, 1, following(row, "{}", "{}"))])
    change(store, "UPDATE segments SET crc = crc + 1 WHERE id % 4294967296 = 3")
    with pytest.raises(StoreError, match="is damaged at event 2"):
        JournalReader(store, row).events(after=1)


async def test_a_big_text_that_is_missing_is_missed(store):
    async with Runtime(store) as runtime:
        run = await runtime.start(echo, "big" * 40_000)
        await run.result()
        change(store, "DELETE FROM blobs")
        with pytest.raises(StoreError, match=f"blob .* of run {run.id} .* is missing or damaged"):
            await run.recorded()


async def test_events_that_are_missing_at_the_end_are_missed(store):
    async with Runtime(store) as runtime:
        run = await runtime.start(loop(3), Count(n=0))
        await run.result()
        offset = store.run(run.id).offset
        change(store, "DELETE FROM segments WHERE id = (SELECT max(id) FROM segments)")
        with pytest.raises(StoreError, match=f"run {run.id} .* is damaged"):
            await run.recorded()
        with pytest.raises(StoreError, match=f"is damaged at event {offset}"):
            await run.result()


def test_events_that_are_missing_in_the_middle_are_missed(store):
    row = started(store, "a", "{}", "{}", "{}")
    change(store, "DELETE FROM segments WHERE id % 4294967296 = 3")
    reader = JournalReader(store, row)
    assert [event.offset for event in reader.events(after=1, limit=1)] == [2]
    with pytest.raises(StoreError, match="is damaged at event 3"):
        reader.events(after=3)


def test_a_text_whose_event_is_missing_is_missed(store):
    text = '{"text":"' + "a long text " * 9 + '"}'
    row = started(store, "a", text, "{}", POINTER)
    assert JournalReader(store, row).one(4).data["text"] == "a long text " * 9
    change(store, "DELETE FROM segments WHERE id % 4294967296 = 2")
    with pytest.raises(StoreError, match="is damaged at event 2"):
        JournalReader(store, row).one(4)


def test_a_body_whose_dictionary_is_missing_is_damaged(store):
    row = started(store, "a", '{"text":"' + "".join(f"{n} words " for n in range(2000)) + '"}')
    row = started(store, "b", '{"text":"' + "1 words 2 words 3 words " * 9 + '"}')
    change(store, "DELETE FROM dictionaries")
    store.close_connection()
    assert [event.offset for event in store.events(1)] == [1, 2]
    with pytest.raises(Damaged, match="no dictionary 1"):
        store.events(row.number)


def test_a_damaged_row_is_refused_alone(store):
    bad, good = started(store, "bad"), started(store, "good")
    change(store, "UPDATE runs SET epoch = 7 WHERE id = 'bad'")
    refused, taken = store.commit([Release(bad.number, 7), Take(good.number, "you", "me")])
    assert isinstance(refused, StoreError)
    assert "knows of run bad" in str(refused)
    assert (taken.owner, taken.epoch) == ("you", 2)


def test_what_is_kept_of_a_thread_is_checked_and_can_be_forgotten(store):
    keep = KeepThread("default", "t", '{"n": 1}', 1.0)
    store.commit([keep])
    change(store, """UPDATE threads SET metadata = '{"n": 2}'""")
    with pytest.raises(StoreError, match="thread 't' is damaged"):
        store.thread("default", "t")
    (refused,) = store.commit([keep])
    assert isinstance(refused, StoreError)
    store.commit([Remove((), "default", "t"), keep])
    assert store.thread("default", "t").metadata == '{"n": 1}'


def test_an_account_that_was_changed_is_noticed_where_it_is_drawn_on(store):
    row = started(store)
    draw = Draw(row.number, 1, (), (Account(row.id, 100),), Drawn(10, 1), asks=True)
    assert store.commit([draw]) == [None]
    assert store.accounts([row.id])[0].total == Drawn(10, 1)
    change(store, "UPDATE accounts SET tokens = 5")
    with pytest.raises(StoreError, match=f"the account {row.id} is damaged; restore a backup"):
        store.accounts([row.id])


def test_a_note_that_was_changed_is_noticed_where_it_is_found_and_can_be_forgotten(store):
    row = started(store)
    notes = (note("1", "green tea"), note("2", "black tea"))
    store.commit([Append(row.number, 1, following(row, "{}"), notes=notes)])
    change(store, "UPDATE notes SET text = 'white tea' WHERE id = '1'")
    for words in ("tea", ""):
        with pytest.raises(StoreError, match="the note 1 is damaged in the store"):
            store.notes("default", [""], words, 9)
    assert store.notes("default", [""], "black", 9) == [notes[1]]
    row = store.numbered(row.number)
    forget = Forget("default", note="1")
    store.commit([Append(row.number, 1, following(row, "{}"), notes=(forget,))])
    assert store.notes("default", [""], "tea", 9) == [notes[1]]
