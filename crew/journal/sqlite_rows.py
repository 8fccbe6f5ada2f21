"""The rows of runs in SQLite: each has a checksum of its own, so that none is read that is damaged.

A row is never changed in place: it is read and verified, then written whole. A change of one column
would give a new checksum to whatever the others hold by then.
"""

import sqlite3
import zlib
from collections.abc import Sequence

from crew.errors import StoreError
from crew.journal import RunRow

_COLUMNS = (
    "number, id, tenant, workflow, version, key, input_hash, thread, turn, parent, status, owner, "
    "epoch, last_offset, crc, created_at, updated_at, base, base_offset, due"
)
_TIMES = frozenset({"created_at", "updated_at", "due"})


def read_rows(db: sqlite3.Connection, where: str, values: Sequence[object]) -> list[RunRow]:
    """Return the rows that `where`, the rest of a SELECT, finds.

    Raises:
        StoreError: one of them is damaged.
    """
    rows, problem = sound_rows(db, where, values)
    if problem is not None:
        raise problem
    return rows


def sound_rows(
    db: sqlite3.Connection, where: str, values: Sequence[object]
) -> tuple[list[RunRow], StoreError | None]:
    """Return the rows found that are not damaged, and what is to be said of the others."""
    query = f"SELECT {_COLUMNS}, row_crc FROM runs {where}"  # noqa: S608  constants
    rows, problem = list[RunRow](), None
    for *stored, check in db.execute(query, values):
        row = RunRow(*stored)
        if check == _check(stored):
            rows.append(row)
        else:
            problem = StoreError(
                message=f"what the store knows of run {row.id} (number {row.number}) is damaged; "
                "restore a backup; other runs are not affected"
            )
    return rows, problem


def read_row(db: sqlite3.Connection, where: str, values: Sequence[object]) -> RunRow | None:
    """Return the row found, if there is one.

    Raises:
        StoreError: it is damaged.
    """
    rows = read_rows(db, where, values)
    return rows[0] if rows else None


def insert_row(db: sqlite3.Connection, row: RunRow) -> RunRow:
    """Add a row; it is returned with the number that it got."""
    marks = ", ".join("?" * len(row))
    number = db.execute(
        f"INSERT INTO runs ({_COLUMNS}) VALUES ({marks})",  # noqa: S608  constants
        (None, *row[1:]),
    ).lastrowid
    assert number is not None
    row = row._replace(number=number)
    db.execute("UPDATE runs SET row_crc = ? WHERE number = ?", (_check(row), number))
    return row


def update_row(db: sqlite3.Connection, row: RunRow) -> int:
    """Write what may change of a row that was read in this transaction; return its checksum."""
    check = _check(row)
    db.execute(
        "UPDATE runs SET status = ?, owner = ?, epoch = ?, last_offset = ?, crc = ?, "
        "updated_at = ?, due = ?, row_crc = ? WHERE number = ?",
        (
            row.status,
            row.owner,
            row.epoch,
            row.offset,
            row.crc,
            row.updated_at,
            row.due,
            check,
            row.number,
        ),
    )
    return check


def follow_row(db: sqlite3.Connection, before: RunRow, check: int, row: RunRow) -> int | None:
    """Write what an append changes, if the row is still as it was with the checksum `check`.

    Return the new checksum; None if the row is another one by now. All of the row that is not
    written is known from `before`, so that damage to it does not get a checksum that fits.
    """
    changed = _check(row)
    place = (row.number, before.epoch, before.offset, check)
    found = db.execute(
        "UPDATE runs SET last_offset = ?, crc = ?, updated_at = ?, row_crc = ? "
        "WHERE number = ? AND epoch = ? AND last_offset = ? AND row_crc = ?",
        (row.offset, row.crc, row.updated_at, changed, *place),
    )
    return changed if found.rowcount else None


def _check(values: Sequence[object]) -> int:
    # Times come back as floats, whatever they were.
    plain = [
        float(value) if name in _TIMES and isinstance(value, int) else value
        for name, value in zip(RunRow._fields, values, strict=True)
    ]
    return zlib.crc32(repr(plain).encode("utf-8", "surrogatepass"))
