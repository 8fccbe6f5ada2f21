"""The journal: the one source of truth of every run, and the protocol of what stores it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

RunStatus = Literal["running", "waiting", "completed", "failed", "cancelled"]
WhenBusy = Literal["queue", "reject", "cancel"]

OPEN: tuple[RunStatus, ...] = ("running", "waiting")


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """One event as it lies in the store; `body` is JSON text, `crc` is chained over the run."""

    offset: int
    kind: str
    path: str
    body: str
    crc: int
    at: float


@dataclass(frozen=True, slots=True)
class RunRow:
    """What the store knows of a run beside its events. Times are unix seconds."""

    number: int
    id: str
    tenant: str
    workflow: str
    version: str
    key: str | None
    input_hash: str
    thread: str | None
    turn: int | None
    parent: str | None
    status: RunStatus
    owner: str | None
    epoch: int
    offset: int
    crc: int
    created_at: float
    updated_at: float


@dataclass(frozen=True, slots=True)
class NewRun:
    """Start a run: its row and its first event, in one transaction.

    The turn's number on its thread is given by the store, in the order of acceptance.
    """

    id: str
    tenant: str
    workflow: str
    version: str
    key: str | None
    input_hash: str
    thread: str | None
    parent: str | None
    owner: str | None
    when_busy: WhenBusy
    first: StoredEvent
    at: float


@dataclass(frozen=True, slots=True)
class Append:
    """Write events after the last one of a run, by the worker that holds `epoch`."""

    number: int
    epoch: int
    events: tuple[StoredEvent, ...]
    status: RunStatus | None = None


@dataclass(frozen=True, slots=True)
class Take:
    """Become a run's owner: its epoch goes up, so that the old owner is fenced.

    `from_owner` is the owner that was found dead (None: the run had none); another one, or an
    ended run, is refused.
    """

    number: int
    owner: str
    from_owner: str | None


@dataclass(frozen=True, slots=True)
class Release:
    """Give up a run that has not ended, so that anybody may take it; or leave it `to` somebody."""

    number: int
    epoch: int
    to: str | None = None


@dataclass(frozen=True, slots=True)
class Post:
    """Put a letter into a run's inbox: an answer (`name` is its key) or a cancel."""

    number: int
    kind: str
    name: str
    body: str
    at: float


@dataclass(frozen=True, slots=True)
class Clear:
    """Remove letters that were turned into events."""

    letters: tuple[int, ...]


Operation = NewRun | Append | Take | Release | Post | Clear


@dataclass(frozen=True, slots=True)
class Letter:
    id: int
    number: int
    kind: str
    name: str
    body: str


@dataclass(frozen=True, slots=True)
class Started:
    """The answer to `NewRun`: the run's row, and whether it is new or was found by its key."""

    row: RunRow
    is_new: bool


class Busy(Exception):
    """Another process holds the store's write lock; nothing was written, try again soon."""


class Store(Protocol):
    """Where journals lie. Methods are quick and synchronous; the writer calls them on the loop.

    Every store passes `crew.testing.StoreSuite`.
    """

    @property
    def url(self) -> str: ...

    def commit(self, operations: Sequence[Operation]) -> list[object]:
        """Carry out all operations in one transaction, durable on return.

        Returns one result each: `Started` for a `NewRun`, the `RunRow` for a `Take`, else None; or
        the exception (`Fenced`, `ThreadBusy`, `KeyReused`, `RunNotFound`) that refused this
        operation alone, while the others went through.

        Raises:
            Busy: nothing was written; try again.
            StoreError: nothing was written; the connection may be gone.
        """
        ...

    def run(self, run_id: str, *, tenant: str | None = None) -> RunRow | None: ...

    def runs(
        self,
        *,
        tenant: str | None = None,
        status: Sequence[RunStatus] = (),
        thread: str | None = None,
        limit: int = 1000,
    ) -> list[RunRow]:
        """Return runs, the newest first."""
        ...

    def events(self, number: int, *, after: int = 0, limit: int = 1024) -> list[StoredEvent]: ...

    def takeable(self) -> list[RunRow]:
        """Return the open runs that are first in their thread, oldest first."""
        ...

    def turns(self, tenant: str, thread: str) -> list[RunRow]:
        """Return a thread's runs in the order of their turns."""
        ...

    def letters(self, numbers: Sequence[int]) -> list[Letter]: ...

    def changed(self) -> int:
        """Return a number that is another one after another process committed."""
        ...

    def claim_owner(self, owner: str) -> None:
        """Show that `owner` lives, until this process ends or `release_owner`."""
        ...

    def release_owner(self, owner: str) -> None: ...

    def owner_lives(self, owner: str) -> bool: ...

    def close(self) -> None: ...
