"""The journal in SQLite: the default, for one machine.

Write-ahead log with `synchronous=FULL`: a commit survives a power cut. The store never waits for
another process's lock (`busy_timeout=0`); the writer tries again instead, so that no wait inside
SQLite holds the event loop. An owner shows that it lives by a lock on a file of its own, which the
operating system frees whatever way the process ends.
"""

import fcntl
import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path

from crew.errors import Fenced, KeyReused, RunNotFound, StoreError, ThreadBusy
from crew.journal import (
    OPEN,
    Append,
    Busy,
    Clear,
    Letter,
    NewRun,
    Operation,
    Post,
    Release,
    RunRow,
    RunStatus,
    Started,
    StoredEvent,
    Take,
)
from crew.journal.memory import busy, reused, row_of
from crew.journal.sqlite_file import connect, explain, is_busy, prepare, refuse_network_filesystem

Connect = Callable[[str], sqlite3.Connection]

_COLUMNS = (
    "number, id, tenant, workflow, version, key, input_hash, thread, turn, parent, status, owner, "
    "epoch, last_offset, crc, created_at, updated_at"
)
_SHIFT = 1 << 32


class SqliteStore:
    """One SQLite file, and a folder of lock files beside it.

    Args:
        path: the database's file; it and its folder are made if missing.
        opener: opens a connection; tests put faults in here.
        mounts: a file in the form of /proc/self/mounts.

    Raises:
        StoreError: not a database, corrupt, from a newer release, or on a network filesystem.
    """

    def __init__(
        self,
        path: Path | str,
        *,
        opener: Connect = connect,
        mounts: Path = Path("/proc/self/mounts"),
    ) -> None:
        self.path = Path(path).absolute()
        self.url = f"sqlite:///{self.path}"
        self._opener = opener
        self._locks: dict[str, int] = {}
        self._owners_folder = self.path.with_name(self.path.name + ".owners")
        refuse_network_filesystem(self.path, mounts)
        with self._errors("open"):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._owners_folder.mkdir(exist_ok=True)
        self._connection: sqlite3.Connection | None = None
        self._connected()

    def commit(self, operations: Sequence[Operation]) -> list[object]:
        with self._errors("write"):
            db = self._connected()
            try:
                db.execute("BEGIN IMMEDIATE")
                results = [self._apply(db, operation) for operation in operations]
                db.execute("COMMIT")
            except BaseException as error:
                self._after_failed_commit(db, error)
                raise
            return results

    def _after_failed_commit(self, db: sqlite3.Connection, error: BaseException) -> None:
        if db.in_transaction:
            db.rollback()
        if not is_busy(error):
            # What a failed commit left in this connection is not to be trusted.
            self.close_connection()

    def _apply(self, db: sqlite3.Connection, operation: Operation) -> object:
        match operation:
            case NewRun():
                return self._start(db, operation)
            case Append():
                return self._append(db, operation)
            case Take():
                return self._take(db, operation)
            case Release(number=number, epoch=epoch, to=to):
                db.execute(
                    "UPDATE runs SET owner = ? WHERE number = ? AND epoch = ?", (to, number, epoch)
                )
            case Post():
                db.execute(
                    "INSERT INTO letters (number, kind, name, body, at) VALUES (?, ?, ?, ?, ?)",
                    (
                        operation.number,
                        operation.kind,
                        operation.name,
                        operation.body,
                        operation.at,
                    ),
                )
            case Clear(letters=letters):
                db.executemany("DELETE FROM letters WHERE id = ?", [(item,) for item in letters])
        return None

    def _start(self, db: sqlite3.Connection, new: NewRun) -> Started | KeyReused | ThreadBusy:
        if new.key is not None and (found := self._by_key(db, new)) is not None:
            return Started(found, False) if found.input_hash == new.input_hash else reused(new)
        turn = None
        if new.thread is not None:
            if new.when_busy == "reject" and self._thread_is_open(db, new):
                return busy(new)
            (last,) = db.execute(
                "SELECT max(turn) FROM runs WHERE tenant = ? AND thread = ?",
                (new.tenant, new.thread),
            ).fetchone()
            turn = (last or 0) + 1
        # The number is None for SQLite to give; the row is made first to share its order.
        values = _row_values(row_of(0, new, turn))
        marks = ", ".join("?" * len(values))
        number = db.execute(
            f"INSERT INTO runs ({_COLUMNS}) VALUES ({marks})",  # noqa: S608  constants
            (None, *values[1:]),
        ).lastrowid
        assert number is not None
        _insert_events(db, number, (new.first,))
        return Started(row_of(number, new, turn), True)

    def _by_key(self, db: sqlite3.Connection, new: NewRun) -> RunRow | None:
        return _one(
            db,
            "WHERE tenant = ? AND workflow = ? AND key = ?",
            (new.tenant, new.workflow, new.key),
        )

    def _thread_is_open(self, db: sqlite3.Connection, new: NewRun) -> bool:
        query = (
            "SELECT 1 FROM runs WHERE tenant = ? AND thread = ? "
            "AND status IN ('running', 'waiting') LIMIT 1"
        )
        return db.execute(query, (new.tenant, new.thread)).fetchone() is not None

    def _append(self, db: sqlite3.Connection, append: Append) -> Fenced | None:
        last = append.events[-1] if append.events else None
        ended = append.status is not None and append.status not in OPEN
        changed = db.execute(
            "UPDATE runs SET status = coalesce(?, status), last_offset = coalesce(?, last_offset), "
            "crc = coalesce(?, crc), updated_at = coalesce(?, updated_at), "
            "owner = CASE WHEN ? THEN NULL ELSE owner END WHERE number = ? AND epoch = ?",
            (
                append.status,
                last.offset if last else None,
                last.crc if last else None,
                last.at if last else None,
                ended,
                append.number,
                append.epoch,
            ),
        ).rowcount
        if changed == 0:
            row = _one(db, "WHERE number = ?", (append.number,))
            return Fenced(run=row.id if row else str(append.number))
        _insert_events(db, append.number, append.events)
        return None

    def _take(self, db: sqlite3.Connection, take: Take) -> RunRow | Fenced | RunNotFound:
        changed = db.execute(
            "UPDATE runs SET owner = ?, epoch = epoch + 1 WHERE number = ? AND owner IS ? "
            "AND status IN ('running', 'waiting')",
            (take.owner, take.number, take.from_owner),
        ).rowcount
        row = _one(db, "WHERE number = ?", (take.number,))
        if row is None:
            return RunNotFound(run=str(take.number))
        return row if changed else Fenced(run=row.id)

    def run(self, run_id: str, *, tenant: str | None = None) -> RunRow | None:
        with self._errors("read"):
            where, values = "WHERE id = ?", [run_id]
            if tenant is not None:
                where, values = where + " AND tenant = ?", [run_id, tenant]
            return _one(self._connected(), where, values)

    def runs(
        self,
        *,
        tenant: str | None = None,
        status: Sequence[RunStatus] = (),
        thread: str | None = None,
        limit: int = 1000,
    ) -> list[RunRow]:
        conditions, values = ["1"], list[object]()
        for column, value in (("tenant", tenant), ("thread", thread)):
            if value is not None:
                conditions.append(f"{column} = ?")
                values.append(value)
        if status:
            conditions.append(f"status IN ({', '.join('?' * len(status))})")
            values += status
        where = f"WHERE {' AND '.join(conditions)} ORDER BY number DESC LIMIT ?"
        return self._rows(where, [*values, limit])

    def takeable(self) -> list[RunRow]:
        return self._rows(
            "AS r WHERE status IN ('running', 'waiting') AND (thread IS NULL OR NOT EXISTS ("
            "SELECT 1 FROM runs AS earlier WHERE earlier.tenant = r.tenant "
            "AND earlier.thread = r.thread AND earlier.turn < r.turn "
            "AND earlier.status IN ('running', 'waiting'))) ORDER BY number",
            [],
        )

    def turns(self, tenant: str, thread: str) -> list[RunRow]:
        return self._rows("WHERE tenant = ? AND thread = ? ORDER BY turn", [tenant, thread])

    def events(self, number: int, *, after: int = 0, limit: int = 1024) -> list[StoredEvent]:
        first = number * _SHIFT
        with self._errors("read"):
            rows = self._connected().execute(
                "SELECT id - ?, kind, path, body, crc, at FROM events "
                "WHERE id > ? AND id < ? ORDER BY id LIMIT ?",
                (first, first + after, first + _SHIFT, limit),
            )
            return [StoredEvent(*row) for row in rows]

    def letters(self, numbers: Sequence[int]) -> list[Letter]:
        wanted = set(numbers)
        with self._errors("read"):
            rows = self._connected().execute(
                "SELECT id, number, kind, name, body FROM letters ORDER BY id"
            )
            return [Letter(*row) for row in rows if row[1] in wanted]

    def changed(self) -> int:
        with self._errors("read"):
            (version,) = self._connected().execute("PRAGMA data_version").fetchone()
            return int(version)

    def claim_owner(self, owner: str) -> None:
        with self._errors("lock"):
            handle = os.open(self._lock_file(owner), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self._locks[owner] = handle

    def release_owner(self, owner: str) -> None:
        if (handle := self._locks.pop(owner, None)) is not None:
            self._lock_file(owner).unlink(missing_ok=True)
            os.close(handle)

    def owner_lives(self, owner: str) -> bool:
        if owner in self._locks:
            return True
        try:
            handle = os.open(self._lock_file(owner), os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        else:
            self._lock_file(owner).unlink(missing_ok=True)
            return False
        finally:
            os.close(handle)

    def close(self) -> None:
        for owner in list(self._locks):
            self.release_owner(owner)
        self.close_connection()

    def close_connection(self) -> None:
        """Drop the connection; the next use opens a new one."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _lock_file(self, owner: str) -> Path:
        return self._owners_folder / owner

    def _rows(self, where: str, values: Sequence[object]) -> list[RunRow]:
        with self._errors("read"):
            query = f"SELECT {_COLUMNS} FROM runs {where}"  # noqa: S608  constants
            return [RunRow(*row) for row in self._connected().execute(query, values)]

    def _connected(self) -> sqlite3.Connection:
        if self._connection is None:
            with self._errors("open"):
                db = self._opener(str(self.path))
                try:
                    prepare(db, self.path)
                except BaseException:
                    db.close()
                    raise
                self._connection = db
        return self._connection

    @contextmanager
    def _errors(self, action: str) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            if is_busy(error):
                raise Busy from error
            raise StoreError(message=explain(action, self.path, error)) from error
        except OSError as error:
            raise StoreError(message=explain(action, self.path, error)) from error


def _insert_events(db: sqlite3.Connection, number: int, events: Sequence[StoredEvent]) -> None:
    first = number * _SHIFT
    db.executemany(
        "INSERT INTO events (id, kind, path, body, crc, at) VALUES (?, ?, ?, ?, ?, ?)",
        [(first + e.offset, e.kind, e.path, e.body, e.crc, e.at) for e in events],
    )


def _one(db: sqlite3.Connection, where: str, values: Sequence[object]) -> RunRow | None:
    query = f"SELECT {_COLUMNS} FROM runs {where}"  # noqa: S608  constants
    row = db.execute(query, values).fetchone()
    return RunRow(*row) if row else None


def _row_values(row: RunRow) -> tuple[object, ...]:
    return tuple(getattr(row, item.name) for item in fields(row))
