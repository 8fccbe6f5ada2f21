"""Output commit: the appends of all runs of a process share transactions.

A commit is due when somebody waits for durability, when 1,024 events are pending, or 5 ms after
the first, never merely because a tick of the event loop ended. Pure steps thus run ahead of the
disk, and whoever shows something to the world waits.

Source: "Output commit" in Elnozahy et al., "A survey of rollback-recovery protocols", 2002.
"""

import asyncio
import json
import time
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from crew.errors import StoreError
from crew.event import Event, RunEvent, to_data
from crew.journal import Append, Busy, Operation, RunRow, RunStatus, Store, StoredEvent
from crew.journal.text import TextReader, TextWriter
from crew.message import Json
from crew.value import json_text

MAX_PENDING = 1024
MAX_DELAY = 0.005
BUSY_DELAY = 0.0005
BUSY_LIMIT = 30.0


@dataclass(slots=True)
class OpenRun:
    """A run that this process may append to: its place in the store, and its chain so far."""

    id: str
    number: int
    epoch: int
    offset: int
    crc: int
    text: TextWriter = field(default_factory=TextWriter)
    durable_offset: int = 0
    error: Exception | None = None


@dataclass(slots=True)
class _Waiting:
    operation: Operation
    done: asyncio.Future[object]


class Writer:
    """The one place of a process that writes to a store.

    Args:
        on_commit: called after each commit, with the numbers of the runs that grew.
    """

    def __init__(self, store: Store, *, on_commit: Callable[[set[int]], None]) -> None:
        self._store = store
        self._on_commit = on_commit
        self._pending: dict[int, tuple[OpenRun, list[StoredEvent], RunStatus | None]] = {}
        self._count = 0
        self._operations: list[_Waiting] = []
        self._waiters: list[tuple[OpenRun, int, asyncio.Future[None]]] = []
        self._timer: asyncio.TimerHandle | asyncio.Handle | None = None
        self._timer_is_now = False
        self._busy_since: float | None = None

    def append(self, run: OpenRun, event: RunEvent, status: RunStatus | None = None) -> int:
        """Add an event to the next commit, and return its offset. Nothing is on disk yet.

        Raises:
            Fenced, StoreError: an earlier append of this run was refused.
        """
        if run.error is not None:
            raise run.error
        run.offset += 1
        stored = seal(run, run.offset, event)
        _, events, old = self._pending.setdefault(run.number, (run, [], None))
        events.append(stored)
        self._pending[run.number] = (run, events, status or old)
        self._count += 1
        self._schedule(now=self._count >= MAX_PENDING)
        return run.offset

    def set_status(self, run: OpenRun, status: RunStatus) -> None:
        """Change the run's status with the next commit, without an event."""
        _, events, _ = self._pending.setdefault(run.number, (run, [], None))
        self._pending[run.number] = (run, events, status)
        self._schedule(now=False)

    async def durable(self, run: OpenRun) -> None:
        """Return when everything appended to `run` so far is on disk.

        Raises:
            Fenced: another worker drives the run; what was not durable is gone.
            StoreError: the store failed; likewise.
        """
        if run.error is not None:
            raise run.error
        if run.durable_offset >= run.offset:
            return
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append((run, run.offset, done))
        self._schedule(now=True)
        await done

    async def execute(self, operation: Operation) -> object:
        """Carry out one operation with the next commit, and return its result once durable.

        Raises:
            StoreError: nothing was written.
            CrewError: the store refused this operation; see `Store.commit`.
        """
        waiting = _Waiting(operation, asyncio.get_running_loop().create_future())
        self._operations.append(waiting)
        self._schedule(now=True)
        result = await waiting.done
        if isinstance(result, Exception):
            raise result
        return result

    async def flush(self) -> None:
        """Write everything that is pending."""
        for run, _, _ in list(self._pending.values()):
            await self.durable(run)

    def _schedule(self, *, now: bool) -> None:
        if self._timer is not None:
            if self._timer_is_now or not now:
                return
            self._timer.cancel()
        loop = asyncio.get_running_loop()
        self._timer_is_now = now
        self._timer = (
            loop.call_soon(self._commit) if now else loop.call_later(MAX_DELAY, self._commit)
        )

    def _commit(self) -> None:
        self._timer = None
        pending, operations = list(self._pending.values()), self._operations
        if not pending and not operations:
            return
        batch: list[Operation] = [waiting.operation for waiting in operations]
        batch += [
            Append(run.number, run.epoch, tuple(events), status) for run, events, status in pending
        ]
        try:
            results = self._store.commit(batch)
        except Busy:
            self._again()
            return
        except StoreError as error:
            results = [error] * len(batch)
        self._busy_since = None
        self._forget_batch()
        self._settle(operations, pending, results)

    def _forget_batch(self) -> None:
        self._pending = {}
        self._operations = []
        self._count = 0

    def _again(self) -> None:
        """Another process holds the lock: keep everything, and try again very soon."""
        now = time.monotonic()
        self._busy_since = self._busy_since or now
        if now - self._busy_since > BUSY_LIMIT:
            error = StoreError(
                message=f"{self._store.url} was locked by another process for {BUSY_LIMIT:.0f} s; "
                "find out which (`lsof`), or use PostgreSQL for several machines"
            )
            pending, operations = list(self._pending.values()), self._operations
            self._forget_batch()
            self._busy_since = None
            self._settle(operations, pending, [error] * (len(operations) + len(pending)))
            return
        self._timer_is_now = True
        self._timer = asyncio.get_running_loop().call_later(BUSY_DELAY, self._commit)

    def _settle(
        self,
        operations: Sequence[_Waiting],
        pending: Sequence[tuple[OpenRun, list[StoredEvent], RunStatus | None]],
        results: Sequence[object],
    ) -> None:
        for waiting, result in zip(operations, results, strict=False):
            if not waiting.done.done():
                waiting.done.set_result(result)
        grown: set[int] = set()
        for (run, events, _), result in zip(pending, results[len(operations) :], strict=True):
            if isinstance(result, Exception):
                run.error = result
            elif events:
                run.durable_offset = events[-1].offset
            grown.add(run.number)
        waiters = self._waiters
        self._waiters = []
        for run, offset, done in waiters:
            if done.done():
                continue
            if run.error is not None:
                done.set_exception(run.error)
            elif run.durable_offset >= offset:
                done.set_result(None)
            else:
                self._waiters.append((run, offset, done))
        self._on_commit(grown)


