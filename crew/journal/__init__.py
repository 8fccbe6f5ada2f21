"""The journal: the one source of truth of every run, and the protocol of what stores it."""

import re
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Final, Literal, NamedTuple, Protocol, get_args

from crew.budget import Account
from crew.define import frozen
from crew.journal.notes import Note, NoteChange

RunStatus = Literal["running", "waiting", "completed", "failed", "cancelled"]
WhenBusy = Literal["queue", "reject", "cancel"]

STATUSES: tuple[RunStatus, ...] = get_args(RunStatus)
WHEN_BUSY: tuple[WhenBusy, ...] = get_args(WhenBusy)
OPEN: tuple[RunStatus, ...] = ("running", "waiting")

NO_OPENING: Final = "[]"
"""The opening of a thread that begins with its first turn."""

PARKED: Final = "parked"
"""The owner of a run that waits for a person to choose how it goes on."""


@frozen
class Blob:
    """A big text or value, named by the SHA-256 of its bytes; stored once, whoever shares it."""

    digest: str
    body: bytes


# The most of all that is made: a tuple costs a third of a frozen dataclass.
class StoredEvent(NamedTuple):
    """One event as it lies in the store; `body` is JSON text.

    `crc` is chained over the run by `crew.journal.reading.checksum`.
    `blobs` are the big texts that `body` names, to be stored with it; not read back.
    """

    offset: int
    kind: str
    path: str
    body: str
    crc: int
    at: float
    blobs: tuple[Blob, ...] = ()


@frozen
class Snapshot:
    """The fold of a run's events up to `offset`, whose checksum is `crc`; derived, never needed.

    `version` names the code that can read `body`, which is JSON text; `check` is its CRC-32.
    """

    offset: int
    crc: int
    version: str
    body: str
    check: int


# A row is made at each commit: a tuple costs a third of a frozen dataclass.
class RunRow(NamedTuple):
    """What the store knows of a run beside its events. Times are unix seconds.

    A fork has the events of run number `base` up to `base_offset` as its own first ones. `due` is
    when a waiting run goes on by itself.
    """

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
    base: int | None = None
    base_offset: int = 0
    due: float | None = None


@frozen
class ThreadRow:
    """What is kept of a thread beside its runs; see `KeepThread`. Times are unix seconds."""

    tenant: str
    thread: str
    metadata: str
    opening: str
    created_at: float
    updated_at: float


@frozen
class Drawn:
    """What of a budget is used: spent, or reserved for calls; `open` tokens may still come back.

    Money is in billionths. Whatever of it may come back does so with tokens.
    """

    tokens: int = 0
    calls: int = 0
    open: int = 0
    money: int = 0

    def __add__(self, other: "Drawn") -> "Drawn":
        return Drawn(
            self.tokens + other.tokens,
            self.calls + other.calls,
            self.open + other.open,
            self.money + other.money,
        )

    def __sub__(self, other: "Drawn") -> "Drawn":
        return Drawn(
            self.tokens - other.tokens,
            self.calls - other.calls,
            self.open - other.open,
            self.money - other.money,
        )


@frozen
class AccountRow:
    """What is drawn of an account of run `number`: by its `own` calls, and by all beneath it, too.

    `above` are the ids of those that its own calls are drawn on besides, the outermost first.
    """

    id: str
    number: int
    above: tuple[str, ...] = ()
    own: Drawn = Drawn()
    total: Drawn = Drawn()
    is_closed: bool = False


