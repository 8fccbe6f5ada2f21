"""A connection to PostgreSQL that comes back: opened when needed, brought to its schema."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import resources
from typing import Any

import psycopg
from psycopg import errors

from crew.errors import StoreError
from crew.journal import Busy, shown

Connect = Callable[[str], "psycopg.Connection[Any]"]

SCHEMA_VERSION = 1
PAUSE_SECONDS = 0.1
"""How long nothing is tried after the server could not be reached."""
PATIENCE_SECONDS = 2.0
"""How long, at the begin of an outage, a reader waits for the server to come back."""
_MIGRATING = 5_127_881_340
"""The advisory lock under which one process brings a database to this release's schema."""
_OPTIONS = (
    "-c statement_timeout=30000 -c lock_timeout=5000 -c idle_in_transaction_session_timeout=60000"
)
_TRY_AGAIN = (
    errors.SerializationFailure,
    errors.DeadlockDetected,
    errors.LockNotAvailable,
    errors.UniqueViolation,
)


def connect(url: str) -> "psycopg.Connection[Any]":
    """Open a connection, the way every process of this project does."""
    return psycopg.connect(url, autocommit=True, connect_timeout=5, options=_OPTIONS)


class Link:
    """One connection, opened again after it was lost.

    Args:
        url: the database's address.
        opener: opens a connection; tests put faults in here.
    """

    def __init__(self, url: str, opener: Connect) -> None:
        self._url = url
        self._opener = opener
        self._connection: psycopg.Connection[Any] | None = None
        self._not_before = 0.0
        self._down_since: float | None = None

    def get(self) -> "psycopg.Connection[Any]":
        """Return the connection.

        Raises:
            Busy: the server cannot be reached now; try again soon.
        """
        if self._connection is None or self._connection.closed:
            if time.monotonic() < self._not_before:
                raise Busy(f"{shown(self._url)} cannot be reached")
            try:
                self._connection = self._opener(self._url)
                self._down_since = None
            except psycopg.OperationalError as error:
                self._not_before = time.monotonic() + PAUSE_SECONDS
                raise Busy(f"{shown(self._url)} cannot be reached: {_first(error)}") from error
        return self._connection

    def execute(self, query: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """Return the rows of a statement that may be carried out twice, whatever happens to it.

        A connection that was lost is opened again, with some patience.

        Raises:
            StoreError: the server cannot be reached.
        """
        while True:
            try:
                cursor = self.get().execute(query, values)  # pyrefly: ignore
                return cursor.fetchall() if cursor.description else []
            except (psycopg.OperationalError, Busy) as error:
                if isinstance(error, psycopg.OperationalError):
                    self.drop()
                now = time.monotonic()
                self._down_since = self._down_since or now
                if now - self._down_since > PATIENCE_SECONDS:
                    raise StoreError(
                        message=f"{shown(self._url)} cannot be reached: {_first(error)}"
                    ) from error
                time.sleep(PAUSE_SECONDS / 5)

    def drop(self) -> None:
        """Close the connection; the next `get` opens a new one."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    @contextmanager
    def errors(self, action: str) -> Iterator[None]:
        """A block whose errors of the database are this package's.

        Raises:
            Busy: nothing was done; the same may be tried again.
            StoreError: the database refuses it.
        """
        try:
            yield
        except _TRY_AGAIN as error:
            raise Busy(f"{shown(self._url)}: {_first(error)}") from error
        except psycopg.OperationalError as error:
            self.drop()
            raise Busy(f"{shown(self._url)}: {_first(error)}") from error
        except (psycopg.Error, UnicodeError) as error:
            raise StoreError(
                message=f"cannot {action} {shown(self._url)}: {_first(error)}; check the "
                "database's log and this user's rights"
            ) from error


def prepare(db: "psycopg.Connection[Any]", url: str) -> None:
    """Bring a database to this release's schema.

    Raises:
        StoreError: a newer release wrote it.
    """
    with db.transaction():
        db.execute("SELECT pg_advisory_xact_lock(%s)", (_MIGRATING,))
        db.execute("CREATE TABLE IF NOT EXISTS crew_schema (version int NOT NULL)")
        row = db.execute("SELECT version FROM crew_schema").fetchone()
        version = row[0] if row else 0
        if version > SCHEMA_VERSION:
            raise StoreError(
                message=f"{shown(url)} was written by a newer release (schema {version}, this one "
                f"knows {SCHEMA_VERSION}); upgrade with `pip install -U raycrew`. Nothing was "
                "changed"
            )
        for number in range(version + 1, SCHEMA_VERSION + 1):
            name = f"postgres_{number}.sql"
            script = resources.files("crew.journal").joinpath("sql", name).read_text("utf-8")
            db.execute(script)  # pyrefly: ignore
            db.execute("DELETE FROM crew_schema")
            db.execute("INSERT INTO crew_schema VALUES (%s)", (number,))


def _first(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__
