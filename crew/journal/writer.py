"""Output commit: the appends of all runs of a process share transactions.

A commit is due when somebody waits for durability, when 1,024 events are pending, or 5 ms after
the first, never merely because a tick of the event loop ended. Pure steps thus run ahead of the
disk, and whoever shows something to the world waits. Where code has held the event loop for 5 ms,
so that no timer comes, the next append commits at once: what is done is not lost.

Source: "Output commit" in Elnozahy et al., "A survey of rollback-recovery protocols", 2002.
"""

import asyncio
import hashlib
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextvars import Context as Variables
from dataclasses import field
from typing import Any, Protocol, TypeAlias

from crew.clock import clock_here, steady_clock, wall_clock
from crew.define import define
from crew.errors import Fenced, StoreError
from crew.event import CallCompleted, RunEvent, StepFailed, TextDiscarded, TextEmitted, to_data
from crew.journal import (
    OPEN,
    Append,
    Blob,
    Busy,
    Operation,
    RunRow,
    RunStatus,
    Snapshot,
    Started,
    Store,
    StoredEvent,
)
from crew.journal.notes import NoteChange
from crew.journal.reading import checksum
from crew.journal.text import TextWriter, may_hold_text
from crew.message import Json
from crew.value import Big, Codec, aside, document, json_text

logger = logging.getLogger(__name__)

TimedEvent: TypeAlias = tuple[float, RunEvent]
"""An event, and when it was written, in unix seconds."""

MAX_PENDING = 1024
MAX_DELAY = 0.005
BUSY_DELAY = 0.0005
BUSY_LIMIT = 30.0
CONFIRMED_SECONDS = 0.05
"""How long a commit shows that a run is ours: less than any lease."""


_OF_STREAMS = frozenset({TextEmitted.kind, TextDiscarded.kind, "model.completed"})
"""What begins, takes back and ends the text of a model that comes in pieces."""
_CLEAN = Variables()
"""A commit is of no step, whichever made it due."""
QUIET = Variables()
"""The context of callbacks that append nothing: a commit waits for none that is ready."""
_MOST_QUIET = 4


def _nobody(error: Exception) -> None:
    """Nobody drives it."""


def _not_due() -> None:
    """Nobody folds it."""


@define
class OpenRun:
    """A run that this process may append to: its place in the store, and its chain so far."""

    id: str
    number: int
    epoch: int
    offset: int
    crc: int
    text: TextWriter = field(default_factory=TextWriter)
    durable_offset: int = 0
    confirmed: float = 0.0
    """When, on the monotonic clock, a commit that showed that the run is ours began."""
    error: Exception | None = None
    is_ended: bool = False
    """Whether its last event was appended: nothing may follow, in the same commit least of all."""
    lost: Callable[[Exception], None] = _nobody
    """Called at once when a commit of this run was refused."""
    snapshot: Callable[[], Snapshot | None] = _not_due
    """Asked at each commit for the fold of everything that was appended so far, if that is due."""
    row: RunRow | None = None
    """What the store knew of it when it was opened; None of a run that is being started."""

    def let_go(self) -> None:
        """Tell nobody any more what becomes of it."""
        self.lost, self.snapshot = _nobody, _not_due


class Observer(Protocol):
    """Gets what was written, once it is durable."""

    @property
    def watches(self) -> bool:
        """Whether it wants every event, not only a step's failure, and changes of status."""
        ...

    def carried_out(self, operation: Operation, result: object) -> None:
        """An operation was carried out, or `result` is the exception that refused it."""
        ...

    def reopened(self, run: OpenRun, events: Sequence[TimedEvent]) -> None:
        """These events are what the journal held of a run before it was opened."""
        ...

    def appended(self, run: OpenRun, events: Sequence[TimedEvent]) -> None: ...

    def refused(self, run: OpenRun, error: Exception) -> None:
        """What was appended to the run was not written."""
        ...

    def committed(self, events: int, seconds: float) -> None:
        """A transaction wrote so many events, and took so long."""
        ...


@define
class _Waiting:
    operation: Operation
    done: asyncio.Future[object]


