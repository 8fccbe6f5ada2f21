"""The journal in PostgreSQL: for several machines.

A commit of appends alone, which is nearly every one, is one statement: one round trip. Whatever
else goes through an explicit transaction whose id is known, so that when the connection is lost
while it commits, the server can be asked whether it did.
"""

import time
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

import psycopg

from crew.errors import AskError, Fenced, KeyReused, RunNotFound, StoreError, ThreadBusy
from crew.journal import (
    OPEN,
    PARKED,
    Append,
    Busy,
    Clear,
    Letter,
    NewRun,
    Operation,
    Post,
    Release,
    Remove,
    RunRow,
    RunStatus,
    Sign,
    Snapshot,
    Started,
    StoredEvent,
    Take,
)
from crew.journal.memory import answered_before, answered_too_late, busy, reused, row_of
from crew.journal.owner_place import Place
from crew.journal.postgres_link import Connect, Link, connect, prepare

_COLUMNS = (
    "number, id, tenant, workflow, version, key, input_hash, thread, turn, parent, status, owner, "
    "epoch, last_offset, crc, created_at, updated_at, base, base_offset, due"
)
_OPEN = "status IN ('running', 'waiting')"
_CHANNEL = "crew_journal"
_SETTLE_SECONDS = 10.0
"""How long a commit whose connection was lost is asked after."""

_APPEND = """
WITH given AS (
    SELECT * FROM unnest(%s::bigint[], %s::bigint[], %s::text[], %s::float8[], %s::bigint[],
        %s::bigint[], %s::float8[]) AS given(number, epoch, status, due, last_offset, crc, at)
), moved AS (
    UPDATE runs SET status = coalesce(given.status, runs.status),
        due = CASE WHEN given.status IS NULL THEN runs.due ELSE given.due END,
        last_offset = coalesce(given.last_offset, runs.last_offset),
        crc = coalesce(given.crc, runs.crc), updated_at = coalesce(given.at, runs.updated_at),
        owner = CASE WHEN given.status NOT IN ('running', 'waiting') THEN NULL ELSE owner END
    FROM given WHERE runs.number = given.number AND runs.epoch = given.epoch
    RETURNING runs.number, runs.status
), written AS (
    INSERT INTO events (number, "offset", kind, path, body, crc, at)
    SELECT e.* FROM unnest(%s::bigint[], %s::bigint[], %s::text[], %s::text[], %s::text[],
        %s::bigint[], %s::float8[]) AS e(number, "offset", kind, path, body, crc, at)
    WHERE e.number IN (SELECT number FROM moved)
), forgotten AS (
    DELETE FROM letters WHERE number IN (
        SELECT number FROM moved WHERE status NOT IN ('running', 'waiting'))
), unneeded AS (
    DELETE FROM snapshots WHERE number IN (
        SELECT number FROM moved WHERE status NOT IN ('running', 'waiting'))
)
SELECT number, pg_notify(%s, %s) FROM moved
"""

Db = psycopg.Connection[Any]


