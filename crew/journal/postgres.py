"""The journal in PostgreSQL: for several machines.

A commit of appends alone, which is nearly every one, is one statement: one round trip.
"""

import json
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from crew.errors import StoreError
from crew.journal import (
    PARKED,
    AccountRow,
    Blob,
    Busy,
    Letter,
    Operation,
    RunRow,
    RunStatus,
    Sign,
    Snapshot,
    StoredEvent,
    ThreadRow,
)
from crew.journal.datagrams import sockets_of
from crew.journal.notes import Note
from crew.journal.owner_place import Place
from crew.journal.postgres_accounts import ACCOUNTS_BY_ID, account_row
from crew.journal.postgres_commits import Commits
from crew.journal.postgres_link import Connect, Link, connect, refuse_malformed
from crew.journal.postgres_notes import find_notes
from crew.journal.postgres_operations import COLUMNS
from crew.journal.postgres_schema import prepare

_IS_OPEN = "status IN ('running', 'waiting')"
_LETTER = "id, number, kind, name, coalesce(body, ''), at, key, seen"
_TABLES = (
    *("runs", "events", "snapshots", "letters", "blobs", "blob_uses", "threads", "accounts"),
    *("notes", "tags"),
)
"""Those that hold what somebody said."""
_SILENT_SECONDS = 60.0
"""How long ago an owner has said that it lives whose code still counts as loaded."""
_OPEN_SECONDS = 6.0
"""How long the first connection is waited for."""


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
        self._place = Place()
        self._commits = Commits(self._link, url, self._place.name)
        refuse_malformed(url)
        try:
            with self._link.errors("open"):
                prepare(self._link.get(patience=_OPEN_SECONDS), url)
        except StoreError:
            self._link.drop()
            raise
        except Busy as error:
            self._link.drop()
            raise StoreError(
                message=f"{error}; is the server running, and is this the address?"
            ) from error

    @property
    def sockets(self) -> Path | None:
        # Whichever way its address is written.
        query = "SELECT system_identifier, 'crew_schema'::regclass::oid FROM pg_control_system()"
        try:
            (row,) = self._read(query, ())
        except (StoreError, Busy):
            return None  # this user may not know which server it is
        return sockets_of("/".join(map(str, row)))

    def commit(self, operations: Sequence[Operation]) -> list[object]:
        return self._commits.commit(operations)

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
        parent: str | None = None,
        workflow: str | None = None,
        since: float | None = None,
        tags: Sequence[str] = (),
        before: int | None = None,
        limit: int = 1000,
    ) -> list[RunRow]:
        asked: list[tuple[str, object]] = [
            ("tenant = %s", tenant),
            ("thread = %s", thread),
            ("parent = %s", parent),
            ("workflow = %s", workflow),
            ("created_at >= %s", since),
            ("number < %s", before),
            ("status = ANY(%s)", list(status) or None),
            *(("number IN (SELECT number FROM tags WHERE tag = %s)", tag) for tag in tags),
        ]
        conditions = ["true", *(condition for condition, value in asked if value is not None)]
        values = [value for _, value in asked if value is not None]
        where = f"WHERE {' AND '.join(conditions)} ORDER BY number DESC LIMIT %s"
        return self._rows(where, [*values, limit])

    def thread(self, tenant: str, thread: str) -> ThreadRow | None:
        query = "SELECT * FROM threads WHERE tenant = %s AND thread = %s"
        return next((ThreadRow(*row) for row in self._read(query, (tenant, thread))), None)

    def threads(self, tenant: str) -> dict[str, float]:
        query = "SELECT thread, updated_at FROM threads WHERE tenant = %s"
        return dict(self._read(query, (tenant,)))

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

    def write_ahead(self, blob: Blob) -> None:
        """A commit sends it."""

    def owners(self) -> list[str]:
        query = "SELECT DISTINCT owner FROM runs WHERE owner IS NOT NULL AND owner != %s"
        return [owner for (owner,) in self._read(query, (PARKED,))]

    def unbegun(self, owner: str) -> list[RunRow]:
        query = (
            "WHERE owner = %s AND epoch = 1 AND last_offset = base_offset + 1 "
            "AND status = 'running' ORDER BY number"
        )
        return self._rows(query, [owner])

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
            f") AND {_IS_OPEN} "
            f"AND (workflow, version) IN (SELECT * FROM unnest(%s::text[], %s::text[])) "
            f"AND (turn IS NULL OR NOT EXISTS (SELECT 1 FROM runs AS earlier "
            f"WHERE earlier.tenant = r.tenant AND earlier.thread = r.thread "
            f"AND earlier.turn < r.turn AND earlier.status IN ('running', 'waiting'))) "
            f"ORDER BY number LIMIT %s",
            [now, list(dead), PARKED, names, versions, limit],
        )

    def of_other_code(
        self, known: Collection[tuple[str, str]], *, limit: int = 100
    ) -> list[RunRow]:
        names, versions = [name for name, _ in known], [version for _, version in known]
        return self._rows(
            f"WHERE {_IS_OPEN} AND owner IS DISTINCT FROM %s "  # noqa: S608  constants
            f"AND (workflow, version) NOT IN "
            f"(SELECT * FROM unnest(%s::text[], %s::text[])) ORDER BY number LIMIT %s",
            [PARKED, names, versions, limit],
        )

    def turns(self, tenant: str, thread: str, *, after: int = 0) -> list[RunRow]:
        return self._rows(
            "WHERE tenant = %s AND thread = %s AND turn > %s ORDER BY turn",
            [tenant, thread, after],
        )

    def accounts(self, ids: Sequence[str]) -> list[AccountRow]:
        return [account_row(stored) for stored in self._read(ACCOUNTS_BY_ID, (list(ids),))]

    def notes(self, tenant: str, scopes: Sequence[str], words: str, limit: int) -> list[Note]:
        with self._link.errors("read"):
            return find_notes(self._link, tenant, scopes, words, limit)

    def letters(self, numbers: Sequence[int]) -> list[Letter]:
        query = (
            f"SELECT {_LETTER} FROM letters "  # noqa: S608  constants
            f"WHERE number = ANY(%s) AND body IS NOT NULL ORDER BY id"
        )
        return [Letter(*row) for row in self._read(query, (list(numbers),))]

    def answers(self, tenant: str, key: str) -> list[Letter]:
        query = (
            f"SELECT {_LETTER} FROM letters WHERE key = %s AND number IN "  # noqa: S608  constants
            f"(SELECT number FROM runs WHERE tenant = %s) ORDER BY id"
        )
        return [Letter(*row) for row in self._read(query, (key, tenant))]

    def changed(self) -> int:
        # No NOTIFY in commits: they would wait for each other in all of the server's databases,
        # so that none shared a flush of the log.
        query = "SELECT sum(commits) FROM writers WHERE name != %s"
        with self._link.errors("read"):
            row = self._link.get().execute(query, (self._place.name,)).fetchone()
        return int(row[0] or 0) if row else 0

    def claim_owner(self, owner: str) -> None:
        place = self._place
        self._forget_gone_owners()
        self._write_owner(
            "INSERT INTO owners VALUES (%s, 0, %s, %s, %s) ON CONFLICT DO NOTHING",
            (owner, place.machine, place.pid, place.began),
        )

    def _forget_gone_owners(self) -> None:
        """Remove those that are proven dead: so is one of whom nothing is known."""
        here = self._place.machine
        query = "SELECT owner, pid, began FROM owners WHERE place = %s"
        found = self._read(query, (here,))
        gone = [owner for owner, pid, began in found if self._place.is_gone(here, pid, began)]
        if gone:
            self._write_owner("DELETE FROM owners WHERE owner = ANY(%s)", (gone,))

    def release_owner(self, owner: str) -> None:
        self._write_owner("DELETE FROM owners WHERE owner = %s", (owner,))

    def serve(self, owner: str, workflows: Sequence[tuple[str, str]]) -> None:
        kinds = json.dumps(workflows)
        self._write_owner("UPDATE owners SET serves = %s WHERE owner = %s", (kinds, owner))

    def served(self) -> set[tuple[str, str]]:
        # By the server's clock alone: no two clocks are compared.
        query = "SELECT serves FROM owners WHERE seen > now() - make_interval(secs => %s)"
        rows = self._read(query, (_SILENT_SECONDS,))
        return {(name, version) for (text,) in rows for name, version in json.loads(text)}

    def beat(self, owner: str) -> None:
        query = "UPDATE owners SET beat = beat + 1, seen = now() WHERE owner = %s"
        self._write_owner(query, (owner,))

    def _write_owner(self, query: str, values: Sequence[object]) -> None:
        with self._heart_link.errors("write"):
            self._heart_link.execute(query, values)

    def sign(self, owner: str) -> Sign:
        query = "SELECT beat, place, pid, began FROM owners WHERE owner = %s"
        for beat, machine, pid, began in self._read(query, (owner,)):
            return Sign(dead=self._place.is_gone(machine, pid, began), beat=beat)
        return Sign(dead=True, beat=0)

    def scrub(self) -> None:
        with self._link.errors("scrub"):
            db = self._link.get()
            db.execute("SET statement_timeout = 0")  # it takes as long as the tables are big
            try:
                for table in _TABLES:
                    db.execute(f"VACUUM FULL {table}")  # pyrefly: ignore
            finally:
                self._link.drop()

    def close(self) -> None:
        self._commits.close()
        self._link.drop()
        self._heart_link.drop()

    def _read(self, query: str, values: Sequence[object]) -> list[tuple[Any, ...]]:
        with self._link.errors("read"):
            return self._link.execute(query, values)

    def _rows(self, where: str, values: Sequence[object]) -> list[RunRow]:
        query = f"SELECT {COLUMNS} FROM runs {where}"  # noqa: S608  constants
        return [RunRow(*row) for row in self._read(query, values)]
