"""Stores do what the one in memory does, whatever is asked of them in whatever order."""

import itertools
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from crew.journal import (
    PARKED,
    Append,
    Blob,
    Clear,
    Post,
    Release,
    Remove,
    RemoveNotes,
    Snapshot,
    Started,
    Store,
    Take,
)
from crew.journal.memory import MemoryStore
from crew.journal.notes import Forget
from crew.journal.postgres import PostgresStore
from crew.journal.sqlite import SqliteStore
from crew.testing.store_suite import event, following, new_run, note

OWNERS = st.sampled_from([None, "a", "b", PARKED])
NUMBERS = st.integers(1, 12)
EPOCHS = st.integers(1, 3)
THREADS = st.sampled_from([None, "t", "u"])
STATUSES = st.sampled_from([None, "running", "waiting", "completed", "failed"])
BODIES = st.sampled_from(["{}", '{"a":1}', '{"text":"' + "words and " * 60 + '"}'])
NAMES, SCOPES = st.sampled_from("ab"), st.sampled_from(["", "s"])
TEXTS = st.sampled_from(["green tea", "black tea", "green trees"])
BLOBS = [Blob(f"{n:064x}", bytes([n]) * 10 ** (n + 2)) for n in range(3)]


class Stores(RuleBasedStateMachine):
    """The same operations on a store and on its model."""

    fresh: Callable[[], Store]
    """Opens an empty store."""

    @initialize()
    def begin(self) -> None:
        self.model, self.opened = MemoryStore(), type(self).fresh()
        self.names = itertools.count(1)
        self.letter_ids: dict[int, int] = {}

    def teardown(self) -> None:
        if hasattr(self, "opened"):
            self.opened.close()

    def both(self, *operations) -> None:
        expected = self.model.commit(operations)
        found = self.opened.commit([self._told(operation) for operation in operations])
        assert [plain(item) for item in expected] == [plain(item) for item in found]

    def _told(self, operation):
        if not isinstance(operation, Clear):
            return operation
        letters, kept = (
            tuple(self.letter_ids[item] for item in ids)
            for ids in (operation.letters, operation.kept)
        )
        return replace(operation, letters=letters, kept=kept)

    @rule(
        owner=OWNERS,
        thread=THREADS,
        key=st.sampled_from([None, "k", "l"]),
        input_hash=st.sampled_from(["h", "i"]),
        when_busy=st.sampled_from(["queue", "reject", "cancel"]),
        blob=st.sampled_from([(), (BLOBS[0],), (BLOBS[1], BLOBS[2])]),
    )
    def start(self, owner, thread, key, input_hash, when_busy, blob) -> None:
        name = f"run-{next(self.names)}"
        self.both(
            new_run(
                name,
                owner=owner,
                thread=thread,
                key=key,
                input_hash=input_hash,
                when_busy=when_busy,
                first=event(1, blobs=blob),
            )
        )

    @rule(base=NUMBERS, owner=OWNERS)
    def fork(self, base, owner) -> None:
        row = self.model.numbered(base)
        if row is not None:
            name = f"run-{next(self.names)}"
            cut = max(1, row.offset - 1)
            self.both(
                new_run(
                    name,
                    owner=owner,
                    thread=row.thread,
                    first=event(cut + 1),
                    base=base,
                    base_offset=cut,
                )
            )

    @rule(
        number=NUMBERS,
        epoch=EPOCHS,
        count=st.integers(0, 3),
        status=STATUSES,
        due=st.sampled_from([None, 5.0, 50.0]),
        body=BODIES,
        snaps=st.booleans(),
    )
    def append(self, number, epoch, count, status, due, body, snaps) -> None:
        row = self.model.numbered(number)
        after = row.offset if row is not None else 1
        # Those of one transaction have checksums that lead up to the last, as a writer's do.
        events = following(row, *[body] * count) if row is not None else (event(2),) * (count > 0)
        snapshot = Snapshot(after, 7, "1", body, 1) if snaps else None
        self.both(Append(number, epoch, events, status, due, snapshot))

    @rule(number=NUMBERS, owner=st.sampled_from(["a", "b"]), from_owner=OWNERS)
    def take(self, number, owner, from_owner) -> None:
        self.both(Take(number, owner, from_owner))

    @rule(number=NUMBERS, epoch=EPOCHS, to=st.sampled_from([None, PARKED]))
    def release(self, number, epoch, to) -> None:
        self.both(Release(number, epoch, to))

    @rule(
        number=NUMBERS,
        kind=st.sampled_from(["answer", "cancel"]),
        name=st.sampled_from(["p", "q"]),
    )
    def post(self, number, kind, name) -> None:
        self.both(Post(number, kind, name, '"said"', 1.0))

    @rule(number=NUMBERS, epoch=EPOCHS, keep=st.booleans())
    def clear(self, number, epoch, keep) -> None:
        letters = self.model.letters([number])
        shown = self.opened.letters([number])
        self.letter_ids |= {a.id: b.id for a, b in zip(letters, shown, strict=True)}
        ids = tuple(letter.id for letter in letters[:1])
        self.both(Clear(number, epoch, () if keep else ids, ids if keep else ()))

    @rule(number=NUMBERS, name=NAMES, scope=SCOPES, text=TEXTS, thread=THREADS)
    def write_a_note(self, number, name, scope, text, thread) -> None:
        row = self.model.numbered(number)
        if row is not None:
            changes = {"scope": scope, "run": row.id, "thread": thread, "at": float(row.offset)}
            events = following(row, "{}")
            written = note(f"{number} {name}", text, **changes)
            self.both(Append(number, row.epoch, events, notes=(written,)))

    @rule(number=NUMBERS, scope=st.sampled_from([None, "", "s"]), other=NUMBERS)
    def forget_notes(self, number, scope, other) -> None:
        row, meant = self.model.numbered(number), self.model.numbered(other)
        if row is not None and meant is not None:
            forget = Forget("default", scope=scope, run=meant.id)
            self.both(Append(number, row.epoch, following(row, "{}"), notes=(forget,)))

    @rule(threads=st.sampled_from([None, (), ("t",), ("t", "u")]))
    def remove_notes(self, threads) -> None:
        self.both(RemoveNotes("default", threads))

    @rule(numbers=st.sets(NUMBERS, max_size=4), thread=THREADS)
    def remove(self, numbers, thread) -> None:
        self.both(Remove(tuple(sorted(numbers)), "default", thread))

    @rule(thread=st.sampled_from(["t", "u"]))
    def remove_a_conversation(self, thread) -> None:
        numbers = tuple(row.number for row in self.model.runs(thread=thread))
        self.both(Remove(numbers, "default", thread, 0.0))

    @rule(number=NUMBERS, epoch=EPOCHS)
    def several_in_one_transaction(self, number, epoch) -> None:
        row = self.model.numbered(number)
        after = row.offset if row is not None else 1
        self.both(
            Post(number, "cancel", "", "null", 1.0),
            Append(number, epoch, (event(after + 1),)),
            Release(number, epoch),
        )

    @rule(dead=st.sets(st.sampled_from(["a", "b"])), now=st.sampled_from([0.0, 10.0, 99.0]))
    def look_for_work(self, dead, now) -> None:
        asked = ([("flow", "1")], sorted(dead), now)
        assert self.opened.takeable(*asked) == self.model.takeable(*asked)
        assert self.model.owners() == sorted(self.opened.owners())
        for owner in ("a", "b"):
            assert self.opened.unbegun(owner) == self.model.unbegun(owner)

    @rule(number=NUMBERS)
    def read(self, number) -> None:
        assert self.model.numbered(number) == self.opened.numbered(number)
        for after in (0, 2):
            events = self.opened.events(number, after=after)
            assert self.model.events(number, after=after) == events
        assert self.model.snapshot(number) == self.opened.snapshot(number)
        letters = [
            [(letter.kind, letter.name, letter.body) for letter in store.letters([number])]
            for store in (self.model, self.opened)
        ]
        assert letters[0] == letters[1]

    @invariant()
    def the_lists_are_equal(self) -> None:
        if hasattr(self, "model"):
            for thread in (None, "t"):
                assert self.opened.runs(thread=thread) == self.model.runs(thread=thread)
            assert self.opened.turns("default", "t") == self.model.turns("default", "t")
            for asked in (("", 99), ("tea", 99), ("green tea", 3)):
                found = [s.notes("default", ["", "s"], *asked) for s in (self.model, self.opened)]
                assert found[0] == found[1]
            for blob in BLOBS:
                assert self.opened.blob(blob.digest) == self.model.blob(blob.digest)


def plain(item):
    """Return a result in a form that can be compared."""
    if isinstance(item, Exception):
        return type(item)
    return (item.row, item.is_new) if isinstance(item, Started) else item


def try_steps(fresh: Callable[[], Store], steps: int) -> None:
    each = 50
    options = settings(
        max_examples=steps // each,
        stateful_step_count=each,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    opened = type("Opened", (Stores,), {"fresh": staticmethod(fresh)})
    run_state_machine_as_test(opened, settings=options)


STEPS = [1_000, pytest.param(10_000, marks=[pytest.mark.slow, pytest.mark.timeout(900)])]


@pytest.mark.parametrize("steps", STEPS)
def test_sqlite_does_what_the_model_does(steps, tmp_path):
    places = itertools.count()
    try_steps(lambda: SqliteStore(tmp_path / f"{next(places)}.db"), steps)


@pytest.mark.parametrize("steps", STEPS)
def test_postgres_does_what_the_model_does(steps, postgres_url):
    tables = "runs, events, snapshots, letters, blobs, blob_uses, notes"

    def fresh() -> PostgresStore:
        store = PostgresStore(postgres_url)
        store._link.get().execute(f"TRUNCATE {tables} RESTART IDENTITY")
        return store

    try_steps(fresh, steps)
