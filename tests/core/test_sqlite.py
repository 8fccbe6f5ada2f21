"""The store in SQLite: its file, the files beside it, and who else is at them."""

import secrets
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from crew import ExtraMissing, Fenced, InputInvalid, Runtime, StoreError
from crew.journal import Append, Blob, Busy, Post, Started, Take
from crew.journal.opening import open_store
from crew.journal.sqlite import SqliteStore, connect
from crew.testing.store_suite import event, following, new_run
from tests.core.test_retention import done, echo

OWNING = (
    "import sys; from pathlib import Path; from crew.journal.owner_files import OwnerFiles\n"
    "OwnerFiles(Path(sys.argv[1])).claim('gone')\n"
)
BIG = Blob("b1" * 32, b"b" * 2_000_000)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "runs.db"


@pytest.fixture
def store(path):
    store = SqliteStore(path)
    yield store
    store.close()


@pytest.fixture
def outside(path, store):
    """A connection of somebody else's."""
    db = connect(str(path))
    yield db
    db.close()


def start(store, name="a", **changes):
    (started,) = store.commit([new_run(name, **changes)])
    return started.row


def say(store, row, *texts):
    """Append an event for each text; return the run's row as it is then."""
    bodies = [f'{{"text":"{text}"}}' for text in texts]
    assert store.commit([Append(row.number, row.epoch, following(row, *bodies))]) == [None]
    return store.numbered(row.number)


def noise():
    """Text from which a dictionary is made at once."""
    return secrets.token_hex(5_000)


def test_postgresql_without_its_package_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "crew.journal.postgres", None)
    with pytest.raises(ExtraMissing, match=r"raycrew\[postgres\]"):
        open_store("postgresql://127.0.0.1/none")


def test_a_system_that_lists_no_mounts_is_trusted(tmp_path):
    SqliteStore(tmp_path / "runs.db", mounts=tmp_path / "none").close()


def test_a_new_file_that_somebody_is_at_is_waited_for(path):
    holder = connect(str(path))
    holder.execute("BEGIN IMMEDIATE")
    threading.Timer(0.05, holder.rollback).start()
    store = SqliteStore(path)
    assert start(store).number == 1
    store.close()
    holder.close()


def test_an_owner_whose_process_ended_is_dead_and_its_file_goes(path, store):
    folder = Path(f"{path}.owners")
    subprocess.run([sys.executable, "-c", OWNING, folder], check=True)
    assert (folder / "gone").exists()
    assert store.sign("gone").dead
    assert not (folder / "gone").exists()


def test_owners_of_a_store_that_is_closed_are_dead(path, store):
    owning = SqliteStore(path)
    owning.claim_owner("me")
    assert not store.sign("me").dead
    owning.close()
    assert store.sign("me").dead


def test_names_without_utf8_fail_their_own_operations_alone(store):
    asked = start(store, "asked", thread="t")
    bad, good, letter = store.commit(
        [
            new_run("bad", thread="t", version="\ud800", when_busy="cancel"),
            new_run("good", thread="t"),
            Post(asked.number, "answer", "\ud800", "1", 1.0),
        ]
    )
    assert isinstance(good, Started)
    assert isinstance(letter, StoreError)
    assert isinstance(bad, StoreError)
    assert "text that UTF-8 can hold" in str(bad)
    assert [row.id for row in store.runs()] == ["good", "asked"]
    assert store.letters([asked.number]) == []


async def test_a_bad_name_keeps_nobody_from_the_store(url):
    async with Runtime(url) as runtime:
        with pytest.raises(InputInvalid, match="half a pair of surrogates"):
            await runtime.start(echo, "a", thread="half a pair: \ud800")
        with pytest.raises(InputInvalid, match="half a pair of surrogates"):
            await runtime.get("\ud800")
        assert await (await runtime.start(echo, "b")).result() == "b"


def test_a_blob_that_cannot_be_written_leaves_nothing_behind(path, store):
    row = start(store)
    blobs = Path(f"{path}.blobs")
    blobs.write_text("a file in the folder's place")
    append = Append(row.number, 1, (event(2, blobs=(BIG,)),), "waiting")
    (refused,) = store.commit([append])
    assert isinstance(refused, StoreError)
    assert "check the folder's permissions" in str(refused)
    assert store.numbered(row.number) == row
    blobs.unlink()
    assert store.commit([append]) == [None]
    assert store.blob(BIG.digest) == BIG.body


def test_a_dictionary_that_another_process_removed_is_not_used(path, store):
    row = say(store, start(store), noise(), "first " * 30)
    other = SqliteStore(path)
    other.scrub()
    other.close()
    row = say(store, row, "second " * 30)
    store.close()
    assert len(SqliteStore(path).events(row.number)) == 4


def test_a_store_whose_dictionaries_are_used_up_goes_on_without(store, outside):
    outside.execute("INSERT INTO sqlite_sequence VALUES ('dictionaries', 255)")
    row = start(store)
    for _ in range(3):
        row = say(store, row, noise())
    assert len(store.events(row.number)) == 4
    assert outside.execute("SELECT count(*) FROM dictionaries").fetchone() == (0,)


def test_scrubbing_waits_for_those_who_read(store, outside):
    start(store)
    outside.execute("BEGIN")
    outside.execute("SELECT * FROM runs").fetchall()
    with pytest.raises(Busy, match="being read by another process"):
        store.scrub()
    outside.execute("COMMIT")
    store.scrub()


def test_scrubbing_that_fails_changes_nothing(store, outside):
    row = say(store, start(store), noise(), "words " * 30)
    before = store.events(row.number)
    outside.execute(
        "CREATE TRIGGER no BEFORE DELETE ON dictionaries BEGIN SELECT raise(ABORT, 'no'); END"
    )
    with pytest.raises(StoreError, match="cannot scrub"):
        store.scrub()
    assert store.events(row.number) == before
    say(store, row, "more " * 30)


async def test_a_damaged_run_keeps_nobody_from_erasing_another_one(path, store, outside):
    secret = secrets.token_hex(16)
    async with Runtime(store) as runtime:
        await done(runtime, echo, noise())
        broken = await done(runtime, echo, "broken " * 30)
        await done(runtime, echo, f"{secret} {noise()}", thread="secret")
        number = store.run(broken.id).number
        outside.execute("UPDATE segments SET body = x'01ff' WHERE id >> 32 = ?", (number,))
        assert (await runtime.erase(thread="secret")).runs == 1
        with pytest.raises(StoreError, match=f"run {broken.id} .* is damaged"):
            await broken.recorded()
    outside.close()
    assert secret.encode() not in path.read_bytes()


def append(store, row):
    (result,) = store.commit([Append(row.number, row.epoch, following(row, "{}"))])
    return result


def test_a_run_that_another_process_took_since_the_last_append_is_left_to_it(path, store):
    row = say(store, start(store), "a")
    other = SqliteStore(path)
    (taken,) = other.commit([Take(row.number, "other", row.owner)])
    other.close()
    assert isinstance(append(store, row), Fenced)
    assert store.numbered(row.number) == taken


def test_a_row_that_was_damaged_since_the_last_append_is_not_written(store, outside):
    row = say(store, start(store), "a")
    outside.execute("UPDATE runs SET last_offset = last_offset + 4")
    outside.commit()
    assert isinstance(append(store, row), StoreError)


def test_an_append_gives_no_damaged_row_a_checksum_that_fits(store, outside):
    row = say(store, start(store), "a")
    outside.execute("UPDATE runs SET workflow = 'another'")
    outside.commit()
    assert append(store, row) is None
    with pytest.raises(StoreError, match="damaged"):
        store.numbered(row.number)