class PostgresStore:
    """One database, shared by any number of machines.

    Args:
        url: `postgresql://user:password@host/database`.
        opener: opens a connection; tests put faults in here.

    Raises:
        StoreError: the server cannot be reached, or a newer release wrote the database.
    """

    def __init__(self, url: str, *, opener: Connect = connect) -> None:
        self.url = url
        self._link = Link(url, opener)
        self._heart_link = Link(url, opener)
        self._listener = Link(url, opener)
        self._listening: Db | None = None
        self._changes = 0
        self._place = Place()
        try:
            with self._link.errors("open"):
                prepare(self._link.get(), url)
        except StoreError:
            self._link.drop()
            raise
        except Busy as error:
            raise StoreError(
                message=f"{error}; is the server running, and is this the address?"
            ) from error

    def commit(self, operations: Sequence[Operation]) -> list[object]:
        appends = [item for item in operations if isinstance(item, Append)]
        with self._link.errors("write"):
            if len(appends) == len(operations) and not any(_has_more(item) for item in appends):
                return self._commit_appends(appends)
            return self._commit_all(operations)

    def _commit_appends(self, appends: Sequence[Append]) -> list[object]:
        try:
            return self._append(self._link.get(), appends)
        except psycopg.OperationalError:
            self._link.drop()
            if self._is_written(appends):
                return [None] * len(appends)
            raise
        except psycopg.errors.UniqueViolation:
            # It is the second try of what went through, though nobody could tell then.
            if self._is_written(appends):
                return [None] * len(appends)
            raise

    def _is_written(self, appends: Sequence[Append]) -> bool:
        """Return whether a statement whose answer was lost took effect: all of it did, or none.

        Raises:
            Busy: the server cannot be asked.
        """
        last = next((item for item in appends if item.events), None)
        if last is None:
            return False  # a status alone may be written twice
        event = last.events[-1]
        query = 'SELECT crc FROM events WHERE number = %s AND "offset" = %s'
        row = self._settled().execute(query, (last.number, event.offset)).fetchone()
        return row is not None and row[0] == event.crc

    def _settled(self) -> Db:
        """Return a new connection, once the server can be reached again.

        Raises:
            psycopg.OperationalError: it cannot for too long; what was lost stays unknown.
        """
        deadline = time.monotonic() + _SETTLE_SECONDS
        while True:
            try:
                return self._link.get()
            except Busy as error:
                if time.monotonic() > deadline:
                    raise psycopg.DatabaseError(
                        f"the connection was lost in mid-commit, and {error}"
                    ) from error
                time.sleep(0.02)

    def _commit_all(self, operations: Sequence[Operation]) -> list[object]:
        db = self._link.get()
        db.execute("BEGIN")
        try:
            (transaction,) = _row(db.execute("SELECT pg_current_xact_id()::text"))
            results = [self._apply(db, operation) for operation in operations]
            db.execute("SELECT pg_notify(%s, %s)", (_CHANNEL, self._place.name))
        except BaseException:
            if not db.closed:
                db.execute("ROLLBACK")
            raise
        try:
            db.execute("COMMIT")
        except psycopg.OperationalError:
            self._link.drop()
            if not self._is_committed(transaction):
                raise
        return results

    def _is_committed(self, transaction: str) -> bool:
        """Ask the server what became of a transaction."""
        while True:
            try:
                query = "SELECT pg_xact_status(%s::text::xid8)"
                (status,) = _row(self._settled().execute(query, (transaction,)))
            except psycopg.OperationalError:
                self._link.drop()
                continue
            if status != "in progress":
                return bool(status == "committed")
            time.sleep(0.02)

    def _apply(self, db: Db, operation: Operation) -> object:
        match operation:
            case NewRun():
                return self._start(db, operation)
            case Append():
                return self._append_with_more(db, operation)
            case Take():
                return self._take(db, operation)
            case Release(number=number, epoch=epoch, to=to):
                query = "UPDATE runs SET owner = %s WHERE number = %s AND epoch = %s"
                db.execute(query, (to, number, epoch))
                return None
            case Post():
                return self._post(db, operation)
            case Clear():
                return self._clear(db, operation)
            case Remove(numbers=numbers):
                return self._remove(db, numbers)

    def _append(self, db: Db, appends: Sequence[Append]) -> list[object]:
        moves = [(a.number, a.epoch, a.status, a.due, *_last(a.events)) for a in appends]
        events = [
            (a.number, e.offset, e.kind, e.path, e.body, e.crc, e.at)
            for a in appends
            for e in a.events
        ]
        values = [*_columns(moves, 7), *_columns(events, 7), _CHANNEL, self._place.name]
        moved = {number for number, _ in db.execute(_APPEND, values)}
        return [None if a.number in moved else self._fenced(db, a.number) for a in appends]

    def _fenced(self, db: Db, number: int) -> Fenced:
        row = _one(db, "WHERE number = %s", (number,))
        return Fenced(run=row.id if row else str(number))

    def _append_with_more(self, db: Db, append: Append) -> object:
        (result,) = self._append(db, [append])
        if result is None:
            self._keep_blobs(db, append.number, append.events)
            ended = append.status is not None and append.status not in OPEN
            if append.snapshot is not None and not ended:
                self._keep_snapshot(db, append.number, append.snapshot)
        return result

    def _keep_snapshot(self, db: Db, number: int, snapshot: Snapshot) -> None:
        db.execute(
            "INSERT INTO snapshots VALUES (%s, %s, %s, %s, %s, %s) ON CONFLICT (number) DO UPDATE "
            "SET last_offset = excluded.last_offset, crc = excluded.crc, "
            "version = excluded.version, body = excluded.body, body_crc = excluded.body_crc",
            (
                number,
                snapshot.offset,
                snapshot.crc,
                snapshot.version,
                snapshot.body,
                snapshot.check,
            ),
        )

    def _keep_blobs(self, db: Db, number: int, events: Sequence[StoredEvent]) -> None:
        for blob in (blob for event in events for blob in event.blobs):
            db.execute(
                "INSERT INTO blobs VALUES (%s, %s) ON CONFLICT DO NOTHING",
                (blob.digest, blob.body),
            )
            db.execute(
                "INSERT INTO blob_uses VALUES (%s, %s) ON CONFLICT DO NOTHING",
                (number, blob.digest),
            )

    def _start(self, db: Db, new: NewRun) -> Started | KeyReused | ThreadBusy:
        if new.key is not None:
            _lock(db, "key", new.tenant, new.workflow, new.key)
            found = _one(
                db,
                "WHERE tenant = %s AND workflow = %s AND key = %s",
                (new.tenant, new.workflow, new.key),
            )
            if found is not None:
                same = found.input_hash == new.input_hash
                return Started(found, False) if same else reused(new)
        turn = None
        if new.thread is not None and new.base is None:
            _lock(db, "thread", new.tenant, new.thread)
            open_turns = self._open_turns(db, new) if new.when_busy != "queue" else []
            if new.when_busy == "reject" and open_turns:
                return busy(new)
            for number in open_turns if new.when_busy == "cancel" else ():
                _insert_letter(db, Post(number, "cancel", "", "null", new.at))
            (last,) = _row(
                db.execute(
                    "SELECT max(turn) FROM runs WHERE tenant = %s AND thread = %s",
                    (new.tenant, new.thread),
                )
            )
            turn = (last or 0) + 1
        row = row_of(0, new, turn)
        values = [getattr(row, item.name) for item in fields(row)][1:]
        names = _COLUMNS.removeprefix("number, ")
        marks = ", ".join(["%s"] * len(values))
        query = f"INSERT INTO runs ({names}) VALUES ({marks}) RETURNING number"  # noqa: S608
        (number,) = _row(db.execute(query, values))  # pyrefly: ignore
        self._insert_first(db, number, new.first)
        return Started(row_of(number, new, turn), True)

    def _insert_first(self, db: Db, number: int, event: StoredEvent) -> None:
        db.execute(
            "INSERT INTO events VALUES (%s, %s, %s, %s, %s, %s, %s)",
            (number, event.offset, event.kind, event.path, event.body, event.crc, event.at),
        )
        self._keep_blobs(db, number, (event,))

    def _open_turns(self, db: Db, new: NewRun) -> list[int]:
        query = (
            f"SELECT number FROM runs WHERE tenant = %s AND thread = %s "  # noqa: S608  constants
            f"AND turn IS NOT NULL AND {_OPEN}"
        )
        rows = db.execute(query, (new.tenant, new.thread))
        return [number for (number,) in rows]

    def _take(self, db: Db, take: Take) -> RunRow | Fenced | RunNotFound:
        changed = db.execute(
            f"UPDATE runs SET owner = %s, epoch = epoch + 1 "  # noqa: S608  constants
            f"WHERE number = %s AND owner IS NOT DISTINCT FROM %s AND {_OPEN}",
            (take.owner, take.number, take.from_owner),
        ).rowcount
        row = _one(db, "WHERE number = %s", (take.number,))
        if row is None:
            return RunNotFound(run=str(take.number))
        return row if changed else Fenced(run=row.id)

    def _post(self, db: Db, post: Post) -> AskError | RunNotFound | None:
        # Shared with other posts, but not with the end of the run.
        row = _one(db, "WHERE number = %s FOR SHARE", (post.number,))
        if row is None:
            return RunNotFound(run=str(post.number))
        if row.status not in OPEN:
            return None if post.kind == "cancel" else answered_too_late(row.id, row.status)
        return None if _insert_letter(db, post) else answered_before(row.id, post.name)

    def _clear(self, db: Db, clear: Clear) -> None:
        held = "SELECT 1 FROM runs WHERE number = %s AND epoch = %s FOR UPDATE"
        if db.execute(held, (clear.number, clear.epoch)).fetchone() is None:
            return
        db.execute("DELETE FROM letters WHERE id = ANY(%s)", (list(clear.letters),))
        db.execute("UPDATE letters SET body = NULL WHERE id = ANY(%s)", (list(clear.kept),))

    def _remove(self, db: Db, numbers: Sequence[int]) -> tuple[int, ...]:
        going = set(numbers)
        bases = db.execute("SELECT base, number FROM runs WHERE base IS NOT NULL").fetchall()
        while stays := {base for base, fork in bases if base in going and fork not in going}:
            going -= stays
        gone = db.execute(
            "DELETE FROM runs WHERE number = ANY(%s) RETURNING number", (list(going),)
        ).fetchall()
        removed = [number for (number,) in gone]
        for table in ("events", "letters", "snapshots", "blob_uses"):
            query = f"DELETE FROM {table} WHERE number = ANY(%s)"  # noqa: S608  constants
            db.execute(query, (removed,))  # pyrefly: ignore
        db.execute(
            "DELETE FROM blobs WHERE NOT EXISTS "
            "(SELECT 1 FROM blob_uses WHERE blob_uses.digest = blobs.digest)"
        )
        return tuple(sorted(removed))

    def run(self, run_id: str, *, tenant: str | None = None) -> RunRow | None:
        found = self._rows("WHERE id = %s", [run_id])
        return next((row for row in found if tenant in (None, row.tenant)), None)

    def numbered(self, number: int) -> RunRow | None:
        return next(iter(self._rows("WHERE number = %s", [number])), None)

    def runs(
        self,
        *,
        tenant: str | None = None,
        status: Sequence[RunStatus] = (),
        thread: str | None = None,
        limit: int = 1000,
    ) -> list[RunRow]:
        conditions, values = ["true"], list[object]()
        for column, value in (("tenant", tenant), ("thread", thread)):
            if value is not None:
                conditions.append(f"{column} = %s")
                values.append(value)
        if status:
            conditions.append("status = ANY(%s)")
            values.append(list(status))
        where = f"WHERE {' AND '.join(conditions)} ORDER BY number DESC LIMIT %s"
        return self._rows(where, [*values, limit])

    def events(self, number: int, *, after: int = 0, limit: int = 1024) -> list[StoredEvent]:
        query = (
            'SELECT "offset", kind, path, body, crc, at FROM events WHERE number = %s '
            'AND "offset" > %s ORDER BY "offset" LIMIT %s'
        )
        return [StoredEvent(*row) for row in self._read(query, (number, after, limit))]

    def snapshot(self, number: int) -> Snapshot | None:
        query = "SELECT last_offset, crc, version, body, body_crc FROM snapshots WHERE number = %s"
        return next((Snapshot(*row) for row in self._read(query, (number,))), None)

    def blob(self, digest: str) -> bytes | None:
        rows = self._read("SELECT body FROM blobs WHERE digest = %s", (digest,))
        return next((bytes(body) for (body,) in rows), None)

    def owners(self) -> list[str]:
        query = "SELECT DISTINCT owner FROM runs WHERE owner IS NOT NULL AND owner != %s"
        return [owner for (owner,) in self._read(query, (PARKED,))]

    def takeable(
        self,
        known: Sequence[tuple[str, str]],
        dead: Sequence[str],
        now: float,
        *,
        limit: int = 256,
    ) -> list[RunRow]:
        names, versions = [name for name, _ in known], [version for _, version in known]
        # Each branch has an index of its own: waiting runs cost nothing until they are woken.
        return self._rows(
            f"AS r WHERE number IN ("  # noqa: S608  constants
            f"SELECT number FROM runs WHERE status = 'running' AND owner IS NULL "
            f"UNION SELECT number FROM runs WHERE due <= %s AND owner IS NULL "
            f"UNION SELECT number FROM runs WHERE owner = ANY(%s) "
            f"UNION SELECT number FROM letters JOIN runs USING (number) "
            f"WHERE body IS NOT NULL AND (owner IS NULL OR owner = %s AND kind = 'cancel')"
            f") AND {_OPEN} "
            f"AND (workflow, version) IN (SELECT * FROM unnest(%s::text[], %s::text[])) "
            f"AND (turn IS NULL OR NOT EXISTS (SELECT 1 FROM runs AS earlier "
            f"WHERE earlier.tenant = r.tenant AND earlier.thread = r.thread "
            f"AND earlier.turn < r.turn AND earlier.status IN ('running', 'waiting'))) "
            f"ORDER BY number LIMIT %s",
            [now, list(dead), PARKED, names, versions, limit],
        )

    def turns(self, tenant: str, thread: str, *, after: int = 0) -> list[RunRow]:
        return self._rows(
            "WHERE tenant = %s AND thread = %s AND turn > %s ORDER BY turn",
            [tenant, thread, after],
        )

    def letters(self, numbers: Sequence[int]) -> list[Letter]:
        query = (
            "SELECT id, number, kind, name, body FROM letters "
            "WHERE number = ANY(%s) AND body IS NOT NULL ORDER BY id"
        )
        return [Letter(*row) for row in self._read(query, (list(numbers),))]

    def changed(self) -> int:
        with self._listener.errors("listen to"):
            db = self._listener.get()
            if db is not self._listening:
                db.execute(f"LISTEN {_CHANNEL}")  # pyrefly: ignore
                self._listening = db
                self._changes += 1  # something may have been missed while it was not heard
            heard = [note.payload for note in db.notifies(timeout=0)]
        self._changes += any(sender != self._place.name for sender in heard)
        return self._changes

    def claim_owner(self, owner: str) -> None:
        place = self._place
        self._tell(
            "INSERT INTO owners VALUES (%s, 0, %s, %s, %s) ON CONFLICT DO NOTHING",
            (owner, place.machine, place.pid, place.began),
        )

    def release_owner(self, owner: str) -> None:
        self._tell("DELETE FROM owners WHERE owner = %s", (owner,))

    def beat(self, owner: str) -> None:
        self._tell("UPDATE owners SET beat = beat + 1 WHERE owner = %s", (owner,))

    def _tell(self, query: str, values: Sequence[object]) -> None:
        with self._heart_link.errors("write"):
            self._heart_link.execute(query, values)

    def sign(self, owner: str) -> Sign:
        query = "SELECT beat, place, pid, began FROM owners WHERE owner = %s"
        for beat, machine, pid, began in self._read(query, (owner,)):
            return Sign(dead=self._place.is_gone(machine, pid, began), beat=beat)
        return Sign(dead=True, beat=0)

    def scrub(self) -> None:
        with self._link.errors("scrub"):
            for table in ("runs", "events", "snapshots", "letters", "blobs", "blob_uses"):
                self._link.get().execute(f"VACUUM FULL {table}")  # pyrefly: ignore

    def close(self) -> None:
        for link in (self._link, self._heart_link, self._listener):
            link.drop()
        self._listening = None

    def _read(self, query: str, values: Sequence[object]) -> list[tuple[Any, ...]]:
        with self._link.errors("read"):
            return self._link.execute(query, values)

    def _rows(self, where: str, values: Sequence[object]) -> list[RunRow]:
        query = f"SELECT {_COLUMNS} FROM runs {where}"  # noqa: S608  constants
        return [RunRow(*row) for row in self._read(query, values)]