@define
class _Pending:
    """What the next commit writes of one run."""

    run: OpenRun
    events: list[StoredEvent] = field(default_factory=list)
    observed: list[TimedEvent] = field(default_factory=list)
    status: RunStatus | None = None
    due: float | None = None
    notes: tuple[NoteChange, ...] = ()

    def operation(self) -> Append:
        return Append(
            self.run.number,
            self.run.epoch,
            tuple(self.events),
            self.status,
            self.due,
            _snapshot_of(self.run) if self.events else None,
            self.notes,
        )


class Writer:
    """The one place of a process that writes to a store.

    Args:
        on_commit: called after each commit, with the runs that it was of and what it wrote of each.
        observer: called last after each commit, so that an error of it harms no run.
    """

    def __init__(
        self,
        store: Store,
        *,
        on_commit: Callable[[Mapping[int, Sequence[StoredEvent]]], None],
        observer: Observer | None = None,
    ) -> None:
        self._store = store
        self._on_commit = on_commit
        self._observer = observer
        self._pending: dict[int, _Pending] = {}
        self._count = 0
        self._operations: list[_Waiting] = []
        self._waiters: list[tuple[OpenRun, asyncio.Future[None]]] = []
        self._clock = clock_here()
        self._soon: asyncio.Handle | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._oldest = 0.0
        """Since when something waits for a commit, on the loop's clock."""
        self._busy_since: float | None = None
        self._now = time.monotonic
        self._due: float | None = None
        """When a commit does not wait for its timer, since the event loop did not turn before."""
        self._looks_for_turn = False
        self._held_since = 0.0
        """Since when the event loop has not turned, if that is looked for."""

    def append(self, run: OpenRun, event: RunEvent, status: RunStatus | None = None) -> int:
        """Add an event to the next commit, and return its offset. Nothing is on disk yet.

        Raises:
            Fenced: the run has ended.
            Fenced, StoreError: an earlier append of this run was refused.
        """
        if run.error is not None or run.is_ended:
            raise _refusal(run)
        stored = seal(run, run.offset + 1, event, self._clock())
        run.offset = stored.offset
        pending = self._pending_of(run)
        pending.events.append(stored)
        observer = self._observer
        if observer is not None and (
            status is not None or observer.watches or type(event) is StepFailed
        ):
            pending.observed.append((stored.at, event))
        if status is not None:
            pending.status, pending.due = status, None
            run.is_ended = status not in OPEN
        self._count += 1
        if self._timer is None or self._count >= MAX_PENDING:
            self._schedule(now=self._count >= MAX_PENDING)
        if self._due is None:
            self._look_for_turn()
        return run.offset

    def change_notes(self, run: OpenRun, change: NoteChange) -> None:
        """Change notes in the commit of the event that is appended next, and at once.

        Raises:
            Fenced: the run has ended.
            Fenced, StoreError: an earlier append of this run was refused.
        """
        if run.error is not None or run.is_ended:
            raise _refusal(run)
        self._pending_of(run).notes += (change,)

    def catch_up(self, run: OpenRun) -> None:
        """Commit here where code holds the event loop for so long that no timer comes.

        To be called once what was appended to `run` is folded, for a snapshot.

        Raises:
            Fenced, StoreError: the run's part was refused.
        """
        if self._due is None or self._now() < self._due:
            return
        if self._soon is not None:
            self._soon.cancel()
        _CLEAN.run(self._commit)
        if run.error is not None:
            raise run.error

    async def passed_on(self, run: OpenRun, codec: Codec, value: object) -> tuple[Json, Any]:
        """Return what `codec.passed_on` does of a big value that the run's next events may hold.

        It is written down beside the event loop; if nothing is appended then, nobody knows of it.

        Raises:
            OutputInvalid: as there.
        """
        big, blob = await aside(self._encoded, codec, value)
        run.text.make_ready(big.stored, blob)
        return big.stored, big.copy

    def _encoded(self, codec: Codec, value: object) -> tuple[Big, Blob]:
        big = codec.big(value)
        return big, self._ahead(big.document)

    async def encoded(self, run: OpenRun, codec: Codec, value: object) -> Json:
        """Do the same where the copy is not wanted: in the thread, to free it takes long, too."""
        stored, blob = await aside(self._only_encoded, codec, value)
        run.text.make_ready(stored, blob)
        return stored

    def _only_encoded(self, codec: Codec, value: object) -> tuple[Json, Blob]:
        big, blob = self._encoded(codec, value)
        return big.stored, blob

    async def write_down(self, run: OpenRun, stored: Json) -> None:
        """Do the same with a big value that is encoded already."""
        if id(stored) not in run.text.ready:
            blob = await aside(lambda: self._ahead(document(stored)))
            run.text.make_ready(stored, blob)

    def _ahead(self, text: bytes) -> Blob:
        blob = Blob(hashlib.sha256(text).hexdigest(), text)
        self._store.write_ahead(blob)
        return blob

    def _look_for_turn(self) -> None:
        """Note whether the event loop turns within the time in which a commit is due."""
        self._now = steady_clock()
        if not self._looks_for_turn:
            self._held_since = self._now()
        self._due = self._now() + MAX_DELAY
        self._looks_for_turn = True
        asyncio.get_running_loop().call_soon(self._turned, context=QUIET)

    def _turned(self) -> None:
        self._looks_for_turn = False
        if not self._count:
            self._due = None

    def reopened(self, run: OpenRun, events: Iterable[TimedEvent]) -> None:
        """Hand the observer what the journal held of a run before it was opened here."""
        if self._observer is not None and self._observer.watches:
            self._observer.reopened(run, list(events))

    def set_status(self, run: OpenRun, status: RunStatus, due: float | None = None) -> None:
        """Change the run's status with the next commit, without an event.

        `due` is when a waiting run goes on by itself, in unix seconds.

        Raises:
            Fenced: the run has ended.
            Fenced, StoreError: an earlier append of this run was refused.
        """
        if run.error is not None or run.is_ended:
            raise _refusal(run)
        pending = self._pending_of(run)
        pending.status, pending.due = status, due
        self._schedule(now=False)

    def _pending_of(self, run: OpenRun) -> _Pending:
        # By identity: one that was fenced may not write in the name of the one that drives it now.
        pending = self._pending.get(id(run))
        if pending is None:
            if not self._pending:
                self._oldest = asyncio.get_running_loop().time()
            pending = self._pending[id(run)] = _Pending(run)
        return pending

    def confirm(self, run: OpenRun) -> None:
        """Make sure that the run is still ours, if that was shown too long ago.

        A process may have been stopped since, and another one have taken its runs.

        Raises:
            Fenced: it is another worker's.
        """
        if time.monotonic() - run.confirmed < CONFIRMED_SECONDS:
            return
        row = self._store.numbered(run.number)
        if row is None or row.epoch != run.epoch:
            run.error = Fenced(run=run.id)
            run.lost(run.error)
            raise run.error

    def hasten(self) -> None:
        """Let the next commit be soon."""
        self._schedule(now=True)

    async def durable(self, run: OpenRun) -> None:
        """Return when everything appended to `run` so far is on disk.

        Raises:
            Fenced: another worker drives the run; what was not durable is gone.
            StoreError: the store failed; likewise.
        """
        if run.error is not None:
            raise run.error
        if run.durable_offset < run.offset and not self.commit_alone(run):
            await self.written(run)

    def commit_alone(self, run: OpenRun) -> bool:
        """Commit at once, if nobody could join in; return whether all of `run` is on disk.

        Raises:
            Fenced, StoreError: its part was refused.
        """
        if not self._is_alone():
            return False
        _CLEAN.run(self._commit)
        if run.error is not None:
            raise run.error
        return run.durable_offset >= run.offset

    def _is_alone(self) -> bool:
        """Return whether a commit that is due gains nothing by waiting until the loop turns.

        So it is where nothing is ready that could join in; but not where the loop has been held for
        long, so that others wait for it to turn.
        """
        ready = getattr(asyncio.get_running_loop(), "_ready", None)
        if ready is None or self._soon is not None or len(ready) > _MOST_QUIET:
            return False
        if any(handle._context is not QUIET for handle in ready):  # noqa: SLF001
            return False
        return not self._looks_for_turn or self._now() - self._held_since < MAX_DELAY

    def written(self, run: OpenRun) -> asyncio.Future[None]:
        """Return what is done once all that was appended to `run` so far is on disk.

        It has the exception that `durable` raises.
        """
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append((run, done))
        self._schedule(now=True)
        return done

    async def execute(self, operation: Operation) -> object:
        """Carry out one operation with the next commit, and return its result once durable.

        Raises:
            StoreError: whether anything was written is not known.
            CrewError: the store refused this operation; see `Store.commit`.
        """
        done = self._add(operation)
        if self._is_alone():
            _CLEAN.run(self._commit)
        else:
            self._schedule(now=True)
        result = await done
        if isinstance(result, Exception):
            raise result
        return result

    def submit(self, operation: Operation) -> asyncio.Future[object]:
        """Add an operation to the next commit, with what was appended before; see `execute`.

        What refused it comes as a result, and is not raised.
        """
        done = self._add(operation)
        self._schedule(now=True)
        return done

    def _add(self, operation: Operation) -> asyncio.Future[object]:
        waiting = _Waiting(operation, asyncio.get_running_loop().create_future())
        self._operations.append(waiting)
        return waiting.done

    def _schedule(self, *, now: bool) -> None:
        if self._soon is not None:
            return
        loop = asyncio.get_running_loop()
        if now:
            self._soon = loop.call_soon(self._commit, context=_CLEAN)
        elif self._timer is None:
            self._timer = loop.call_later(MAX_DELAY, self._pass, context=_CLEAN)

    def _pass(self) -> None:
        """Commit what is due by now.

        The timer outlives commits that come before it: to set one for each costs more than they do.
        """
        self._timer = None
        if self._soon is not None or not self._pending:
            return
        loop = asyncio.get_running_loop()
        left = self._oldest + MAX_DELAY - loop.time()
        if left > 0:
            self._timer = loop.call_later(left, self._pass, context=_CLEAN)
        else:
            self._commit()

    def _commit(self) -> None:
        self._soon = None
        pending, operations = list(self._pending.values()), self._operations
        batch: list[Operation] = [waiting.operation for waiting in operations]
        batch += [item.operation() for item in pending]
        began = time.monotonic()
        try:
            results = self._store.commit(batch)
        except Busy as error:
            self._again(error)
            return
        except StoreError as error:
            results = self._failed(error, len(batch))
            took = None
        except Exception as error:  # noqa: BLE001  nobody may wait for what will never be written
            results = self._failed(_unforeseen(error), len(batch))
            took = None
        else:
            took = time.monotonic() - began
        self._busy_since = None
        self._forget_batch()
        self._settle(operations, pending, results, began)
        self._report(operations, pending, results, took)

    def _failed(self, error: StoreError, size: int) -> list[object]:
        logger.warning("commit.failed", extra={"error": str(error), "operations": size})
        return [error] * size

    def _forget_batch(self) -> None:
        self._pending = {}
        self._operations = []
        self._count = 0
        self._due = self._now() + MAX_DELAY if self._looks_for_turn else None

    def _again(self, busy: Busy) -> None:
        """The store cannot be written just now: keep everything, and try again very soon."""
        now = time.monotonic()
        self._busy_since = self._busy_since or now
        if now - self._busy_since > BUSY_LIMIT:
            error = StoreError(
                message=f"nothing could be written for {BUSY_LIMIT:.0f} s: {busy}; the runs under "
                "way go on from what is stored once it can be again"
            )
            pending, operations = list(self._pending.values()), self._operations
            self._forget_batch()
            self._busy_since = None
            results = self._failed(error, len(operations) + len(pending))
            self._settle(operations, pending, results, now)
            self._report(operations, pending, results, None)
            return
        self._due = self._now() + MAX_DELAY
        self._soon = asyncio.get_running_loop().call_later(BUSY_DELAY, self._commit, context=_CLEAN)

    def _settle(
        self,
        operations: Sequence[_Waiting],
        pending: Sequence[_Pending],
        results: Sequence[object],
        began: float,
    ) -> None:
        for waiting, result in zip(operations, results, strict=False):
            if not waiting.done.done():
                waiting.done.set_result(result)
        grown: dict[int, Sequence[StoredEvent]] = {}
        for item, result in zip(pending, results[len(operations) :], strict=True):
            run = item.run
            grown[run.number] = ()
            if isinstance(result, Exception):
                run.error = result
                run.lost(result)
            elif item.events:
                run.durable_offset, run.confirmed = item.events[-1].offset, began
                grown[run.number] = item.events
        self._wake_waiters()
        self._on_commit(grown)

    def _wake_waiters(self) -> None:
        """Each waits for events that were pending, and a commit is of everything pending."""
        for run, done in self._waiters:
            if done.done():
                continue
            if run.error is not None:
                done.set_exception(run.error)
            else:
                done.set_result(None)
        self._waiters.clear()

    def _report(
        self,
        operations: Sequence[_Waiting],
        pending: Sequence[_Pending],
        results: Sequence[object],
        took: float | None,
    ) -> None:
        """Tell who observes; `took` is None where nothing was written.

        Their errors are logged: a commit may be made in the task of a run, which goes on behind it.
        """
        if self._observer is None:
            return
        try:
            self._report_to(self._observer, operations, pending, results, took)
        except Exception:
            logger.exception("observer.failed")

    def _report_to(
        self,
        observer: Observer,
        operations: Sequence[_Waiting],
        pending: Sequence[_Pending],
        results: Sequence[object],
        took: float | None,
    ) -> None:
        for waiting, result in zip(operations, results, strict=False):
            observer.carried_out(waiting.operation, result)
        for item, result in zip(pending, results[len(operations) :], strict=True):
            if isinstance(result, Exception):
                observer.refused(item.run, result)
            elif item.observed:
                observer.appended(item.run, item.observed)
        if took is not None and observer.watches:
            observer.committed(_count(pending, results), took)


