"""The journal in SQLite: the default, for one machine.

Write-ahead log with `synchronous=FULL`: a commit survives a power cut. The store never waits for
another process's lock (`busy_timeout=0`); the writer tries again instead, so that no wait inside
SQLite holds the event loop.
"""

import json
import sqlite3
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import assert_never

from crew.errors import AskError, Fenced, KeyReused, RunNotFound, StoreError, ThreadBusy
from crew.journal import (
    PARKED,
    AccountRow,
    Append,
    Blob,
    Busy,
    Clear,
    Damaged,
    Draw,
    KeepThread,
    Letter,
    NewRun,
    Operation,
    Post,
    Release,
    Remove,
    RemoveNotes,
    RunRow,
    RunStatus,
    Settle,
    Sign,
    Snapshot,
    Started,
    StoredEvent,
    Take,
    ThreadRow,
    rules,
)
from crew.journal.datagrams import sockets_of
from crew.journal.deflate import Deflater
from crew.journal.notes import Note
from crew.journal.owner_files import OwnerFiles
from crew.journal.sqlite_accounts import draw, read_accounts, settle
from crew.journal.sqlite_blobs import Blobs
from crew.journal.sqlite_file import connect, explain, is_busy, prepare, refuse_network_filesystem
from crew.journal.sqlite_rows import (
    follow_row,
    insert_row,
    read_row,
    read_rows,
    sound_rows,
    update_row,
)
from crew.journal.sqlite_segments import insert_events, read_events, remove_events
from crew.journal.sqlite_threads import changed_at, forget_thread, keep_thread, read_thread

Connect = Callable[[str], sqlite3.Connection]


class _OperationFailed(Exception):
    """One operation of a transaction failed, so that nothing of it was written."""

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.error = error


_OPEN = "status IN ('running', 'waiting')"
_LETTER = "id, number, kind, name, coalesce(body, ''), at, key, seen"
_FIRST_IN_THREAD = (
    "(turn IS NULL OR NOT EXISTS (SELECT 1 FROM runs AS earlier WHERE earlier.tenant = r.tenant "
    "AND earlier.thread = r.thread AND earlier.turn < r.turn "
    "AND earlier.status IN ('running', 'waiting')))"
)


