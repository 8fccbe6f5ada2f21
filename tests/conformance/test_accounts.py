"""One table says what a draw and a settlement meet in each state of accounts: for all stores."""

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from crew.budget import Account
from crew.errors import BudgetExceeded, Fenced
from crew.journal import AccountRow, Append, Busy, Draw, Drawn, Remove, Settle, Take
from crew.journal.memory import MemoryStore
from crew.journal.postgres import PostgresStore
from crew.journal.sqlite import SqliteStore
from crew.testing.store_suite import event, new_run

TOP, CALL, CHILD = Account("a", 100, 5), Account("a:step/call", 60), Account("b")
PARENTS = Settle(1, 1, (), (("a", Drawn(10, 1)), (CALL.id, Drawn())))
CHILDS = Settle(2, 1, ("a", CALL.id), (("b", Drawn()),))


def draws(tokens, *, calls=1, **changes):
    """Return what the child draws for a call."""
    draw = Draw(2, 1, (TOP, CALL), (CHILD,), Drawn(tokens, calls, max(tokens, 0)), asks=True)
    return replace(draw, **changes)


# What makes each state, after the parent has drawn 10 tokens and a call.
STATES = {
    "new": (),
    "half": (draws(30),),
    "full": (draws(60),),
    "above full": (Draw(1, 1, (), (TOP,), Drawn(80, 1)), draws(10)),
    "no calls": (draws(1, calls=4),),
    "settled": (draws(60), Settle(2, 1, ("a", CALL.id), (("b", Drawn(40, 1)),))),
    "closed": (replace(PARENTS, ends=True),),
    "reopened": (replace(PARENTS, ends=True), PARENTS),
    "ended": (Append(2, 1, (event(2),), "completed"),),
    "taken": (Take(2, "you", "me"),),
    "alone": (Append(1, 1, (event(2),), "completed"), Remove((1,))),
}

OPERATIONS = {
    "ask for 10": draws(10),
    "ask for 30": draws(30),
    "ask for 61": draws(61),
    "ask for none": draws(0, calls=0),
    "give 10 back": draws(-10, calls=0, asks=False),
    "spend 90 more": draws(90, asks=False),
    "of an old epoch": draws(10, epoch=0),
    "settle": replace(CHILDS, held=(("b", Drawn(20, 1)),)),
    "end": replace(CHILDS, ends=True),
}

# What is left is refused: tok(ens), calls. Otherwise what is drawn of the parent's account then.
TABLE = """
               |new |half|full|above full|no calls|settled|closed|reopened|ended|taken|alone
ask for 10     |20  |50  |tok |tok       |calls   |60     |tok   |20      |lost |lost |tok
ask for 30     |40  |70  |tok |tok       |calls   |tok    |tok   |40      |lost |lost |tok
ask for 61     |tok |tok |tok |tok       |calls   |tok    |tok   |tok     |lost |lost |tok
ask for none   |10  |40  |70  |100       |11      |50     |10    |10      |lost |lost |-
give 10 back   |0   |30  |60  |90        |1       |40     |0     |0       |lost |lost |-
spend 90 more  |100 |130 |160 |190       |101     |140    |100   |100     |lost |lost |-
of an old epoch|lost|lost|lost|lost      |lost    |lost   |lost  |lost    |lost |lost |lost
settle         |30  |30  |30  |110       |30      |30     |30    |30      |lost |lost |-
end            |10  |10  |10  |90        |10      |10     |10    |10      |lost |lost |-
"""


def expected(state):
    header, *lines = [line.split("|") for line in TABLE.strip("\n").splitlines()]
    place = [name.strip() for name in header].index(state)
    return {cells[0].strip(): cells[place].strip() for cells in lines}


def stand(store, state):
    """Bring a store to a state."""
    runs = [new_run("a"), new_run("b", parent="a")]
    results = store.commit([*runs, PARENTS, CHILDS, *STATES[state]])
    assert not any(isinstance(item, Exception) for item in results)


def met(store, operation):
    (result,) = store.commit([operation])
    if isinstance(result, Fenced):
        return "lost"
    if isinstance(result, BudgetExceeded):
        return {"tokens": "tok", "calls": "calls"}[result.unit]
    assert isinstance(result, AccountRow) is isinstance(operation, Settle)
    return next((str(row.total.tokens) for row in store.accounts(["a"])), "-")


@pytest.fixture(params=["memory", "sqlite", "postgres"])
def fresh(request, tmp_path):
    """What opens an empty store."""
    if request.param == "memory":
        yield MemoryStore
    elif request.param == "sqlite":
        yield lambda: SqliteStore(tmp_path / f"{len(list(tmp_path.iterdir()))}.db")
    else:
        store = PostgresStore(request.getfixturevalue("postgres_url"))
        names = "runs, events, snapshots, letters, blobs, blob_uses, threads, accounts"

        def emptied():
            store._link.get().execute(f"TRUNCATE {names} RESTART IDENTITY")
            return store

        yield emptied
        store.close()


@pytest.mark.parametrize("state", STATES)
def test_each_store_does_what_the_table_says(fresh, state):
    found = {}
    for name, operation in OPERATIONS.items():
        store = fresh()
        stand(store, state)
        found[name] = met(store, operation)
        if isinstance(store, SqliteStore):
            store.close()
    assert found == expected(state)


def granted(store, number, times):
    """Draw for a run as often as that is granted, of two trees in turn; return how often it was."""
    trees = [(Account("a", 100), Account("b", 100)), (Account("b", 100), Account("a", 100))]
    count = 0
    for turn in range(times):
        above = trees[(turn + number) % 2]
        own = (Account(f"c{number}:{turn}"),)
        asked = [Draw(number, 1, (each,), own, Drawn(1, 1), asks=True) for each in above]
        while True:
            try:
                results = store.commit(asked)
                break
            except Busy:
                time.sleep(0.001)
        count += sum(result is None for result in results)
    return count


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_two_processes_together_are_granted_what_there_is(kind, request, tmp_path):
    url = request.getfixturevalue("postgres_url") if kind == "postgres" else tmp_path / "runs.db"
    first, second = [PostgresStore(url) if kind == "postgres" else SqliteStore(url) for _ in "12"]
    first.commit([new_run("a"), new_run("b")])
    first.commit([Settle(1, 1, (), (("a", Drawn()),)), Settle(2, 1, (), (("b", Drawn()),))])
    with ThreadPoolExecutor(2) as pool:
        counts = pool.map(granted, (first, second), (1, 2), (80, 80))
    assert sum(counts) == 200
    assert [row.total.tokens for row in first.accounts(["a", "b"])] == [100, 100]
    first.close()
    second.close()
