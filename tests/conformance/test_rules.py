"""One table says what each operation meets in each state of a run: for all stores and the rules."""

import pytest

from crew.errors import AskError, Fenced, KeyReused, RunNotFound, ThreadBusy
from crew.journal import (
    PARKED,
    Append,
    Clear,
    Post,
    Release,
    Remove,
    RunRow,
    Started,
    Take,
    rules,
)
from crew.journal.memory import MemoryStore
from crew.journal.postgres import PostgresStore
from crew.journal.sqlite import SqliteStore
from crew.testing.store_suite import event, new_run

GIVEN = {"key": "k", "input_hash": "h", "thread": "t"}
ANSWER = Post(1, "answer", "q", "1", 1.0, key="one")
FORK = new_run("fork", first=event(3), base=1, base_offset=2, thread="t")


def ended(status, *before):
    return (*before, Append(1, 1, (event(2),), status))


# What makes each state, after the run was started. Letters have numbers from 1.
STATES = {
    "none": None,
    "runs": (),
    "free": (Release(1, 1),),
    "waits": (Append(1, 1, (event(2),), "waiting", 9.0),),
    "parks": (Append(1, 1, (), "waiting"), Release(1, 1, PARKED)),
    "taken": (ANSWER, Take(1, "you", "me")),
    "told": (ANSWER,),
    "kept": (ANSWER, Clear(1, 1, (), (1,))),
    "ended": ended("completed"),
    "fails": ended("failed"),
    "stops": ended("cancelled"),
    "after": ended("completed", ANSWER),
    "forks": (*ended("completed"), FORK),
}

OPERATIONS = {
    "append": Append(1, 1, (event(3),)),
    "append epoch 2": Append(1, 2, (event(3),)),
    "status alone": Append(1, 1, (), "waiting", 5.0),
    "end": Append(1, 1, (event(3),), "failed"),
    "take from me": Take(1, "them", "me"),
    "take from nobody": Take(1, "them", None),
    "take from you": Take(1, "them", "you"),
    "take a parked one": Take(1, "them", PARKED),
    "release": Release(1, 1),
    "release epoch 2": Release(1, 2),
    "leave to somebody": Release(1, 1, "them"),
    "answer": Post(1, "answer", "q", "2", 2.0),
    "answer, key one": Post(1, "answer", "q", "2", 2.0, key="one"),
    "answer, key two": Post(1, "answer", "q", "2", 2.0, key="two"),
    "answer elsewhere": Post(1, "answer", "p", "2", 2.0),
    "cancel": Post(1, "cancel", "", "null", 2.0),
    "clear": Clear(1, 1, (1,)),
    "clear epoch 2": Clear(1, 2, (1,)),
    "start again": new_run("b", **GIVEN),
    "start, other input": new_run("b", **{**GIVEN, "input_hash": "i"}),
    "start, other thread": new_run("b", **{**GIVEN, "thread": "u"}),
    "start, no thread": new_run("b", **{**GIVEN, "thread": None}),
    "start a turn": new_run("b", thread="t"),
    "start if idle": new_run("b", thread="t", when_busy="reject"),
    "start in its place": new_run("b", thread="t", when_busy="cancel"),
    "start elsewhere": new_run("b", thread="u", when_busy="reject"),
    "remove": Remove((1,)),
    "remove thread": Remove((1,), "default", "t"),
    "remove its rest": Remove((), "default", "t"),
    "remove as it was": Remove((1,), "default", "t", 0.0),
    "remove if changed": Remove((1,), "default", "t", 7.0),
}

# `used`: the run has not ended, or its thread goes on; `stay`: nothing is removed, for a fork, or
# since nothing is there.
REFUSALS = {
    Fenced: "lost",
    RunNotFound: "none",
    AskError: "late",
    KeyReused: "key",
    ThreadBusy: "busy",
}

TABLE = """
                   |none|runs|free|waits|parks|taken|told|kept|ended|fails|stops|after|forks
append             |lost|done|done|done |done |lost |done|done|lost |lost |lost |lost |lost
append epoch 2     |lost|lost|lost|lost |lost |done |lost|lost|lost |lost |lost |lost |lost
status alone       |lost|done|done|done |done |lost |done|done|lost |lost |lost |lost |lost
end                |lost|done|done|done |done |lost |done|done|lost |lost |lost |lost |lost
take from me       |none|done|lost|done |lost |lost |done|done|lost |lost |lost |lost |lost
take from nobody   |none|lost|done|lost |lost |lost |lost|lost|lost |lost |lost |lost |lost
take from you      |none|lost|lost|lost |lost |done |lost|lost|lost |lost |lost |lost |lost
take a parked one  |none|lost|lost|lost |done |lost |lost|lost|lost |lost |lost |lost |lost
release            |-   |done|-   |done |done |-    |done|done|-    |-    |-    |-    |-
release epoch 2    |-   |-   |-   |-    |-    |done |-   |-   |-    |-    |-    |-    |-
leave to somebody  |-   |done|done|done |done |-    |done|done|-    |-    |-    |-    |-
answer             |none|done|done|done |done |late |late|late|late |late |late |late |late
answer, key one    |none|done|done|done |done |-    |-   |-   |late |late |late |-    |late
answer, key two    |none|done|done|done |done |late |late|late|late |late |late |late |late
answer elsewhere   |none|done|done|done |done |done |done|done|late |late |late |late |late
cancel             |none|done|done|done |done |done |done|done|-    |-    |-    |-    |-
clear              |-   |-   |-   |-    |-    |-    |done|-   |-    |-    |-    |-    |-
clear epoch 2      |-   |-   |-   |-    |-    |done |-   |-   |-    |-    |-    |-    |-
start again        |new |same|same|same |same |same |same|same|same |same |same |same |same
start, other input |new |key |key |key  |key  |key  |key |key |key  |key  |key  |key  |key
start, other thread|new |key |key |key  |key  |key  |key |key |key  |key  |key  |key  |key
start, no thread   |new |key |key |key  |key  |key  |key |key |key  |key  |key  |key  |key
start a turn       |new |new |new |new  |new  |new  |new |new |new  |new  |new  |new  |new
start if idle      |new |busy|busy|busy |busy |busy |busy|busy|new  |new  |new  |new  |new
start in its place |new |new |new |new  |new  |new  |new |new |new  |new  |new  |new  |new
start elsewhere    |new |new |new |new  |new  |new  |new |new |new  |new  |new  |new  |new
remove             |stay|used|used|used |used |used |used|used|gone |gone |gone |gone |stay
remove thread      |stay|used|used|used |used |used |used|used|gone |gone |gone |gone |used
remove its rest    |stay|used|used|used |used |used |used|used|used |used |used |used |used
remove as it was   |stay|used|used|used |used |used |used|used|gone |gone |gone |gone |used
remove if changed  |used|used|used|used |used |used |used|used|used |used |used |used |used
"""


