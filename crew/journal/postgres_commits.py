"""Commits to PostgreSQL that are written once, whatever becomes of the connection.

A writer counts its commits in a row of its own, in the transaction of each. When an answer is lost,
that row tells whether the commit went through; and since it is raised by one more while it is
looked at, a statement that is still on its way finds another number there and does nothing.
Transaction ids would not do: after a crash the server gives those again that it lost.
"""

import contextlib
import secrets
from collections.abc import Sequence

from crew.define import frozen
from crew.errors import StoreError
from crew.journal import Append, Busy, Operation, rules, shown
from crew.journal.again import Again
from crew.journal.postgres_link import Db, DbError, Link, is_lost, is_of_server
from crew.journal.postgres_operations import (
    COUNT,
    append_alone,
    apply,
    apply_all,
    have_a_run_each,
    lock,
    results_of,
    written_of,
)


@frozen
class _Doubt:
    """A commit whose answer was lost, with its results where they are known."""

    commits: int
    operations: Sequence[Operation]
    results: list[object] | None


class Commits:
    """The one way in which a store writes operations.

    Args:
        name: this writer's, of its own.
    """

    def __init__(self, link: Link, url: str, name: str) -> None:
        self._link = link
        self._url = url
        self._name = name
        self._commits: int | None = None
        self._doubt: _Doubt | None = None
        self._again = Again()

    def commit(self, operations: Sequence[Operation]) -> list[object]:
        """See `Store.commit`."""
        with self._link.errors("write"):
            self._settle()
            if not self._again:
                return self._write(operations)
        left = self._again.left(operations)
        try:
            with self._link.errors("write"):
                results = self._write(left) if left else []
        except StoreError as error:
            results = [error] * len(left)
        merged = self._again.merged(operations, results)
        self._again = Again()
        return merged

    def close(self) -> None:
        """Take this writer's row away, if the server is there."""
        if self._commits is not None and self._doubt is None:
            with contextlib.suppress(Busy, DbError):
                self._link.get().execute("DELETE FROM writers WHERE name = %s", (self._name,))
        self._commits = None

    def _write(self, operations: Sequence[Operation]) -> list[object]:
        db = self._link.get()
        commits = self._registered(db)
        appends = [item for item in operations if isinstance(item, Append)]
        try:
            if len(appends) == len(operations) and _fit_one_statement(appends):
                return self._append_alone(db, commits, appends)
            return self._transact(db, commits, operations, alone=False)
        except Exception as error:
            if is_of_server(error):
                raise
            return self._transact(db, commits, operations, alone=True)

    def _registered(self, db: Db) -> int:
        """Return the number of commits of this writer; it begins anywhere, never twice alike."""
        if self._commits is None:
            commits = secrets.randbits(48)
            db.execute("DELETE FROM writers WHERE at < now() - interval '7 days'")
            db.execute(
                "INSERT INTO writers VALUES (%s, %s, now()) "
                "ON CONFLICT (name) DO UPDATE SET commits = excluded.commits",
                (self._name, commits),
            )
            self._commits = commits
        return self._commits

    def _append_alone(self, db: Db, commits: int, appends: Sequence[Append]) -> list[object]:
        doubt = _Doubt(commits, appends, None)
        try:
            counted, moved = append_alone(db, appends, writer=self._name, commits=commits)
        except DbError as error:
            self._doubt = doubt if is_lost(error) else None
            raise
        self._count(counted)
        if len(moved) == len(appends):
            return [None] * len(appends)
        self._doubt = doubt  # until it is known who is fenced
        results = results_of(db, appends, moved)
        self._doubt = None
        return results

    def _transact(
        self, db: Db, commits: int, operations: Sequence[Operation], *, alone: bool
    ) -> list[object]:
        """Write operations in one transaction, each in a savepoint of its own if `alone`."""
        try:
            with db.pipeline():
                db.execute("BEGIN")
                counting = db.execute(COUNT, (self._name, commits))
                if not alone:
                    lock(db, operations)
            counted = counting.fetchone()
            if counted is None:
                self._count(None)
            if alone:
                results = [self._apply_alone(db, operation) for operation in operations]
            else:
                results = apply_all(db, operations)
        except BaseException:
            with contextlib.suppress(DbError):
                db.execute("ROLLBACK")
            raise
        try:
            db.execute("COMMIT")
        except DbError as error:
            if is_lost(error):
                self._doubt = _Doubt(commits, operations, results)
            raise
        self._count(commits + 1)
        return results

    def _apply_alone(self, db: Db, operation: Operation) -> object:
        try:
            with db.transaction():
                # Out of the order of all locks: who waits for us then is told so, and tries again.
                lock(db, [operation])
                return apply(db, operation)
        except Exception as error:
            if is_of_server(error):
                raise
            if isinstance(error, (DbError, UnicodeError)):
                return self._link.refusal("write", error)
            return rules.unwritable(operation, error)

    def _count(self, commits: int | None) -> None:
        self._commits = commits
        if commits is None:
            raise Busy(f"{shown(self._url)} has forgotten this writer, so nothing was written")

    def _settle(self) -> None:
        """Find out what became of the commit whose answer was lost, if one was.

        Raises:
            Busy: the server cannot be asked yet.
            StoreError: it does not know either.
        """
        doubt = self._doubt
        if doubt is None:
            return
        db = self._link.get()
        now = self._decided(db, doubt.commits)
        if now == doubt.commits + 1:
            results = doubt.results
            if results is None:
                appends = [item for item in doubt.operations if isinstance(item, Append)]
                results = results_of(db, appends, written_of(db, appends))
            self._again.note(doubt.operations, results)
        self._commits, self._doubt = now, None
        if now is None:
            raise StoreError(
                message=f"the connection to {shown(self._url)} was lost in mid-commit, and the "
                "database was emptied or restored meanwhile; what was being written may be there"
            )

    def _decided(self, db: Db, commits: int) -> int | None:
        """Return the number of commits once it can only be that: one more if the last was written.

        It waits for a transaction that is still at work, and voids one that is still on its way by
        raising the number by two.
        """
        db.execute(
            "UPDATE writers SET commits = commits + 2 WHERE name = %s AND commits = %s",
            (self._name, commits),
        )
        row = db.execute("SELECT commits FROM writers WHERE name = %s", (self._name,)).fetchone()
        return row[0] if row else None


def _fit_one_statement(appends: Sequence[Append]) -> bool:
    return have_a_run_each(appends) and not any(
        item.snapshot is not None or item.notes or any(event.blobs for event in item.events)
        for item in appends
    )
