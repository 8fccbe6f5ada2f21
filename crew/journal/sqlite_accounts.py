"""What SQLite keeps of accounts that runs share: a row each, with a checksum of its own."""

import json
import sqlite3
import zlib
from collections.abc import Sequence
from dataclasses import astuple

from crew.errors import BudgetExceeded, Fenced, StoreError
from crew.journal import AccountRow, Draw, Drawn, RunRow, Settle, accounts


def read_accounts(db: sqlite3.Connection, ids: Sequence[str]) -> list[AccountRow]:
    """Return what is drawn of accounts, of those that there are.

    Raises:
        StoreError: one of them is damaged.
    """
    marks = ", ".join("?" * len(ids))
    return _rows(db, f"id IN ({marks})", ids)


def _rows(db: sqlite3.Connection, where: str, values: Sequence[object]) -> list[AccountRow]:
    query = f"SELECT * FROM accounts WHERE {where}"  # noqa: S608  constants
    return [_sound(*stored) for stored in db.execute(query, values)]


def _sound(name: str, number: int, above: str, *stored: int) -> AccountRow:
    *counts, is_closed, check = stored
    if check != _check((name, number, above, *counts, is_closed)):
        raise StoreError(
            message=f"what the store keeps of the account {name} is damaged; restore a backup; "
            "runs without a part in it are not affected"
        )
    own, total = Drawn(*counts[:4]), Drawn(*counts[4:])
    return AccountRow(name, number, tuple(json.loads(above)), own, total, bool(is_closed))


def draw(db: sqlite3.Connection, draw: Draw, row: RunRow | None) -> Fenced | BudgetExceeded | None:
    changed = accounts.draw(draw, row, lambda ids: read_accounts(db, ids))
    if isinstance(changed, Exception):
        return changed
    _write(db, changed)
    return None


def settle(db: sqlite3.Connection, settle: Settle, row: RunRow | None) -> AccountRow | Fenced:
    held = _rows(db, "number = ?", (settle.number,))
    changed = accounts.settle(settle, row, held, lambda ids: read_accounts(db, ids))
    if isinstance(changed, Fenced):
        return changed
    _write(db, changed)
    return changed[0]


def _write(db: sqlite3.Connection, rows: Sequence[AccountRow]) -> None:
    for row in rows:
        values = _values(row)
        db.execute(
            "INSERT OR REPLACE INTO accounts VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (*values, _check(values)),
        )


def _values(row: AccountRow) -> tuple[object, ...]:
    counts = (*astuple(row.own), *astuple(row.total))
    return (row.id, row.number, json.dumps(row.above), *counts, int(row.is_closed))


def _check(values: Sequence[object]) -> int:
    return zlib.crc32(repr(tuple(values)).encode("utf-8", "surrogatepass"))