def _count(pending: Sequence[_Pending], results: Sequence[object]) -> int:
    """Return how many events a commit wrote."""
    count = sum(isinstance(result, Started) and result.is_new for result in results)
    written = zip(pending, results[len(results) - len(pending) :], strict=True)
    return count + sum(len(i.events) for i, result in written if not isinstance(result, Exception))


def _snapshot_of(run: OpenRun) -> Snapshot | None:
    try:
        return run.snapshot()
    except Exception:  # one run's; a snapshot is never needed, and the others' commit is
        logger.exception("snapshot.failed", extra={"run": run.id})
        return None


def _unforeseen(error: Exception) -> StoreError:
    return StoreError(
        message=f"the store failed in an unforeseen way: {type(error).__name__}: {error}; whether "
        "anything was written is not known; the runs under way go on from what is stored"
    )


def _refusal(run: OpenRun) -> Exception:
    """Return what was said to an earlier append of this run, or that it has ended."""
    if run.error is not None:
        return run.error
    return Fenced(run=run.id, message=f"run {run.id} has ended; nothing follows its end")


def _follow_stream(run: OpenRun, offset: int, event: RunEvent) -> None:
    """Know what is streamed in the run."""
    match event:
        case CallCompleted(path=path):
            run.text.end(path)
        case TextEmitted(path=path, text=text, streamed=True):
            run.text.add_piece(path, offset, text)
        case TextDiscarded(path=path):
            run.text.forget(path)
        case _:
            pass


def seal(run: OpenRun, offset: int, event: RunEvent, now: float | None = None) -> StoredEvent:
    """Pack and encode an event, and chain its checksum to the run's; `now` is in unix seconds."""
    data, kind = to_data(event), event.kind
    if kind in _OF_STREAMS:
        _follow_stream(run, offset, event)
    is_ready = run.text.ready and run.text.is_ready(data)
    body, blobs = "" if is_ready else json_text(data), tuple[Blob, ...]()
    if is_ready or may_hold_text(body):
        packed, blobs = run.text.pack(offset, data)
        if packed is not data:
            body = json_text(packed)
    at = int((wall_clock() if now is None else now) * 1e6) / 1e6
    run.crc = checksum(run.crc, kind, event.path, body, at)
    return StoredEvent(offset, kind, event.path, body, run.crc, at, blobs)
