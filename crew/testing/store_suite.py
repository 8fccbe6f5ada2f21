"""The conformance suite of stores: what a journal relies on, for anybody's store.

    from crew.testing import StoreSuite

    class TestMyStore(StoreSuite):
        def open(self):
            return MyStore("…")

Every call of `open` within one test opens the same store again, as another process would; give it a
fresh place for each test, such as pytest's `tmp_path` in an autouse fixture.
"""

import time
import zlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from crew.budget import Account
from crew.errors import AskError, BudgetExceeded, Fenced, KeyReused, RunNotFound, ThreadBusy
from crew.journal import (
    PARKED,
    AccountRow,
    Append,
    Blob,
    Clear,
    Draw,
    Drawn,
    KeepThread,
    NewRun,
    Operation,
    Post,
    Release,
    Remove,
    RemoveNotes,
    RunRow,
    Settle,
    Snapshot,
    Started,
    Store,
    StoredEvent,
    Take,
    ThreadRow,
)
from crew.journal.notes import Forget, Note
from crew.journal.reading import checksum

_FLOW = [("flow", "1")]


def event(offset: int, body: str = "{}", *, blobs: tuple[Blob, ...] = ()) -> StoredEvent:
    """Return an event to be kept alone; its checksum is only a number here."""
    return StoredEvent(offset, "progress.made", f"step[{offset}]", body, offset * 7, 1.5, blobs)


def following(row: RunRow, *bodies: str, paths: Sequence[str] = ()) -> tuple[StoredEvent, ...]:
    """Return events that follow the last one of a run, with the checksums that a writer gives."""
    events, crc = list[StoredEvent](), row.crc
    for place, body in enumerate(bodies):
        made = event(row.offset + 1 + place, body)
        made = made._replace(path=paths[place]) if paths else made
        crc = checksum(crc, made.kind, made.path, body, made.at)
        events.append(made._replace(crc=crc))
    return tuple(events)


def new_run(name: str, **changes: Any) -> NewRun:
    """Return what starts a run, owned by `me` unless said otherwise."""
    values: dict[str, Any] = {
        "id": name,
        "tenant": "default",
        "workflow": "flow",
        "version": "1",
        "key": None,
        "input_hash": "",
        "thread": None,
        "parent": None,
        "owner": "me",
        "when_busy": "queue",
        "first": event(1),
        "at": 1.0,
    }
    return NewRun(**{**values, **changes})


def note(name: str, text: str, **changes: Any) -> Note:
    """Return a note that run `a` writes."""
    values: dict[str, Any] = {
        "id": name,
        "tenant": "default",
        "scope": "",
        "text": text,
        "run": "a",
        "thread": None,
        "at": 1.0,
    }
    return Note(**{**values, **changes})