@frozen
class NewRun:
    """Start a run: its row and its first event, in one transaction.

    `input_hash` tells whether the same `key` comes with the same input; without a key it is empty.
    With another one, or for another thread, a key is refused with `KeyReused`.
    The turn's number on its thread is given by the store, in the order of acceptance; a fork is no
    turn, though it has its base's thread. `when_busy="cancel"` puts a cancel into the inbox of each
    earlier turn that is open.
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
    base: int | None = None
    base_offset: int = 0
    tags: tuple[str, ...] = ()
    """What it is found by besides: a short text for each name and value of its metadata."""


@frozen
class Append:
    """Write events after the last one of a run, by the worker that holds `epoch`.

    With a `status`, `due` is set too. The letters of a run that ends are removed; of answers with a
    key the body alone. What comes behind the end is refused with `Fenced`, whatever its epoch.
    The `notes` are changed with it, in their order, or not at all.
    """

    number: int
    epoch: int
    events: tuple[StoredEvent, ...]
    status: RunStatus | None = None
    due: float | None = None
    snapshot: Snapshot | None = None
    notes: tuple[NoteChange, ...] = ()


@frozen
class Take:
    """Become a run's owner: its epoch goes up, so that the old owner is fenced.

    `from_owner` is the owner that was found dead (None: the run had none); another one, or an
    ended run, is refused.
    """

    number: int
    owner: str
    from_owner: str | None


@frozen
class Release:
    """Give up a run, so that anybody may take it, or leave it `to` somebody.

    One that has ended, or that another worker holds by now, is left as it is.
    """

    number: int
    epoch: int
    to: str | None = None


@frozen
class Post:
    """Put a letter into a run's inbox: an `answer` (`name` is its question's path) or a `cancel`.

    A second answer to one question is refused with `AskError`, and so is any to a run that ended;
    but one with the idempotency `key` of the first is the first, sent again. `seen` is the offset
    up to which its sender has read the run.
    """

    number: int
    kind: str
    name: str
    body: str
    at: float
    key: str | None = None
    seen: int = 0


@frozen
class Clear:
    """Remove letters that were turned into events, by the worker that holds `epoch`.

    Those that are `kept` are not handed out again, but still refuse a second answer.
    """

    number: int
    epoch: int
    letters: tuple[int, ...]
    kept: tuple[int, ...] = ()


@frozen
class Remove:
    """Remove runs for good, with their events, letters and snapshots, and blobs nobody else uses.

    A run that one that stays is a fork of is left as it is. Returns the numbers removed; or None,
    and removes nothing, if one of them has not ended.

    With a `thread` of a `tenant` they are that conversation, and what is kept of it goes with the
    last of them. Nothing is removed of one that goes on: that has another run by now, or of which
    what is kept was not changed last at `changed_at` (0: nothing is kept; None: no matter when).
    """

    numbers: tuple[int, ...]
    tenant: str = ""
    thread: str | None = None
    changed_at: float | None = None


@frozen
class RemoveNotes:
    """Remove the notes that runs of a tenant have written which are no more.

    With `threads` those of these conversations alone.
    """

    tenant: str
    threads: tuple[str, ...] | None = None


@frozen
class KeepThread:
    """Keep with a thread what no run of it says; both are JSON text.

    `metadata` takes the place of what was kept. `opening` is what was said before the first turn:
    a thread has one from its beginning or never, since what was said does not change.
    """

    tenant: str
    thread: str
    metadata: str
    at: float
    opening: str = NO_OPENING


@frozen
class Draw:
    """Draw on accounts for a call of a run, by the worker that holds `epoch`; or give back.

    It is drawn on all of them: on those `above`, and on the run's `own`, which are made where they
    are missing. One that `asks` is refused with `BudgetExceeded` where a limit would be passed, or
    an account is closed.
    """

    number: int
    epoch: int
    above: tuple[Account, ...]
    own: tuple[Account, ...]
    amount: Drawn
    asks: bool = False


@frozen
class Settle:
    """Say what the own calls of a run have drawn, whatever was drawn before: it is in its journal.

    `held` has an id and an amount for each of its accounts; the first is the run's, whose calls are
    drawn on those `above`, too. Of its accounts that are not named nothing is under way any more.
    They are open from then on, or closed if the run `ends`. Returns the row of the run's.
    """

    number: int
    epoch: int
    above: tuple[str, ...]
    held: tuple[tuple[str, Drawn], ...]
    ends: bool = False


Operation = (
    NewRun
    | Append
    | Take
    | Release
    | Post
    | Clear
    | Remove
    | RemoveNotes
    | KeepThread
    | Draw
    | Settle
)


@frozen
class Letter:
    """A `Post` in an inbox; the body of one that was turned into an event is empty."""

    id: int
    number: int
    kind: str
    name: str
    body: str
    at: float
    key: str | None = None
    seen: int = 0


@frozen
class Started:
    """The answer to `NewRun`: the run's row, and whether it is new or was found by its key."""

    row: RunRow
    is_new: bool


@frozen
class Sign:
    """What an owner shows of its life: proven dead, or a number that grows while it lives."""

    dead: bool
    beat: int


class Busy(Exception):
    """Another process holds the store's write lock; nothing was written, try again soon."""


class Damaged(Exception):
    """What lies in the store of a run was not written by any release."""


def shown(url: str) -> str:
    """Return a store's address as it may be shown: without its passwords."""
    masked = re.sub(r"^((?:[^:@]*://)?[^:/?@]*):(?!//).*@", r"\1:***@", url)
    return re.sub(r"(?i)(password=)[^&]*", r"\1***", masked)


