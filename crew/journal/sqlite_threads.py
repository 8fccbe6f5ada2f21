"""What SQLite keeps of threads beside their runs: a row each, with a checksum of its own."""

import sqlite3
import zlib
from dataclasses import astuple

from crew.errors import InputInvalid, StoreError
from crew.journal import KeepThread, ThreadRow, rules

_COLUMNS = "tenant, thread, metadata, opening, created_at, updated_at, base, base_turn, row_crc"


def read_thread(db: sqlite3.Connection, tenant: str, thread: str) -> ThreadRow | None:
    """Return what is kept of a thread.

    Raises:
        StoreError: it is damaged.
    """
    return next(iter(_read(db, "WHERE tenant = ? AND thread = ?", (tenant, thread))), None)


def read_branches(db: sqlite3.Connection, tenant: str, thread: str) -> list[ThreadRow]:
    """Return the threads that stand on this one.

    Raises:
        StoreError: one of them is damaged.
    """
    return _read(db, "WHERE tenant = ? AND base = ? ORDER BY created_at, thread", (tenant, thread))


def _read(db: sqlite3.Connection, where: str, values: tuple[str, str]) -> list[ThreadRow]:
    rows = list[ThreadRow]()
    query = f"SELECT {_COLUMNS} FROM threads {where}"  # noqa: S608  constants
    for *stored, check in db.execute(query, values):
        row = ThreadRow(*stored)
        if check != _check(row):
            raise StoreError(
                message=f"what the store keeps of the thread {row.thread!r} is damaged; restore a "
                "backup; its runs are not affected"
            )
        rows.append(row)
    return rows


def keep_thread(db: sqlite3.Connection, keep: KeepThread) -> InputInvalid | None:
    before = read_thread(db, keep.tenant, keep.thread)
    row = rules.keep(keep, before, _may_be_based(db, keep))
    if isinstance(row, InputInvalid):
        return row
    values = (*astuple(row), _check(row))
    if before is None:
        marks = ", ".join("?" * len(values))
        db.execute(f"INSERT INTO threads ({_COLUMNS}) VALUES ({marks})", values)  # noqa: S608
    else:
        changed = "UPDATE threads SET metadata = ?, updated_at = ?, row_crc = ? "
        place = (row.tenant, row.thread)
        db.execute(
            changed + "WHERE tenant = ? AND thread = ?",
            (row.metadata, row.updated_at, values[-1], *place),
        )
    return None


def _may_be_based(db: sqlite3.Connection, keep: KeepThread) -> bool:
    if keep.base is None:
        return True
    query = (
        "SELECT status FROM runs WHERE tenant = ? AND thread = ? AND turn IS NOT NULL "
        "AND (turn = ? OR turn < ? AND status IN ('running', 'waiting'))"
    )
    rows = db.execute(query, (keep.tenant, keep.base, keep.base_turn, keep.base_turn))
    statuses = [status for (status,) in rows]
    return rules.may_be_base(keep.base_turn, read_thread(db, keep.tenant, keep.base), statuses)


def last_turn(db: sqlite3.Connection, tenant: str, thread: str) -> int:
    """Return the number of a thread's last turn; of a branch without turns, that of its base."""
    query = "SELECT max(turn) FROM runs WHERE tenant = ? AND thread = ? AND turn IS NOT NULL"
    (last,) = db.execute(query, (tenant, thread)).fetchone()
    if last is not None:
        return int(last)
    kept = read_thread(db, tenant, thread)
    return max(0, kept.base_turn) if kept is not None else 0


def has_branches(db: sqlite3.Connection, tenant: str, thread: str) -> bool:
    """Return whether another thread stands on this one."""
    query = "SELECT 1 FROM threads WHERE tenant = ? AND base = ? LIMIT 1"
    return db.execute(query, (tenant, thread)).fetchone() is not None


def changed_at(db: sqlite3.Connection, tenant: str, thread: str) -> float:
    """Return when what is kept of a thread was changed last; 0 if nothing is."""
    query = "SELECT updated_at FROM threads WHERE tenant = ? AND thread = ?"
    return next((at for (at,) in db.execute(query, (tenant, thread))), 0.0)


def forget_thread(db: sqlite3.Connection, tenant: str, thread: str) -> None:
    db.execute("DELETE FROM threads WHERE tenant = ? AND thread = ?", (tenant, thread))


def _check(row: ThreadRow) -> int:
    return zlib.crc32(repr(astuple(row)).encode("utf-8", "surrogatepass"))