class StoreSuite:
    """Tests that every store passes; subclass it, and say how yours is opened."""

    def open(self) -> Store:
        """Open the store of this test."""
        raise NotImplementedError

    def start(self, store: Store, name: str = "a", **changes: Any) -> RunRow:
        """Start a run, and return its row."""
        (started,) = store.commit([new_run(name, **changes)])
        assert isinstance(started, Started)
        assert started.is_new
        return started.row

    def end(self, store: Store, row: RunRow) -> None:
        """Let a run end."""
        append = Append(row.number, row.epoch, (event(row.offset + 1),), "completed")
        assert self.one(store, append) is None

    def one(self, store: Store, operation: Operation) -> Any:
        """Carry one operation out, and return its result."""
        (result,) = store.commit([operation])
        return result

    def test_a_run_is_there_with_its_first_event(self) -> None:
        store = self.open()
        row = self.start(store)
        assert (row.status, row.epoch, row.offset, row.owner) == ("running", 1, 1, "me")
        assert store.run("a") == store.numbered(row.number) == row
        assert [e.offset for e in store.events(row.number)] == [1]
        assert store.run("b") is None
        store.close()

    def test_what_was_committed_is_there_when_it_is_opened_again(self) -> None:
        store = self.open()
        row = self.start(store)
        events = following(row, "{}", "{}")
        store.commit([Append(row.number, 1, events)])
        again = self.open()
        assert [e.offset for e in again.events(row.number)] == [1, 2, 3]
        assert again.events(row.number, after=1, limit=1) == [events[0]]
        again.close()
        store.close()

    def test_any_text_comes_back_as_it_was(self) -> None:
        store = self.open()
        bodies = ['{"a":"' + text * 400 + '"}' for text in ("x", "é", "\\u0000", "漢字 ", "'\"\\")]
        row = self.start(store)
        store.commit([Append(row.number, 1, following(row, *bodies))])
        assert [e.body for e in store.events(row.number, after=1)] == bodies
        store.close()

    def test_any_path_comes_back_as_it_was(self) -> None:
        store = self.open()
        paths = ["a[0]/b~2", "tab\tand\nline", '"quoted"', "漢字 \u2028", ""]
        row = self.start(store)
        events = following(row, *("{}" for _ in paths), paths=paths)
        store.commit([Append(row.number, 1, events)])
        assert [e.path for e in store.events(row.number, after=1)] == paths
        store.close()

    def test_an_append_moves_the_row(self) -> None:
        store = self.open()
        row = self.start(store)
        store.commit([Append(row.number, 1, (event(2),), "waiting", 9.5)])
        moved = store.numbered(row.number)
        assert moved is not None
        assert (moved.status, moved.due, moved.offset, moved.crc) == ("waiting", 9.5, 2, 14)
        store.commit([Append(row.number, 1, (event(3),))])
        unchanged = store.numbered(row.number)
        assert unchanged is not None
        assert (unchanged.status, unchanged.due) == ("waiting", 9.5)
        store.close()

    def test_the_old_owner_is_fenced_alone(self) -> None:
        store = self.open()
        mine, other = self.start(store, "a"), self.start(store, "b")
        taken = self.one(store, Take(mine.number, "you", "me"))
        assert (taken.owner, taken.epoch) == ("you", 2)
        results = store.commit(
            [Append(mine.number, 1, (event(2),)), Append(other.number, 1, (event(2),))]
        )
        assert isinstance(results[0], Fenced)
        assert results[1] is None
        assert [e.offset for e in store.events(mine.number)] == [1]
        assert [e.offset for e in store.events(other.number)] == [1, 2]
        store.close()

    def test_the_old_owner_is_fenced_alone_among_other_operations(self) -> None:
        store = self.open()
        mine, other = self.start(store, "a"), self.start(store, "b")
        self.one(store, Take(mine.number, "you", "me"))
        results = store.commit([Append(mine.number, 1, (event(2),)), Release(other.number, 1)])
        assert isinstance(results[0], Fenced)
        assert results[1] is None
        assert [e.offset for e in store.events(mine.number)] == [1]
        assert self._owner(store, other) is None
        store.close()

    def test_only_the_owner_that_was_found_is_taken_from(self) -> None:
        store = self.open()
        row = self.start(store)
        assert isinstance(self.one(store, Take(row.number, "you", "them")), Fenced)
        assert isinstance(self.one(store, Take(row.number, "you", None)), Fenced)
        assert isinstance(self.one(store, Take(row.number + 9, "you", None)), RunNotFound)
        store.commit([Append(row.number, 1, (event(2),), "completed")])
        assert isinstance(self.one(store, Take(row.number, "you", None)), Fenced)
        store.close()

    def test_nothing_comes_after_a_place_that_no_journal_has(self) -> None:
        store = self.open()
        row, _ = self.start(store), self.start(store, "b")
        for after in (1, 1 << 32, 1 << 80):
            assert store.events(row.number, after=after) == []
        store.close()

    def test_a_release_needs_the_epoch(self) -> None:
        store = self.open()
        row = self.start(store)
        store.commit([Release(row.number, 7)])
        assert self._owner(store, row) == "me"
        store.commit([Release(row.number, 1)])
        assert self._owner(store, row) is None
        store.close()

    def _owner(self, store: Store, row: RunRow) -> str | None:
        found = store.numbered(row.number)
        assert found is not None
        return found.owner

    def test_one_key_is_one_run(self) -> None:
        store = self.open()
        row = self.start(store, "a", key="k", input_hash="h")
        again = self.one(store, new_run("b", key="k", input_hash="h"))
        assert (again.row.id, again.is_new) == ("a", False)
        assert isinstance(self.one(store, new_run("c", key="k", input_hash="other")), KeyReused)
        self.start(store, "d", key="k", input_hash="h", tenant="another")
        self.start(store, "e", key="k", input_hash="h", workflow="another")
        assert store.run("b") is None
        assert store.run("a") == row
        store.close()

    def test_turns_are_numbered_as_they_are_accepted(self) -> None:
        store = self.open()
        rows = [self.start(store, name, thread="t", owner=None) for name in "abc"]
        assert [row.turn for row in rows] == [1, 2, 3]
        assert [row.id for row in store.turns("default", "t")] == ["a", "b", "c"]
        assert [row.id for row in store.turns("default", "t", after=1)] == ["b", "c"]
        assert store.turns("another", "t") == []
        assert [row.id for row in store.takeable(_FLOW, [], 0.0)] == ["a"]
        store.close()

    def test_a_busy_thread_rejects_or_cancels_when_asked_to(self) -> None:
        store = self.open()
        first = self.start(store, "a", thread="t")
        rejected = self.one(store, new_run("b", thread="t", when_busy="reject"))
        assert isinstance(rejected, ThreadBusy)
        self.start(store, "c", thread="t", when_busy="cancel")
        assert [letter.kind for letter in store.letters([first.number])] == ["cancel"]
        store.close()

    def test_runs_are_found_by_what_is_asked_for(self) -> None:
        store = self.open()
        rows = [
            self.start(store, name, thread=thread) for name, thread in (("a", "t"), ("b", None))
        ]
        store.commit([Append(rows[1].number, 1, (event(2),), "completed")])
        assert [row.id for row in store.runs()] == ["b", "a"]
        assert [row.id for row in store.runs(status=("running",))] == ["a"]
        assert [row.id for row in store.runs(thread="t")] == ["a"]
        assert [row.id for row in store.runs(limit=1)] == ["b"]
        assert [row.id for row in store.runs(before=rows[1].number)] == ["a"]
        assert store.runs(tenant="another") == []
        store.close()

    def test_runs_are_found_by_workflow_time_and_tags(self) -> None:
        store = self.open()
        rows = [
            self.start(store, "a", workflow="x", at=1.0, tags=("red", "big")),
            self.start(store, "b", workflow="y", at=2.0, tags=("red",)),
            self.start(store, "c", workflow="x", at=3.0),
        ]
        assert [row.id for row in store.runs(workflow="x")] == ["c", "a"]
        assert [row.id for row in store.runs(since=2.0)] == ["c", "b"]
        assert [row.id for row in store.runs(tags=("red",))] == ["b", "a"]
        assert [row.id for row in store.runs(tags=("red", "big"))] == ["a"]
        assert [row.id for row in store.runs(tags=("red",), limit=1)] == ["b"]
        assert store.runs(workflow="y", since=2.5) == []
        assert store.runs(tags=("blue",)) == []
        store.commit([Append(rows[0].number, 1, (event(2),), "completed")])
        store.commit([Remove((rows[0].number,))])
        assert [row.id for row in store.runs(tags=("red",))] == ["b"]
        store.close()

    def test_a_runs_children_are_found_by_it(self) -> None:
        store = self.open()
        children = [self.start(store, name, parent="p") for name in ("a", "b")]
        self.start(store, "other", parent="q")
        self.start(store, "p")
        store.commit([Append(children[0].number, 1, (event(2),), "completed")])
        assert [row.id for row in store.runs(parent="p")] == ["b", "a"]
        assert [row.id for row in store.runs(parent="p", status=("running",))] == ["b"]
        assert store.runs(parent="nobody") == []
        store.close()

    def test_what_comes_behind_the_end_of_a_run_is_refused(self) -> None:
        for status in ("completed", "failed", "cancelled"):
            store = self.open()
            row, other = self.start(store, f"a {status}"), self.start(store, f"b {status}")
            store.commit([Append(row.number, 1, (event(2),), status)])
            ended = store.numbered(row.number)
            late = [
                Append(row.number, 1, (event(3),)),
                Append(row.number, 1, (), "running"),
                Append(row.number, 1, (event(3),), "failed"),
                Append(other.number, 1, (event(2),)),
            ]
            results = [self.one(store, late[0]), *store.commit(late)]
            assert [type(result) for result in results] == [*[Fenced] * 4, type(None)]
            assert store.numbered(row.number) == ended
            assert [e.offset for e in store.events(row.number)] == [1, 2]
            store.close()

    def test_what_comes_behind_the_end_in_its_own_transaction_is_refused(self) -> None:
        store = self.open()
        row = self.start(store)
        end, late = Append(row.number, 1, (event(2),), "failed"), (event(3),)
        snapshot = Snapshot(3, 7, "1", "{}", 1)
        results = store.commit([end, Append(row.number, 1, late, snapshot=snapshot)])
        assert [type(result) for result in results] == [type(None), Fenced]
        assert [e.offset for e in store.events(row.number)] == [1, 2]
        assert store.snapshot(row.number) is None
        store.close()

    def test_a_run_that_ended_is_given_to_nobody(self) -> None:
        store = self.open()
        row = self.start(store)
        store.commit([Append(row.number, 1, (event(2),), "cancelled")])
        assert self.one(store, Release(row.number, 1, PARKED)) is None
        assert self.one(store, Release(row.number, 1)) is None
        ended = store.numbered(row.number)
        assert ended is not None
        assert (ended.status, ended.owner) == ("cancelled", None)
        store.close()

    def test_what_nobody_owns_may_be_taken(self) -> None:
        store = self.open()
        row = self.start(store, "a", owner=None)
        self.start(store, "b", owner="me")
        self.start(store, "c", owner=None, workflow="unknown")
        assert [found.id for found in store.takeable(_FLOW, [], 0.0)] == ["a"]
        assert [found.id for found in store.takeable(_FLOW, ["me"], 0.0)] == ["a", "b"]
        assert [found.id for found in store.takeable(_FLOW, ["me"], 0.0, limit=1)] == ["a"]
        assert store.owners() == ["me"]
        store.commit([Append(row.number, 1, (event(2),), "completed")])
        assert store.takeable(_FLOW, [], 0.0) == []
        store.close()

    def test_what_was_started_in_an_owners_name_is_found_until_something_follows(self) -> None:
        store = self.open()
        first, second, other = (
            self.start(store, name, owner=owner)
            for name, owner in (("a", "me"), ("b", "me"), ("c", "other"))
        )
        fork = new_run("d", base=first.number, base_offset=1, first=event(2))
        store.commit([fork])
        assert [row.id for row in store.unbegun("me")] == ["a", "b", "d"]
        assert [row.id for row in store.unbegun("other")] == ["c"]
        assert store.unbegun("nobody") == []
        store.commit([Append(first.number, 1, (event(2),)), Take(second.number, "me", "me")])
        store.commit([Release(other.number, 1)])
        assert [row.id for row in store.unbegun("me")] == ["d"]
        assert store.unbegun("other") == []
        store.close()

    def test_a_run_that_waits_is_taken_when_it_is_due_or_has_a_letter(self) -> None:
        store = self.open()
        due, asks = self.start(store, "a"), self.start(store, "b")
        for row, when in ((due, 100.0), (asks, None)):
            store.commit(
                [Append(row.number, 1, (event(2),), "waiting", when), Release(row.number, 1)]
            )
        assert store.takeable(_FLOW, [], 99.0) == []
        assert [row.id for row in store.takeable(_FLOW, [], 100.0)] == ["a"]
        store.commit([Post(asks.number, "answer", "q", "1", 1.0)])
        assert [row.id for row in store.takeable(_FLOW, [], 0.0)] == ["b"]
        store.close()

    def test_a_parked_run_is_taken_only_to_cancel_it(self) -> None:
        store = self.open()
        row = self.start(store)
        store.commit(
            [Append(row.number, 1, (event(2),), "waiting"), Release(row.number, 1, PARKED)]
        )
        store.commit([Post(row.number, "answer", "q", "1", 1.0)])
        assert store.takeable(_FLOW, [], 1e12) == []
        assert store.owners() == []
        store.commit([Post(row.number, "cancel", "", "null", 1.0)])
        assert [found.id for found in store.takeable(_FLOW, [], 0.0)] == ["a"]
        store.close()

    def test_the_first_answer_wins(self) -> None:
        store = self.open()
        row = self.start(store)
        assert self.one(store, Post(row.number, "answer", "q", "1", 1.0)) is None
        assert isinstance(self.one(store, Post(row.number, "answer", "q", "2", 1.0)), AskError)
        (letter,) = store.letters([row.number])
        assert (letter.kind, letter.name, letter.body) == ("answer", "q", "1")
        store.commit([Clear(row.number, 1, (), (letter.id,))])
        assert store.letters([row.number]) == []
        assert isinstance(self.one(store, Post(row.number, "answer", "q", "3", 1.0)), AskError)
        assert self.one(store, Post(row.number, "answer", "other", "3", 1.0)) is None
        store.close()

    def test_an_answer_is_found_by_its_key_as_long_as_its_run_is_kept(self) -> None:
        store = self.open()
        row, other = self.start(store), self.start(store, "b", tenant="another")
        post = Post(row.number, "answer", "q", "1", 1.0, key="k", seen=7)
        assert store.commit([post, replace(post, number=other.number, seen=8)]) == [None, None]
        (letter,) = store.letters([row.number])
        assert store.answers("default", "k") == [letter]
        store.commit([Clear(row.number, 1, (), (letter.id,))])
        store.commit([Append(row.number, 1, (event(2),), "completed")])
        assert store.answers("default", "k") == [replace(letter, body="")]
        assert store.answers("default", "another") == []
        self.one(store, Remove((row.number,)))
        assert store.answers("default", "k") == []
        assert [found.seen for found in store.answers("another", "k")] == [8]
        store.close()

    def test_an_answer_sent_again_with_its_key_is_the_first(self) -> None:
        store = self.open()
        row = self.start(store)
        post = Post(row.number, "answer", "q", "1", 1.0, key="k", seen=7)
        assert store.commit([post, replace(post, seen=9)]) == [None, None]
        assert isinstance(self.one(store, replace(post, key="other")), AskError)
        store.commit([Append(row.number, 1, (event(2),), "completed")])
        assert store.letters([row.number]) == []
        assert self.one(store, post) is None
        assert isinstance(self.one(store, replace(post, key=None)), AskError)
        assert [(found.body, found.seen) for found in store.answers("default", "k")] == [("", 7)]
        store.close()

    def test_letters_are_cleared_by_the_owner_alone(self) -> None:
        store = self.open()
        row = self.start(store)
        store.commit([Post(row.number, "answer", "q", "1", 1.0)])
        (letter,) = store.letters([row.number])
        store.commit([Clear(row.number, 9, (letter.id,))])
        assert store.letters([row.number]) == [letter]
        store.commit([Clear(row.number, 1, (letter.id,))])
        assert store.letters([row.number]) == []
        assert self.one(store, Post(row.number, "answer", "q", "2", 1.0)) is None
        store.close()

    def test_a_run_that_ended_takes_no_answer_and_forgets_its_letters(self) -> None:
        store = self.open()
        row = self.start(store)
        store.commit([Post(row.number, "answer", "q", "1", 1.0)])
        store.commit([Append(row.number, 1, (event(2),), "completed")])
        assert store.letters([row.number]) == []
        assert isinstance(self.one(store, Post(row.number, "answer", "z", "1", 1.0)), AskError)
        assert self.one(store, Post(row.number, "cancel", "", "null", 1.0)) is None
        assert isinstance(self.one(store, Post(99, "cancel", "", "null", 1.0)), RunNotFound)
        store.close()

    def test_only_the_newest_snapshot_is_kept_while_the_run_is_open(self) -> None:
        store = self.open()
        row = self.start(store)
        first, second = (Snapshot(n, 7, "1", "x" * 500 * n, zlib.crc32(b"x")) for n in (2, 3))
        store.commit([Append(row.number, 1, (event(2),), snapshot=first)])
        assert store.snapshot(row.number) == first
        store.commit([Append(row.number, 1, (event(3),), snapshot=second)])
        assert store.snapshot(row.number) == second
        store.commit([Append(row.number, 1, (event(4),), "completed")])
        assert store.snapshot(row.number) is None
        store.close()

    def test_a_fork_has_its_own_events_after_its_base(self) -> None:
        store = self.open()
        base = self.start(store)
        store.commit([Append(base.number, 1, (event(2), event(3)), "completed")])
        fork = self.start(store, "f", first=event(3), base=base.number, base_offset=2, thread="t")
        assert (fork.base, fork.base_offset, fork.turn, fork.offset) == (base.number, 2, None, 3)
        assert [e.offset for e in store.events(fork.number, after=2)] == [3]
        store.commit([Append(fork.number, 1, (event(4),))])
        assert [e.offset for e in store.events(fork.number, after=3)] == [4]
        assert store.turns("default", "t") == []
        store.close()

    def test_blobs_are_shared_and_go_with_the_last_run_that_uses_them(self) -> None:
        store = self.open()
        small, big = Blob("5a" * 32, b"s" * 1000), Blob("b1" * 32, b"b" * 3_000_000)
        rows = [self.start(store, name, first=event(1, "{}", blobs=(small, big))) for name in "ab"]
        assert (store.blob(small.digest), store.blob(big.digest)) == (small.body, big.body)
        for row in rows:
            self.end(store, row)
        assert self.one(store, Remove((rows[0].number,))) == (rows[0].number,)
        assert store.blob(big.digest) == big.body
        self.one(store, Remove((rows[1].number,)))
        assert store.blob(small.digest) is None
        assert store.blob(big.digest) is None
        store.close()

    def test_a_blob_written_ahead_is_there_once_a_commit_names_it(self) -> None:
        store = self.open()
        blob = Blob("b1" * 32, b"b" * 3_000_000)
        store.write_ahead(blob)
        assert store.blob(blob.digest) is None
        row = self.start(store, "a", first=event(1, "{}", blobs=(blob,)))
        assert store.blob(blob.digest) == blob.body
        self.end(store, row)
        self.one(store, Remove((row.number,)))
        assert store.blob(blob.digest) is None
        store.write_ahead(blob)
        store.scrub()
        self.start(store, "b", first=event(1, "{}", blobs=(blob,)))
        assert store.blob(blob.digest) == blob.body
        store.close()

    def test_a_run_that_was_removed_is_gone(self) -> None:
        store = self.open()
        row = self.start(store, "a", key="k", thread="t")
        self.end(store, row)
        assert self.one(store, Remove((row.number, row.number + 5))) == (row.number,)
        assert store.run("a") is None
        assert store.events(row.number) == []
        assert store.turns("default", "t") == []
        assert isinstance(self.one(store, Append(row.number, 1, (event(2),))), Fenced)
        self.start(store, "b", key="k")
        store.close()

    def test_a_base_stays_while_a_fork_does(self) -> None:
        store = self.open()
        base = self.start(store)
        fork = self.start(store, "f", first=event(2), base=base.number, base_offset=1)
        last = self.start(store, "g", first=event(3), base=fork.number, base_offset=2)
        for row in (base, fork, last):
            self.end(store, row)
        assert self.one(store, Remove((base.number, fork.number))) == ()
        assert self.one(store, Remove((base.number, fork.number, last.number))) == (
            base.number,
            fork.number,
            last.number,
        )
        store.close()

    def test_what_is_kept_of_a_thread_is_changed_and_forgotten(self) -> None:
        store, other = self.open(), self.open()
        assert store.thread("default", "t") is None
        keep = KeepThread("default", "t", '{"a": "1"}', 1.0, opening='["said"]')
        assert store.commit([keep, replace(keep, tenant="another")]) == [None, None]
        assert self.one(store, replace(keep, metadata="{}", opening='["more"]', at=2.0)) is None
        assert other.thread("default", "t") == ThreadRow("default", "t", "{}", '["said"]', 1.0, 2.0)
        assert other.threads("default") == {"t": 2.0}
        assert self.one(store, Remove((), "default", "nobody's")) == ()
        assert self.one(store, Remove((), "default", "t", 2.0)) == ()
        assert other.thread("default", "t") is None
        assert other.threads("another") == {"t": 1.0}
        other.close()
        store.close()

    def test_notes_are_found_by_their_words(self) -> None:
        store, other = self.open(), self.open()
        row = self.start(store)
        notes = (
            note("1", "Eva likes green tea, at 3.5 euros."),
            note("2", "Green is the colour of hope", at=2.0),
            note("3", "Der Müller spricht: 東京タワー", at=3.0),
            note("4", "tea of another scope", scope="user:eva"),
            note("5", "tea of another tenant", tenant="another"),
        )
        store.commit([Append(row.number, 1, (event(2),), notes=notes)])
        for words, limit, expected in (
            ("TEA", 9, "1"),
            ("green TEAS", 9, "12"),
            ("green", 9, "21"),
            ("green", 1, "2"),
            ("muller", 9, "3"),
            ("東京", 9, "3"),
            ("3.5", 9, "1"),
            ("nothing' | \"of it", 9, ""),
            ("tea " + " ".join(f"word{n}" for n in range(900)), 9, "1"),
            ("x" * 5000, 9, ""),
            ("", 2, "32"),
            ("?!", 9, "321"),
        ):
            found = other.notes("default", [""], words, limit)
            assert [each.id for each in found] == list(expected), words
        assert other.notes("default", [""], "tea", 9) == [notes[0]]
        assert {each.id for each in other.notes("default", ["", "user:eva"], "tea", 9)} == {*"14"}
        assert other.notes("nobody", ["", "user:eva"], "tea", 9) == []
        assert other.notes("default", [], "tea", 9) == []
        other.close()
        store.close()

    def test_a_note_of_the_same_place_takes_the_place_of_the_last(self) -> None:
        store = self.open()
        row = self.start(store)
        first, second = note("1", "red wine"), note("1", "white wine", scope="s", at=2.0)
        store.commit([Append(row.number, 1, (event(2),), notes=(first, note("2", "red")))])
        store.commit([Append(row.number, 1, (event(3),), notes=(second,))])
        assert store.notes("default", ["s"], "wine", 9) == [second]
        assert [each.id for each in store.notes("default", [""], "red", 9)] == ["2"]
        store.close()

    def test_notes_are_changed_with_their_events_or_not_at_all(self) -> None:
        store = self.open()
        row, other = self.start(store), self.start(store, "b")
        late = Append(row.number, 7, (event(2),), notes=(note("1", "tea"),))
        good = Append(other.number, 1, (event(2),), notes=(note("2", "tea", run="b"),))
        results = store.commit([late, good])
        assert [type(result) for result in results] == [Fenced, type(None)]
        assert [each.id for each in store.notes("default", [""], "tea", 9)] == ["2"]
        end = Append(row.number, 1, (event(2),), "completed", notes=(note("3", "tea"),))
        behind = Append(row.number, 1, (event(3),), notes=(note("4", "tea"),))
        assert [type(result) for result in store.commit([end, behind])] == [type(None), Fenced]
        assert [each.id for each in store.notes("default", [""], "tea", 9)] == ["3", "2"]
        store.close()

    def test_notes_are_forgotten_by_all_that_is_said_of_them(self) -> None:
        for forget, left in (
            (Forget("default", note="1"), "245"),
            (Forget("default", scope="s"), "15"),
            (Forget("default", run="b"), "125"),
            (Forget("default", scope="s", run="b"), "125"),
            (Forget("default", note="1", scope="s"), "1245"),
            (Forget("another", scope="s"), "124"),
        ):
            store = self.open()
            row = self.start(store, f"{forget}")
            notes = (
                note("1", "tea"),
                note("2", "tea", scope="s"),
                note("4", "tea", scope="s", run="b"),
                note("5", "tea", scope="s", tenant="another"),
            )
            store.commit([Append(row.number, 1, (event(2),), notes=(*notes, forget))])
            tenants = ("default", "another")
            found = [each for t in tenants for each in store.notes(t, ["", "s"], "tea", 9)]
            assert {each.id for each in found} == {*left}, forget
            found = [each for t in tenants for each in store.notes(t, ["", "s"], "", 9)]
            assert {each.id for each in found} == {*left}, forget
            store.close()

    def test_notes_outlive_their_runs_until_they_are_removed(self) -> None:
        for threads, left in ((None, "3"), (("t",), "2341"), (("t", "u"), "341"), ((), "23451")):
            store = self.open()
            rows = [self.start(store, f"{name} {threads}", thread="t") for name in "ab"]
            gone, there = (row.id for row in rows)
            notes = (
                note("1", "tea", run=gone),
                note("2", "tea", run=gone, thread="u"),
                note("3", "tea", run=there, thread="t"),
                note("4", "tea", run=gone, thread="v"),
                note("5", "tea", run=gone, thread="t"),
            )
            store.commit([Append(rows[0].number, 1, (event(2),), "completed", notes=notes)])
            assert self.one(store, Remove((rows[0].number,))) == (rows[0].number,)
            assert len(store.notes("default", [""], "tea", 9)) == 5
            assert self.one(store, RemoveNotes("another")) is None
            assert self.one(store, RemoveNotes("default", threads)) is None
            found = store.notes("default", [""], "tea", 9)
            assert {each.id for each in found} == {*left}, threads
            store.close()

    def test_what_is_drawn_is_counted_in_all_accounts_above(self) -> None:
        store, other = self.open(), self.open()
        parent, child = self.start(store, "a"), self.start(other, "b", parent="a")
        top, own = Account("a", 100), Account("b")
        opened = Settle(parent.number, 1, (), (("a", Drawn(10, 1)),))
        assert self.one(store, opened) == AccountRow("a", 1, (), Drawn(10, 1), Drawn(10, 1))
        draw = Draw(child.number, 1, (top,), (own,), Drawn(60, 1, 60), asks=True)
        assert self.one(other, draw) is None
        refused = self.one(other, draw)
        assert isinstance(refused, BudgetExceeded)
        assert (refused.needed, refused.left) == (60, 30)
        assert self.one(other, replace(draw, amount=Drawn(-50, 0, -60), asks=False)) is None
        assert [row.total for row in store.accounts(["a", "b", "c"])] == [
            Drawn(20, 2),
            Drawn(10, 1),
        ]
        assert store.accounts([]) == []
        other.close()
        store.close()

    def test_a_settlement_says_what_a_run_has_drawn_and_ends_what_is_under_way(self) -> None:
        store = self.open()
        row = self.start(store, "a")
        limits = Account("a", 100), Account("a:step/call", 50)
        self.one(store, Draw(row.number, 1, (), limits, Drawn(50, 1, 50), asks=True))
        settle = Settle(row.number, 1, (), (("a", Drawn(20, 1)),), ends=True)
        settled = self.one(store, settle)
        assert settled == AccountRow("a", 1, (), Drawn(20, 1), Drawn(20, 1), True)
        (call,) = store.accounts(["a:step/call"])
        assert (call.total, call.is_closed) == (Drawn(50, 1), True)
        self.end(store, row)
        assert isinstance(self.one(store, settle), Fenced)
        self.one(store, Remove((row.number,)))
        assert store.accounts(["a", "a:step/call"]) == []
        store.close()

    def test_an_owner_lives_until_it_is_released(self) -> None:
        store, other = self.open(), self.open()
        assert store.sign("me").dead
        store.claim_owner("me")
        before = other.sign("me")
        assert not before.dead
        assert store.sign("me") == before
        store.beat("me")
        assert other.sign("me").beat != before.beat
        store.release_owner("me")
        store.beat("me")
        assert other.sign("me").dead
        other.close()
        store.close()

    def test_what_an_owner_serves_is_known_while_it_lives(self) -> None:
        store, other = self.open(), self.open()
        for name in ("me", "you"):
            store.claim_owner(name)
        assert other.served() == set()
        store.serve("me", [("flow", "1"), ("flow", "2"), ("other", "é/1")])
        store.serve("you", [("flow", "1")])
        assert other.served() == {("flow", "1"), ("flow", "2"), ("other", "é/1")}
        store.beat("me")
        store.serve("me", [])
        assert other.served() == {("flow", "1")}
        store.release_owner("you")
        store.release_owner("me")
        assert other.served() == set()
        other.close()
        store.close()

    def test_open_runs_of_code_that_nobody_knows_are_found(self) -> None:
        store = self.open()
        old = self.start(store, "old")
        new = self.start(store, "new", version="2")
        parked, gone = (self.start(store, name, workflow="other") for name in ("parked", "gone"))
        self.one(store, Release(parked.number, 1, to=PARKED))
        self.end(store, gone)
        assert [row.id for row in store.of_other_code([])] == ["old", "new"]
        assert [row.id for row in store.of_other_code(_FLOW)] == [new.id]
        assert [row.id for row in store.of_other_code([("flow", "2"), ("old", "1")])] == [old.id]
        assert [row.id for row in store.of_other_code([], limit=1)] == [old.id]
        store.close()

    def test_another_process_sees_that_something_changed(self) -> None:
        store, other = self.open(), self.open()
        before = other.changed()
        self.start(store)
        deadline = time.monotonic() + 5
        while store is not other and other.changed() == before:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        other.close()
        store.close()