class SqliteStore:
    """One SQLite file, with a folder of its owners' files and one of its biggest blobs beside it.

    Args:
        path: the database's file; it and its folder are made if missing.
        opener: opens a connection; tests put faults in here.
        mounts: a file in the form of /proc/self/mounts.
        compress: whether bodies are deflated where that makes them smaller.

    Raises:
        StoreError: not a database, corrupt, from a newer release, or on a network filesystem.
    """

    def __init__(
        self,
        path: Path | str,
        *,
        opener: Connect = connect,
        mounts: Path = Path("/proc/self/mounts"),
        compress: bool = True,
    ) -> None:
        self.path = Path(path).absolute()
        self.url = f"sqlite:///{self.path}"
        self._opener = opener
        refuse_network_filesystem(self.path, mounts)
        with self._errors("open"):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._owners = OwnerFiles(self.path.with_name(self.path.name + ".owners"))
        self._blobs = Blobs(self.path.with_name(self.path.name + ".blobs"))
        self._deflater = Deflater(compress=compress)
        self._known: dict[int, tuple[RunRow, int]] = {}
        """Rows of open runs and their checksums, as they were written here last."""
        self._connection: sqlite3.Connection | None = None
        self._connected()

    @property
    def sockets(self) -> Path:
        return sockets_of(str(self.path.resolve()))

    def commit(self, operations: Sequence[Operation]) -> list[object]:
        with self._errors("write"):
            try:
                return self._transact(operations, self._carry_out)
            except _OperationFailed:
                return self._transact(operations, self._carry_out_alone)

    def _transact(
        self,
        operations: Sequence[Operation],
        carry_out: Callable[[sqlite3.Connection, Operation], object],
    ) -> list[object]:
        db = self._connected()
        try:
            db.execute("BEGIN IMMEDIATE")
            self._deflater.begin(db)
            results = [carry_out(db, operation) for operation in operations]
            self._deflater.end(db)
            db.execute("COMMIT")
        except BaseException as error:
            self._after_failed_commit(db, error)
            raise
        self._blobs.committed()
        return results

    def _after_failed_commit(self, db: sqlite3.Connection, error: BaseException) -> None:
        self._blobs.rolled_back()
        if db.in_transaction:
            self._deflater.forget()
            db.rollback()
        if not is_busy(error):
            # What a failed commit left in this connection is not to be trusted.
            self.close_connection()

    def _carry_out(self, db: sqlite3.Connection, operation: Operation) -> object:
        try:
            return self._apply(db, operation)
        except StoreError as error:
            return error  # a damaged row, which each operation reads before it writes
        except Exception as error:
            if is_busy(error):
                raise
            raise _OperationFailed(error) from error

    def _carry_out_alone(self, db: sqlite3.Connection, operation: Operation) -> object:
        """Carry out an operation so that it fails alone, whatever it fails of."""
        db.execute("SAVEPOINT operation")
        dropped = self._blobs.dropped
        try:
            result = self._carry_out(db, operation)
        except _OperationFailed as failed:
            if not db.in_transaction:
                raise failed.error from failed  # SQLite gave all of it up: the disk, not a value
            db.execute("ROLLBACK TO operation")
            self._blobs.rolled_back(dropped)
            result = self._refusal(operation, failed.error)
        db.execute("RELEASE operation")
        return result

    def _refusal(self, operation: Operation, error: Exception) -> StoreError:
        if isinstance(error, (sqlite3.OperationalError, OSError, UnicodeError)):
            return StoreError(message=explain("write", self.path, error))
        return rules.unwritable(operation, error)

    def _apply(self, db: sqlite3.Connection, operation: Operation) -> object:
        match operation:
            case NewRun():
                return self._start(db, operation)
            case Append():
                return self._append(db, operation)
            case Take():
                return self._take(db, operation)
            case Release(number=number):
                self._known.pop(number, None)
                released = rules.release(operation, _numbered(db, number))
                if released is not None:
                    update_row(db, released)
                return None
            case Post():
                return self._post(db, operation)
            case Clear():
                return self._clear(db, operation)
            case Remove():
                return self._remove(db, operation)
            case RemoveNotes():
                return _of_notes().remove_notes(db, operation)
            case KeepThread():
                return keep_thread(db, operation)
            case Draw(number=number):
                return draw(db, operation, _numbered(db, number))
            case Settle(number=number):
                return settle(db, operation, _numbered(db, number))
            case _:
                assert_never(operation)

    def _start(self, db: sqlite3.Connection, new: NewRun) -> Started | KeyReused | ThreadBusy:
        known = self._by_key(db, new) if new.key is not None else None
        is_turn = rules.is_turn(new)
        open_turns = self._open_turns(db, new) if is_turn and new.when_busy != "queue" else []
        other = rules.start(new, known, open_turns)
        if other is not None:
            return other
        for number in open_turns if new.when_busy == "cancel" else ():
            _insert_letter(db, Post(number, "cancel", "", "null", new.at))
        turn = _next_turn(db, new) if is_turn else None
        row = insert_row(db, rules.row_of(0, new, turn))
        if new.tags:
            db.executemany("INSERT INTO tags VALUES (?, ?)", [(t, row.number) for t in new.tags])
        self._insert_events(db, row.number, 0, (new.first,))
        return Started(row, True)

    def _by_key(self, db: sqlite3.Connection, new: NewRun) -> RunRow | None:
        return read_row(
            db,
            "WHERE tenant = ? AND workflow = ? AND key = ?",
            (new.tenant, new.workflow, new.key),
        )

    def _open_turns(self, db: sqlite3.Connection, new: NewRun) -> list[int]:
        query = (
            f"SELECT number FROM runs WHERE tenant = ? AND thread = ? "  # noqa: S608  constants
            f"AND turn IS NOT NULL AND {_OPEN}"
        )
        return [number for (number,) in db.execute(query, (new.tenant, new.thread))]

    def _append(self, db: sqlite3.Connection, append: Append) -> Fenced | None:
        before = self._followed(db, append)
        if before is None:
            before = _numbered(db, append.number)
            changed = rules.append(append, before)
            if isinstance(changed, Fenced):
                return changed
            assert before is not None
            self._known[append.number] = (changed, update_row(db, changed))
        self._insert_events(db, append.number, before.crc, append.events)
        if append.notes:
            _of_notes().change_notes(db, append.notes)
        if rules.ends(append):
            self._known.pop(append.number)
            db.execute("DELETE FROM letters WHERE number = ? AND key IS NULL", (append.number,))
            db.execute("UPDATE letters SET body = NULL WHERE number = ?", (append.number,))
            db.execute("DELETE FROM snapshots WHERE number = ?", (append.number,))
        elif append.snapshot is not None:
            self._keep_snapshot(db, append.number, append.snapshot)
        return None

    def _followed(self, db: sqlite3.Connection, append: Append) -> RunRow | None:
        """Change the row of a run that is as this store left it; return it as it was.

        Most appends change no status: they spare reading the row and checking it.
        """
        known = self._known.pop(append.number, None)
        if known is None or append.status is not None or not append.events:
            return None
        (before, check), last = known, append.events[-1]
        row = before._replace(offset=last.offset, crc=last.crc, updated_at=last.at)
        now = follow_row(db, before, check, row) if before.epoch == append.epoch else None
        if now is None:
            return None
        self._known[append.number] = (row, now)
        return before

    def _keep_snapshot(self, db: sqlite3.Connection, number: int, snapshot: Snapshot) -> None:
        db.execute(
            "INSERT OR REPLACE INTO snapshots VALUES (?, ?, ?, ?, ?, ?)",
            (
                number,
                snapshot.offset,
                snapshot.crc,
                snapshot.version,
                self._deflater.pack(snapshot.body),
                snapshot.check,
            ),
        )

    def _take(self, db: sqlite3.Connection, take: Take) -> RunRow | Fenced | RunNotFound:
        taken = rules.take(take, _numbered(db, take.number))
        if isinstance(taken, RunRow):
            update_row(db, taken)
        return taken

    def _post(self, db: sqlite3.Connection, post: Post) -> AskError | RunNotFound | None:
        known = "SELECT key FROM letters WHERE number = ? AND name = ? AND kind = 'answer'"
        first = db.execute(known, (post.number, post.name)).fetchone()
        key = first[0] if first is not None else None
        verdict = rules.post(post, _numbered(db, post.number), first is not None, key)
        if not isinstance(verdict, bool):
            return verdict
        if verdict:
            _insert_letter(db, post)
        return None

    def _clear(self, db: sqlite3.Connection, clear: Clear) -> None:
        if not rules.clear(clear, _numbered(db, clear.number)):
            return
        # An answer that was kept before stays: it refuses a second one.
        waiting = "WHERE id = ? AND number = ? AND body IS NOT NULL"
        for query, letters in (
            ("DELETE FROM letters ", clear.letters),
            ("UPDATE letters SET body = NULL ", clear.kept),
        ):
            db.executemany(query + waiting, [(item, clear.number) for item in letters])

    def _remove(self, db: sqlite3.Connection, remove: Remove) -> tuple[int, ...] | None:
        of_thread = _runs_of_thread(db, remove)
        going = rules.remove(
            remove,
            _statuses(db, remove.numbers),
            of_thread,
            changed_at(db, remove.tenant, remove.thread) if remove.thread is not None else 0.0,
            _forks(db, remove.numbers),
        )
        if going is None:
            return None
        for number in going:
            for table in ("runs", "tags", "letters", "snapshots", "accounts"):
                db.execute(f"DELETE FROM {table} WHERE number = ?", (number,))  # noqa: S608
            remove_events(db, number)
        self._blobs.forget(db, going)
        if remove.thread is not None and set(of_thread).issubset(going):
            forget_thread(db, remove.tenant, remove.thread)
        return going

    def _insert_events(
        self, db: sqlite3.Connection, number: int, before: int, events: Sequence[StoredEvent]
    ) -> None:
        insert_events(db, self._deflater, number, before, events)
        for event in events:
            for blob in event.blobs:
                self._blobs.keep(db, number, blob)

    def run(self, run_id: str, *, tenant: str | None = None) -> RunRow | None:
        with self._errors("read"):
            db = self._connected()
            row = read_row(db, "WHERE id = ?", (run_id,))
            if row is None or row.id != run_id:
                # The index does not have it, which may be the index's fault: look at every row.
                row = read_row(db, "NOT INDEXED WHERE id = ?", (run_id,))
            return row if row is not None and tenant in (None, row.tenant) else None

    def numbered(self, number: int) -> RunRow | None:
        with self._errors("read"):
            return _numbered(self._connected(), number)

    def runs(
        self,
        *,
        tenant: str | None = None,
        status: Sequence[RunStatus] = (),
        thread: str | None = None,
        parent: str | None = None,
        workflow: str | None = None,
        since: float | None = None,
        tags: Sequence[str] = (),
        before: int | None = None,
        limit: int = 1000,
    ) -> list[RunRow]:
        asked: list[tuple[str, object]] = [
            ("tenant = ?", tenant),
            ("thread = ?", thread),
            ("parent = ?", parent),
            ("workflow = ?", workflow),
            ("created_at >= ?", since),
            ("number < ?", before),
            *(("number IN (SELECT number FROM tags WHERE tag = ?)", tag) for tag in tags),
        ]
        conditions = ["1", *(condition for condition, value in asked if value is not None)]
        values = [value for _, value in asked if value is not None]
        if status:
            conditions.append(f"status IN ({', '.join('?' * len(status))})")
            values += status
        where = f"WHERE {' AND '.join(conditions)} ORDER BY number DESC LIMIT ?"
        return self._rows(where, [*values, limit])

    def owners(self) -> list[str]:
        with self._errors("read"):
            rows = self._connected().execute(
                "SELECT DISTINCT owner FROM runs WHERE owner IS NOT NULL AND owner != ?", (PARKED,)
            )
            return [owner for (owner,) in rows]

    def unbegun(self, owner: str) -> list[RunRow]:
        query = (
            "WHERE owner = ? AND epoch = 1 AND last_offset = base_offset + 1 "
            "AND status = 'running' ORDER BY number"
        )
        with self._errors("read"):
            return sound_rows(self._connected(), query, [owner])[0]

    def takeable(
        self,
        known: Sequence[tuple[str, str]],
        dead: Sequence[str],
        now: float,
        *,
        limit: int = 256,
    ) -> list[RunRow]:
        if not known:
            return []
        marks = ", ".join("?" * len(dead))
        workflows = ", ".join(["(?, ?)"] * len(known))
        # Each branch has an index of its own: waiting runs cost nothing until they are woken.
        query = (
            f"AS r WHERE number IN ("  # noqa: S608  constants
            f"SELECT number FROM runs WHERE status = 'running' AND owner IS NULL "
            f"UNION SELECT number FROM runs WHERE due <= ? AND owner IS NULL "
            f"UNION SELECT number FROM runs WHERE owner IN ({marks}) AND owner IS NOT NULL "
            f"UNION SELECT runs.number FROM letters CROSS JOIN runs USING (number) "
            f"WHERE body IS NOT NULL AND (owner IS NULL OR owner = ? AND kind = 'cancel')"
            f") AND {_OPEN} AND (workflow, version) IN (VALUES {workflows}) "
            f"AND {_FIRST_IN_THREAD} ORDER BY number LIMIT ?"
        )
        values = [now, *dead, PARKED, *(part for pair in known for part in pair), limit]
        with self._errors("read"):
            # A damaged run is left alone, and must not keep anybody from the others.
            return sound_rows(self._connected(), query, values)[0]

    def of_other_code(
        self, known: Collection[tuple[str, str]], *, limit: int = 100
    ) -> list[RunRow]:
        query = (
            f"WHERE {_OPEN} AND owner IS NOT ? "  # noqa: S608  constants
            f"AND (workflow, version) NOT IN (SELECT "
            f"json_extract(value, '$[0]'), json_extract(value, '$[1]') FROM json_each(?)) "
            f"ORDER BY number LIMIT ?"
        )
        with self._errors("read"):
            values = [PARKED, json.dumps(list(known)), limit]
            return sound_rows(self._connected(), query, values)[0]

    def turns(self, tenant: str, thread: str, *, after: int = 0) -> list[RunRow]:
        return self._rows(
            "WHERE tenant = ? AND thread = ? AND turn > ? ORDER BY turn", [tenant, thread, after]
        )

    def thread(self, tenant: str, thread: str) -> ThreadRow | None:
        with self._errors("read"):
            return read_thread(self._connected(), tenant, thread)

    def threads(self, tenant: str) -> dict[str, float]:
        query = "SELECT thread, updated_at FROM threads WHERE tenant = ?"
        with self._errors("read"):
            return dict(self._connected().execute(query, (tenant,)).fetchall())

    def events(self, number: int, *, after: int = 0, limit: int = 1024) -> list[StoredEvent]:
        with self._errors("read"):
            db = self._connected()
            return read_events(db, self._deflater, number, after=after, limit=limit)

    def snapshot(self, number: int) -> Snapshot | None:
        with self._errors("read"):
            db = self._connected()
            row = db.execute(
                "SELECT last_offset, crc, version, body, body_crc FROM snapshots WHERE number = ?",
                (number,),
            ).fetchone()
            if row is None:
                return None
            offset, crc, version, body, check = row
            try:
                text = self._deflater.unpack(db, body)
            except sqlite3.DatabaseError as error:
                raise Damaged(f"the snapshot of run number {number}: {error}") from error
            return Snapshot(offset, crc, version, text, check)

    def blob(self, digest: str) -> bytes | None:
        with self._errors("read"):
            return self._blobs.read(self._connected(), digest)

    def write_ahead(self, blob: Blob) -> None:
        with self._errors("write"):
            self._blobs.write_ahead(blob)

    def accounts(self, ids: Sequence[str]) -> list[AccountRow]:
        with self._errors("read"):
            return read_accounts(self._connected(), ids)

    def notes(self, tenant: str, scopes: Sequence[str], words: str, limit: int) -> list[Note]:
        with self._errors("read"):
            return _of_notes().find_notes(self._connected(), tenant, scopes, words, limit)

    def letters(self, numbers: Sequence[int]) -> list[Letter]:
        wanted = set(numbers)
        query = f"SELECT {_LETTER} FROM letters WHERE body IS NOT NULL"  # noqa: S608  constants
        if len(wanted) == 1:
            query += f" AND number = {min(wanted)}"
        with self._errors("read"):
            # Letters lie there for a moment only: all of them are fewer than the runs asked for.
            rows = self._connected().execute(f"{query} ORDER BY id")
            return [Letter(*row) for row in rows if row[1] in wanted]

    def answers(self, tenant: str, key: str) -> list[Letter]:
        query = (
            f"SELECT {_LETTER} FROM letters WHERE key = ? AND number IN "  # noqa: S608  constants
            f"(SELECT number FROM runs WHERE tenant = ?) ORDER BY id"
        )
        with self._errors("read"):
            return [Letter(*row) for row in self._connected().execute(query, (key, tenant))]

    def changed(self) -> int:
        with self._errors("read"):
            (version,) = self._connected().execute("PRAGMA data_version").fetchone()
            return int(version)

    def claim_owner(self, owner: str) -> None:
        with self._errors("lock"):
            self._owners.claim(owner)

    def release_owner(self, owner: str) -> None:
        self._owners.release(owner)

    def serve(self, owner: str, workflows: Sequence[tuple[str, str]]) -> None:
        with self._errors("lock"):
            self._owners.serve(owner, workflows)

    def served(self) -> set[tuple[str, str]]:
        with self._errors("lock"):
            return self._owners.served()

    def beat(self, owner: str) -> None:
        with self._errors("lock"):
            self._owners.beat(owner)

    def sign(self, owner: str) -> Sign:
        with self._errors("lock"):
            return self._owners.sign(owner)

    def scrub(self) -> None:
        with self._errors("scrub"):
            db = self._connected()
            try:
                db.execute("BEGIN IMMEDIATE")
                self._blobs.drop_unnamed(db)
                _of_notes().scrub_notes(db)
                db.execute("COMMIT")
                self._deflater.renew(db)
                db.execute("VACUUM")
                (blocked, _, _) = db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            except BaseException:
                self.close_connection()
                raise
            if blocked:
                raise Busy(f"{self.path} is being read by another process")

    def close(self) -> None:
        self._owners.close()
        self.close_connection()

    def close_connection(self) -> None:
        """Drop the connection; the next use opens a new one."""
        self._deflater.forget()
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _rows(self, where: str, values: Sequence[object]) -> list[RunRow]:
        with self._errors("read"):
            return read_rows(self._connected(), where, values)

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
                raise Busy(
                    f"{self.path} is locked by another process; find out which with `lsof`, or use "
                    "PostgreSQL for several machines"
                ) from error
            raise StoreError(message=explain(action, self.path, error)) from error
        except (OSError, UnicodeError) as error:
            # SQLite's own messages quote the file, which may be damaged: they are no text then.
            raise StoreError(message=explain(action, self.path, error)) from error