class Store(Protocol):
    """Where journals lie. Methods are quick and synchronous; the writer calls them on the loop.

    Every store passes `crew.testing.StoreSuite`.
    """

    @property
    def url(self) -> str: ...

    @property
    def sockets(self) -> Path | None:
        """Where the processes of this machine that share it find each other; None: it has one."""
        ...

    def commit(self, operations: Sequence[Operation]) -> list[object]:
        """Carry out all operations in one transaction, durable on return.

        Returns one result each: `Started` for a `NewRun`, the `RunRow` for a `Take`, the removed
        numbers for a `Remove`, the `AccountRow` for a `Settle`, else None; or the exception
        (`Fenced`, `ThreadBusy`, `KeyReused`, `AskError`, `RunNotFound`, `BudgetExceeded`) that
        refused this operation alone, while the others went through.

        Raises:
            Busy: nothing was written; try again.
            StoreError: whether anything was written is not known; the connection may be gone.
        """
        ...

    def run(self, run_id: str, *, tenant: str | None = None) -> RunRow | None: ...

    def numbered(self, number: int) -> RunRow | None: ...

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
        """Return runs, the newest first; those older than run number `before`.

        With a `parent`, a run's id, its children alone. `workflow` is a name, `since` is in unix
        seconds: when it was accepted, or later. A run has to have all `tags`.
        """
        ...

    def events(self, number: int, *, after: int = 0, limit: int = 1024) -> list[StoredEvent]:
        """Return a run's own events; a fork's begin after its `base_offset`.

        Raises:
            Damaged: one of them cannot be decoded.
        """
        ...

    def snapshot(self, number: int) -> Snapshot | None:
        """Return the newest snapshot of a run.

        Raises:
            Damaged: it cannot be decoded.
        """
        ...

    def blob(self, digest: str) -> bytes | None: ...

    def write_ahead(self, blob: Blob) -> None:
        """Do what takes long of storing a blob that a commit will name; called from any thread.

        If none does, nobody sees it.
        """
        ...

    def owners(self) -> list[str]:
        """Return who owns open runs, parked ones aside."""
        ...

    def unbegun(self, owner: str) -> list[RunRow]:
        """Return open runs that were started in the name of `owner`, of which it wrote nothing."""
        ...

    def takeable(
        self,
        known: Sequence[tuple[str, str]],
        dead: Sequence[str],
        now: float,
        *,
        limit: int = 256,
    ) -> list[RunRow]:
        """Return open runs that may be taken, those first in their thread, oldest first.

        They are of one of the `known` workflows, as (name, version). They are running, or wait with
        a letter or past their due time, and nobody owns them; or their owner is one of the `dead`.
        A parked run may be taken once somebody cancelled it.
        """
        ...

    def of_other_code(
        self, known: Collection[tuple[str, str]], *, limit: int = 100
    ) -> list[RunRow]:
        """Return open runs of none of the `known` workflows, parked ones aside, the oldest first.

        `known` are (name, version).
        """
        ...

    def turns(self, tenant: str, thread: str, *, after: int = 0) -> list[RunRow]:
        """Return a thread's runs after turn `after`, in their order; forks are no turns."""
        ...

    def thread(self, tenant: str, thread: str) -> ThreadRow | None:
        """Return what is kept of a thread beside its runs, if anything is."""
        ...

    def threads(self, tenant: str) -> dict[str, float]:
        """Return when what is kept of a tenant's threads was last changed, by their names."""
        ...

    def notes(self, tenant: str, scopes: Sequence[str], words: str, limit: int) -> list[Note]:
        """Return notes of a tenant, of any of these scopes, that hold one of the words.

        Those are first that hold the most of them, then the newest. Without a word in `words`, the
        newest notes.

        Raises:
            StoreError: one of them is damaged.
        """
        ...

    def accounts(self, ids: Sequence[str]) -> list[AccountRow]:
        """Return what is drawn of those accounts that anything was ever drawn of.

        Raises:
            StoreError: one of them is damaged.
        """
        ...

    def letters(self, numbers: Sequence[int]) -> list[Letter]:
        """Return what lies in inboxes and was not turned into an event, in the order of arrival."""
        ...

    def answers(self, tenant: str, key: str) -> list[Letter]:
        """Return the answers to a tenant's runs that came with a key, those that ended, too."""
        ...

    def changed(self) -> int:
        """Return a number that is another one after another process committed."""
        ...

    def claim_owner(self, owner: str) -> None:
        """Show that `owner` lives, until this process ends or `release_owner`."""
        ...

    def release_owner(self, owner: str) -> None: ...

    def serve(self, owner: str, workflows: Sequence[tuple[str, str]]) -> None:
        """Show of which workflows, as (name, version), a claimed owner takes runs."""
        ...

    def served(self) -> set[tuple[str, str]]:
        """Return the workflows of which somebody who lives, as far as is known, takes runs."""
        ...

    def beat(self, owner: str) -> None:
        """Let an owner's sign grow; called from any thread."""
        ...

    def sign(self, owner: str) -> Sign: ...

    def scrub(self) -> None:
        """Overwrite what removed runs left behind: in free pages, logs and dictionaries."""
        ...

    def close(self) -> None: ...
