"""What SQLite keeps of threads beside their runs: a row each, with a checksum of its own."""

import sqlite3
import zlib
from dataclasses import astuple

from crew.errors import StoreError
from crew.journal import KeepThread, ThreadRow, rules


def read_thread(db: sqlite3.Connection, tenant: str, thread: str) -> ThreadRow | None:
    """Return what is kept of a thread.

    Raises:
        StoreError: it is damaged.
    """
    query = "SELECT * FROM threads WHERE tenant = ? AND thread = ?"
    for *stored, check in db.execute(query, (tenant, thread)):
        row = ThreadRow(*stored)
        if check != _check(row):
            raise StoreError(
                message=f"what the store keeps of the thread {thread!r} is damaged; restore a "
                "backup; its runs are not affected"
            )
        return row
    return None


def keep_thread(db: sqlite3.Connection, keep: KeepThread) -> None:
    row = rules.keep(keep, read_thread(db, keep.tenant, keep.thread))
    db.execute(
        "INSERT OR REPLACE INTO threads VALUES (?, ?, ?, ?, ?, ?, ?)", (*astuple(row), _check(row))
    )


def changed_at(db: sqlite3.Connection, tenant: str, thread: str) -> float:
    """Return when what is kept of a thread was changed last; 0 if nothing is."""
    query = "SELECT updated_at FROM threads WHERE tenant = ? AND thread = ?"
    return next((at for (at,) in db.execute(query, (tenant, thread))), 0.0)


def forget_thread(db: sqlite3.Connection, tenant: str, thread: str) -> None:
    db.execute("DELETE FROM threads WHERE tenant = ? AND thread = ?", (tenant, thread))


def _check(row: ThreadRow) -> int:
    return zlib.crc32(repr(astuple(row)).encode("utf-8", "surrogatepass"))