def _of_notes() -> ModuleType:
    """Load what keeps notes only where there are some."""
    from crew.journal import sqlite_notes

    return sqlite_notes


def _insert_letter(db: sqlite3.Connection, post: Post) -> None:
    db.execute(
        "INSERT INTO letters (number, kind, name, body, at, key, seen) "
        "VALUES (?, ?, ?, ?, ?, ?, ?)",
        (post.number, post.kind, post.name, post.body, post.at, post.key, post.seen),
    )


def _next_turn(db: sqlite3.Connection, new: NewRun) -> int:
    (last,) = db.execute(
        "SELECT max(turn) FROM runs WHERE tenant = ? AND thread = ? AND turn IS NOT NULL",
        (new.tenant, new.thread),
    ).fetchone()
    return (last or 0) + 1


def _statuses(db: sqlite3.Connection, numbers: Sequence[int]) -> dict[int, RunStatus]:
    # Unverified: a row that is damaged may be removed.
    query = "SELECT number, status FROM runs WHERE number = ?"
    return dict(row for number in numbers for row in db.execute(query, (number,)))


def _forks(db: sqlite3.Connection, bases: Sequence[int]) -> list[tuple[int, int]]:
    query = "SELECT base, number FROM runs WHERE base = ?"
    return [row for base in bases for row in db.execute(query, (base,))]


def _runs_of_thread(db: sqlite3.Connection, remove: Remove) -> list[int]:
    found = list[int]()
    for kind in ("turn", "base"):  # a turn or a fork, each by an index of its own
        query = f"SELECT number FROM runs WHERE tenant = ? AND thread = ? AND {kind} IS NOT NULL"  # noqa: S608
        rows = db.execute(query, (remove.tenant, remove.thread))
        found += [number for (number,) in rows]
    return found


def _numbered(db: sqlite3.Connection, number: int) -> RunRow | None:
    return read_row(db, "WHERE number = ?", (number,))