def seal(run: OpenRun, offset: int, event: RunEvent) -> StoredEvent:
    """Pack and encode an event, and chain its checksum to the run's."""
    packed = run.text.pack(offset, to_data(event))
    body = json_text(packed)
    run.crc = checksum(run.crc, event.kind, event.path, body)
    return StoredEvent(offset, event.kind, event.path, body, run.crc, time.time())


def checksum(before: int, kind: str, path: str, body: str) -> int:
    """Return the CRC-32 of an event, chained over the one before."""
    return zlib.crc32(f"{kind}\0{path}\0{body}".encode(), before)


def read_events(store: Store, row: RunRow, *, upto: int) -> list[Event]:
    """Read a run's events from the first to `upto`, and verify their chain.

    Raises:
        StoreError: an event is missing, or its bytes are not those that were written.
    """
    reader, crc, found = TextReader(), 0, list[Event]()
    while len(found) < upto:
        stored_events = store.events(row.number, after=len(found), limit=upto - len(found))
        for stored in stored_events:
            crc = checksum(crc, stored.kind, stored.path, stored.body)
            if stored.offset != len(found) + 1 or stored.crc != crc:
                raise damaged(store, row, len(found) + 1)
            found.append(unseal(stored, reader))
        if not stored_events:
            raise damaged(store, row, len(found) + 1)
    return found


def unseal(stored: StoredEvent, reader: TextReader) -> Event:
    """Return a stored event as its readers see it."""
    data: Json = reader.unpack(stored.offset, json.loads(stored.body))
    return Event(stored.offset, stored.kind, stored.path, data, stored.at)


def damaged(store: Store, row: RunRow, offset: int) -> StoreError:
    """Return the error of a journal that is not what was written."""
    return StoreError(
        message=f"the journal of run {row.id} in {store.url} is damaged at event {offset}; restore "
        "a backup; other runs are not affected"
    )