def _has_more(append: Append) -> bool:
    return append.snapshot is not None or any(event.blobs for event in append.events)


def _last(events: Sequence[StoredEvent]) -> tuple[int, int, float] | tuple[None, None, None]:
    return (events[-1].offset, events[-1].crc, events[-1].at) if events else (None, None, None)


def _columns(rows: Sequence[Sequence[object]], count: int) -> list[list[object]]:
    return [list(column) for column in zip(*rows, strict=True)] if rows else [[]] * count


def _insert_letter(db: Db, post: Post) -> bool:
    query = (
        "INSERT INTO letters (number, kind, name, body, at) VALUES (%s, %s, %s, %s, %s) "
        "ON CONFLICT DO NOTHING"
    )
    values = (post.number, post.kind, post.name, post.body, post.at)
    return db.execute(query, values).rowcount == 1


def _lock(db: Db, *names: str) -> None:
    """Let one transaction at a time decide about something that has a name but no row yet."""
    db.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", ("\x1f".join(names),))


def _one(db: Db, where: str, values: Sequence[object]) -> RunRow | None:
    query = f"SELECT {_COLUMNS} FROM runs {where}"  # noqa: S608  constants
    row = db.execute(query, values).fetchone()  # pyrefly: ignore
    return RunRow(*row) if row else None


def _row(cursor: "psycopg.Cursor[Any]") -> tuple[Any, ...]:
    row = cursor.fetchone()
    assert row is not None
    return tuple(row)
