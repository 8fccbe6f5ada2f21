"""What SQLite keeps of threads beside their runs: a row each, with a checksum of its own."""

import sqlite3
import zlib
from collections.abc import Sequence
from dataclasses import astuple

from crew.errors import StoreError
from crew.journal import KeepThread, ThreadRow
from crew.journal.memory import kept


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
    row = kept(read_thread(db, keep.tenant, keep.thread), keep)
    db.execute(
        "INSERT OR REPLACE INTO threads VALUES (?, ?, ?, ?, ?, ?, ?)", (*astuple(row), _check(row))
    )


def forget_threads(db: sqlite3.Connection, tenant: str, threads: Sequence[str]) -> None:
    db.executemany(
        "DELETE FROM threads WHERE tenant = ? AND thread = ?", [(tenant, name) for name in threads]
    )


def _check(row: ThreadRow) -> int:
    return zlib.crc32(repr(astuple(row)).encode("utf-8", "surrogatepass"))