def expected():
    header, *lines = [line.split("|") for line in TABLE.strip("\n").splitlines()]
    states = [name.strip() for name in header[1:]]
    return {
        (state, name.strip()): cell.strip()
        for name, *cells in lines
        for state, cell in zip(states, cells, strict=True)
    }


def stand(store, state):
    """Bring a store to a state."""
    made = STATES[state]
    if made is not None:
        operations = [new_run("a", **GIVEN), *made]
        assert not any(isinstance(item, Exception) for item in store.commit(operations))


def seen(store):
    """Return all that an operation may change."""
    letters = [(item.kind, item.name, item.body, item.key) for item in store.letters([1, 2])]
    answers = [store.answers("default", key) for key in ("one", "two")]
    return store.runs(), letters, answers, store.events(1)


def by_store(store, operation):
    """Return what a store makes of an operation, and whether that changed anything."""
    before = seen(store)
    (result,) = store.commit([operation])
    has_changed = seen(store) != before
    said = named(operation, result, has_changed)
    assert has_changed is (said in ("done", "new", "gone"))
    return said


def named(operation, result, has_changed):
    match result:
        case Exception():
            return REFUSALS[type(result)]
        case Started(is_new=is_new):
            return "new" if is_new else "same"
        case tuple() if isinstance(operation, Remove):
            return "gone" if result else "stay"
        case _ if isinstance(operation, Remove):
            return "used"
        case _:
            return "done" if has_changed else "-"


def by_rules(store, operation):
    """Return the same as the rules say it, of the rows that the store has."""
    row = store.numbered(1)
    match operation:
        case Append():
            found = rules.append(operation, row)
        case Take():
            found = rules.take(operation, row)
        case Release():
            found = rules.release(operation, row) or row
        case Post():
            found = by_letters(store, operation, row)
        case Clear():
            found = rules.clear(operation, row) and bool(store.letters([1]))
        case Remove():
            found = by_rows(store, operation)
        case _:
            found = by_key_and_thread(store, operation)
    if isinstance(found, bool):
        return "done" if found else "-"
    is_changed = isinstance(found, RunRow) and found != row
    return "new" if found == "new" else named(operation, found, is_changed)


def by_letters(store, post, row):
    letters = [item for item in store._answers(1) if item.name == post.name]
    return rules.post(post, row, bool(letters), letters[0].key if letters else None)


def by_key_and_thread(store, new):
    known = next((row for row in store.runs() if new.key and row.key == new.key), None)
    open_turns = [row for row in store.turns("default", new.thread) if row.status == "running"]
    open_turns += [row for row in store.turns("default", new.thread) if row.status == "waiting"]
    return rules.start(new, known, open_turns) or "new"


def by_rows(store, remove):
    rows = store.runs()
    statuses = {row.number: row.status for row in rows if row.number in remove.numbers}
    conversation = [row.number for row in rows if remove.thread and row.thread == remove.thread]
    forks = [(row.base, row.number) for row in rows if row.base is not None]
    return rules.remove(remove, statuses, conversation, 0.0, forks)


@pytest.fixture(scope="module")
def tables(postgres_server):
    """A database of PostgreSQL for all cells."""
    url = postgres_server.new_database()
    store = PostgresStore(url)
    yield store
    store.close()
    postgres_server.drop(url)


@pytest.fixture(params=["memory", "sqlite", "postgres"])
def fresh(request, tmp_path):
    """What opens an empty store."""
    if request.param == "memory":
        return MemoryStore
    if request.param == "sqlite":
        return lambda: SqliteStore(tmp_path / f"{len(list(tmp_path.iterdir()))}.db")
    store = request.getfixturevalue("tables")
    names = "runs, events, snapshots, letters, blobs, blob_uses, threads"

    def emptied():
        store._link.get().execute(f"TRUNCATE {names} RESTART IDENTITY")
        return store

    return emptied


def met(fresh, state, outcome):
    """Return what each operation meets in a state."""
    found = {}
    for name, operation in OPERATIONS.items():
        store = fresh()
        stand(store, state)
        found[name] = outcome(store, operation)
        if isinstance(store, SqliteStore):
            store.close()
    return found


def column(state):
    return {name: cell for (of, name), cell in expected().items() if of == state}


@pytest.mark.parametrize("state", STATES)
def test_each_store_does_what_the_table_says(fresh, state):
    assert met(fresh, state, by_store) == column(state)


@pytest.mark.parametrize("state", STATES)
def test_the_rules_say_what_the_table_says(state):
    assert met(MemoryStore, state, by_rules) == column(state)
