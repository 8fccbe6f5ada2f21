"""A connection to PostgreSQL that comes back: opened when needed, never waited for long."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg import conninfo, errors

from crew.errors import StoreError
from crew.journal import Busy, shown

Db = psycopg.Connection[Any]
DbError = psycopg.Error
Connect = Callable[[str], Db]

PAUSE_SECONDS = 0.1
"""How long nothing is tried after the server could not be reached."""
GRACE_SECONDS = 0.1
"""How long a caller waits for a connection that is being opened."""
PATIENCE_SECONDS = 2.0
"""How long, at the begin of an outage, a reader waits for the server to come back."""
_TIMEOUTS = {
    "connect_timeout": 5,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,
}
_OPTIONS = (
    "-c statement_timeout=30000 -c lock_timeout=1000 -c idle_in_transaction_session_timeout=60000 "
    # What is decided after a lock must see what was committed before it.
    r"-c default_transaction_isolation=read\ committed -c jit=off"
)
_DURABLE = (
    "SELECT set_config('synchronous_commit', 'on', false) "
    "WHERE current_setting('synchronous_commit') = 'off'"
)
_LOST = ("08", "57P", "25006")
"""The connection is gone, or leads to a server that only reads: a new one is needed."""


def connect(url: str) -> Db:
    """Open a connection, the way every process of this project does.

    What the address says itself goes before what is said here.
    """
    given = conninfo.conninfo_to_dict(url)
    options = f"{_OPTIONS} {given.pop('options', '')}".strip()
    params = {**_TIMEOUTS, **given, "options": options}
    db = psycopg.connect(conninfo.make_conninfo("", **params), autocommit=True)
    db.execute(_DURABLE)
    return db


def refuse_malformed(url: str) -> None:
    """Refuse what is no address of PostgreSQL.

    Raises:
        StoreError: it cannot be understood. What its parser says may quote a password.
    """
    try:
        host = conninfo.conninfo_to_dict(url).get("host") or ""
    except psycopg.Error:
        host = "@"
    if "@" in str(host):
        raise StoreError(
            message=f"{shown(url)} is not an address of PostgreSQL; write "
            "postgresql://user:password@host:port/database, with %40 for @, %2F for / and %25 for "
            "% in the password"
        )


def is_lost(error: psycopg.Error) -> bool:
    """Return whether the connection went with this error, so that nobody knows what was done."""
    if error.sqlstate is None:
        return isinstance(error, (psycopg.OperationalError, psycopg.InterfaceError))
    return error.sqlstate.startswith(_LOST)


def is_of_server(error: Exception) -> bool:
    """Return whether the server or the connection failed; else one operation's values did."""
    if isinstance(error, Busy) or (isinstance(error, psycopg.Error) and is_lost(error)):
        return True
    is_limit = isinstance(error, errors.ProgramLimitExceeded)
    return isinstance(error, psycopg.OperationalError) and not is_limit


class Link:
    """One connection, opened again after it was lost; used from any thread.

    Args:
        url: the database's address.
        opener: opens a connection; tests put faults in here.
    """

    def __init__(self, url: str, opener: Connect) -> None:
        self._url = url
        self._opener = opener
        self._connection: Db | None = None
        self._opening: Future[Db] | None = None
        self._lock = threading.Lock()
        self._not_before = 0.0
        self._down_since: float | None = None

    def get(self, *, patience: float = GRACE_SECONDS) -> Db:
        """Return the connection.

        Args:
            patience: seconds to wait for one that is being opened.

        Raises:
            Busy: the server cannot be reached now; try again soon.
        """
        with self._lock:
            if self._connection is None or self._connection.closed:
                self._connection = self._opened(patience)
                self._down_since = None
            return self._connection

    def _opened(self, patience: float) -> Db:
        if self._opening is None:
            if time.monotonic() < self._not_before:
                raise Busy(f"{shown(self._url)} cannot be reached")
            # In a thread: an address that does not answer must not hold the event loop.
            self._opening = _in_thread(self._opener, self._url)
        try:
            return self._opening.result(patience)
        except TimeoutError as error:
            raise Busy(f"{shown(self._url)} does not answer yet") from error
        except psycopg.OperationalError as error:
            self._not_before = time.monotonic() + PAUSE_SECONDS
            raise Busy(f"{shown(self._url)} cannot be reached: {first_line(error)}") from error
        finally:
            if self._opening.done():
                self._opening = None

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
                        message=f"{shown(self._url)} cannot be reached: {first_line(error)}"
                    ) from error
                time.sleep(PAUSE_SECONDS / 5)

    def drop(self) -> None:
        """Close the connection; the next `get` opens a new one."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
            if self._opening is not None:
                self._opening.add_done_callback(_close_opened)
            self._connection = self._opening = None

    @contextmanager
    def errors(self, action: str) -> Iterator[None]:
        """A block whose errors of the database are this package's.

        Raises:
            Busy: nothing was done; the same may be tried again.
            StoreError: the database refuses it.
        """
        try:
            yield
        except psycopg.Error as error:
            if is_lost(error):
                self.drop()
            elif not is_of_server(error):
                raise self.refusal(action, error) from error
            raise Busy(f"{shown(self._url)}: {first_line(error)}") from error
        except UnicodeError as error:
            raise self.refusal(action, error) from error

    def refusal(self, action: str, error: Exception) -> StoreError:
        """Return what is said of something that the database will never do."""
        return StoreError(
            message=f"cannot {action} {shown(self._url)}: {first_line(error)}; check the "
            "database's log and this user's rights"
        )


def first_line(error: BaseException) -> str:
    """Return what an error says in short."""
    return str(error).strip().partition("\n")[0] or type(error).__name__


def _in_thread(opener: Connect, url: str) -> "Future[Db]":
    future: Future[Db] = Future()

    def work() -> None:
        try:
            future.set_result(opener(url))
        except Exception as error:  # noqa: BLE001  raised where the connection is asked for
            future.set_exception(error)

    threading.Thread(target=work, name="connect-postgres", daemon=True).start()
    return future


def _close_opened(future: "Future[Db]") -> None:
    if future.exception() is None:
        future.result().close()
