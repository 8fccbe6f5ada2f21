"""A worker: the runs that one process owns and drives, from taking them to letting them go."""

import asyncio
import contextlib
import json
import logging
from collections.abc import Coroutine
from contextvars import Context as Variables
from dataclasses import replace
from typing import Any, Protocol, cast

from crew.clock import wall_clock
from crew.errors import AskError, Fenced, NewerEvent, RunNotFound, StoreError
from crew.event import Event, RunEndedByCancel, RunForked, from_data
from crew.graph import Workflow
from crew.journal import PARKED, Busy, Clear, Letter, Release, RunRow, Store, Take
from crew.journal.reading import JournalReader
from crew.journal.writer import OpenRun, Writer
from crew.message import Json
from crew.run.calls import RunCalls, Surroundings
from crew.run.driver import SHORT_SECONDS, SNAPSHOT_EVENTS, Driver, Taken, is_poisoned
from crew.run.fork import prepare_fork
from crew.run.liveness import Liveness
from crew.run.snapshot import snapshot_version

logger = logging.getLogger(__name__)

TAKE_SECONDS = 0.5
"""How often a worker looks for runs whose owner died."""
MOST_TAKEN = 256
"""How many runs are taken at once."""
LINGER_SECONDS = 1.0
"""How long a run that waits stays in memory, for an answer that comes at once."""


class Employer(Surroundings, Protocol):
    """What a worker needs of its runtime."""

    store: Store
    writer: Writer

    def workflow_of(self, row: RunRow) -> Workflow | None: ...

    def known(self) -> list[tuple[str, str]]:
        """Return the names and versions of the workflows that may be driven here."""
        ...

    def wake(self, *numbers: int) -> None:
        """Let those who follow these runs look at them again."""
        ...

    def spawn(self, work: Coroutine[Any, Any, None]) -> None: ...


class Worker:
    """Owns runs of a store, under one name, and drives them in this process.

    Args:
        employer: the runtime.
        owner: the name; its lock shows others that it lives.
        takes_over: whether it looks for runs that nobody owns.
        lease: seconds of silence after which another owner's runs are taken.
    """

    def __init__(self, employer: Employer, owner: str, *, takes_over: bool, lease: float) -> None:
        self.owner = owner
        self.takes_over = takes_over
        self.lost: dict[int, StoreError] = {}
        """What made this process let go of runs that nobody else has."""
        self.unreadable: dict[int, NewerEvent] = {}
        """Why runs are left to processes of a newer release, by their numbers."""
        self._in_doubt = False
        """Whether a write failed, so that runs may be owned here that nobody drives."""
        self._employer = employer
        self._drivers: dict[int, Driver] = {}
        self._lease = lease
        self._watched: Liveness | None = None
        self._open = True

    @property
    def _liveness(self) -> Liveness:
        if self._watched is None:
            self._watched = Liveness(self._employer.store, self._lease)
        return self._watched

    def durable(self, number: int) -> int:
        """Return up to which offset a run is on disk; 0 where it is not driven here."""
        driver = self._drivers.get(number)
        return 0 if driver is None else driver.open.durable_offset

    def drives(self, number: int) -> bool:
        """Return whether a run is driven here."""
        return number in self._drivers

    def drive(
        self, row: RunRow, workflow: Workflow, *, taken: Taken | None = None
    ) -> Driver | None:
        """Fold a run that this process owns, and go on with it.

        Raises:
            NewerEvent: this release cannot read its journal; the run is let go.
        """
        driver = Driver(self._employer, workflow, row, rests=self._rested)
        try:
            crc = self._fold(driver, workflow, row)
        except StoreError as error:
            self.lost[row.number] = error
            return None
        except NewerEvent as error:
            self.unreadable[row.number] = replace(error, run=row.id)
            self._employer.spawn(self._let_go(row, error.kind))
            raise self.unreadable[row.number] from error
        self.lost.pop(row.number, None)
        self._drivers[row.number] = driver
        driver.go(crc=crc, code=workflow.code_hash() if taken else "", taken=taken)
        self._employer.spawn(self._follow(driver))
        return driver

    def _fold(self, driver: Driver, workflow: Workflow, row: RunRow) -> int:
        """Bring a driver to where the journal ends; return the checksum there."""
        reader = JournalReader(self._employer.store, row, learner=driver.open.text)
        after = 0
        snapshot = None
        if row.offset > SNAPSHOT_EVENTS and not workflow.plain:
            snapshot = reader.snapshot(snapshot_version(workflow))
        if snapshot is not None:
            body, after = json.loads(snapshot.body), snapshot.offset
            driver.open.text.learn_pointers(body, reader.text)
            driver.load(reader.text.resolve(body), after)
        events = reader.every(after=after, upto=row.offset)
        driver.fold(events)
        if row.base is not None:
            base = self._employer.store.numbered(row.base)
            forked = from_data("run.forked", "", reader.one(row.base_offset + 1).data)
            assert base is not None
            assert isinstance(forked, RunForked)
            prepare_fork(driver, forked, JournalReader(self._employer.store, base))
        return row.crc

    async def _let_go(self, row: RunRow, kind: str) -> None:
        """Give up a run whose journal this release cannot read."""
        logger.warning("run.unreadable", extra={"run": row.id, "kind": kind})
        try:
            await self._employer.writer.execute(Release(row.number, row.epoch))
        except (Fenced, StoreError):
            self.unreadable.pop(row.number, None)  # unless somebody else has it, it is taken anew
            self.doubt()

    def _rested(self, driver: Driver) -> None:
        loop = asyncio.get_running_loop()
        loop.call_later(LINGER_SECONDS, self._leave_soon, driver, context=Variables())

    def _leave_soon(self, driver: Driver) -> None:
        if self._may_leave(driver):
            self._employer.spawn(self._leave(driver))

    def _may_leave(self, driver: Driver) -> bool:
        if not self._open or self._drivers.get(driver.row.number) is not driver:
            return False
        if not self.takes_over:
            return False  # it would not come back
        is_due = driver.due is not None and driver.due - wall_clock() < SHORT_SECONDS
        return driver.is_waiting and not is_due

    async def _leave(self, driver: Driver) -> None:
        """Let a run that waits go out of memory: from here on it is only rows."""
        number = driver.row.number
        try:
            await self._employer.writer.durable(driver.open)
            await self.read_letters(number)
            if not self._may_leave(driver):
                return
            if self._employer.store.letters([number]):
                self._rested(driver)  # for a question that is still to be asked
                return
            # From here on no letter is turned into an event, until somebody takes the run.
            del self._drivers[number]
            await driver.abandon()
            await self._employer.writer.execute(Release(number, driver.row.epoch))
        except (Fenced, StoreError):
            self.doubt()  # it is somebody else's, or is taken anew, or was let go after all
        self._employer.wake(number)
        self._employer.look()  # a letter may have come meanwhile

    async def _follow(self, driver: Driver) -> None:
        number = driver.row.number
        try:
            await asyncio.shield(driver.ended)
        except Fenced:
            pass  # another worker goes on with it, and what it writes is followed from here
        except StoreError as error:
            self.lost[number] = error
            self.doubt()
        if driver.is_parked and self._open:
            await self._employer.writer.execute(Release(number, driver.row.epoch, to=PARKED))
        if self._drivers.get(number) is driver and self._open:
            del self._drivers[number]
            self._employer.wake(number)
            self._employer.look()  # the next turn of its thread may be waiting

    async def take(self, row: RunRow, *, proven: bool = True, explicit: bool = False) -> None:
        """Become the owner of a run that its owner let go, and drive it.

        Args:
            row: the run, as it was when its owner was found gone.
            proven: whether the owner is proven dead.
            explicit: somebody asked for it, so that it is driven whatever happened to its owners.

        Raises:
            NewerEvent: somebody asked for it, and this release cannot read its journal.
        """
        workflow = self._employer.workflow_of(row)
        assert workflow is not None
        try:
            taken = await self._employer.writer.execute(Take(row.number, self.owner, row.owner))
        except (Fenced, RunNotFound):
            return  # another worker was faster
        except StoreError:
            self.doubt()
            raise
        mine = cast("RunRow", taken)
        if any(letter.kind == "cancel" for letter in self._employer.store.letters([row.number])):
            await self._end_by_cancel(mine)
            return
        try:
            driver = self.drive(mine, workflow, taken=Taken(proven))
        except NewerEvent:
            if explicit:
                raise
            return
        if driver is None or explicit:
            return
        died_at_work = row.owner is not None and row.status == "running"
        if died_at_work and is_poisoned(await _tail(self._employer.store, row)):
            driver.park(
                "poisoned", "its last workers died without one new event; look, then `crew resume`"
            )

    async def read_letters(self, *only: int) -> None:
        """Turn the letters for runs that are driven here, or `only` some of them, into events."""
        if not self._drivers:
            return
        clears: list[Clear] = []
        for number, letters in self._letters_of(only or tuple(self._drivers)).items():
            driver = self._drivers[number]
            done, kept = list[int](), list[int]()
            for letter in letters:
                delivered = driver.deliver(letter, json.loads(letter.body))
                if delivered is None:
                    done.append(letter.id)
                elif delivered:
                    kept.append(letter.id)
            if done or kept:
                clears.append(Clear(number, driver.row.epoch, tuple(done), tuple(kept)))
        # In one transaction with the events that were made of the letters.
        await asyncio.gather(*(self._employer.writer.execute(clear) for clear in clears))

    def _letters_of(self, numbers: tuple[int, ...]) -> dict[int, list[Letter]]:
        found: dict[int, list[Letter]] = {}
        for letter in self._employer.store.letters(numbers):
            found.setdefault(letter.number, []).append(letter)
        return found

    async def take_over(self) -> None:
        """Take the runs that nobody owns any more, of the workflows that are known here."""
        for driver in list(self._drivers.values()):
            driver.review()
        if not self.takes_over:
            return
        store = self._employer.store
        gone = self._liveness.gone([name for name in store.owners() if name != self.owner])
        mine = [self.owner] if self._in_doubt else []
        if self._in_doubt:
            self._forget_errors()
        self._in_doubt = False
        # What is left alone here comes back each time, and must not crowd the others out.
        most = MOST_TAKEN + len(self.unreadable)
        rows = store.takeable(self._employer.known(), [*gone, *mine], wall_clock(), limit=most)
        takes = [
            self.take(row, proven=gone.get(row.owner or "", True))
            for row in rows
            if row.number not in self._drivers and row.number not in self.unreadable
        ]
        await asyncio.gather(*takes)

    def _forget_errors(self) -> None:
        """Forget why the store failed for runs that are in others' hands by now."""
        for number in list(self.lost):
            row = self._employer.store.numbered(number)
            if row is None or row.owner != self.owner:
                del self.lost[number]

    def doubt(self) -> None:
        """Note that a write failed, though it may have been carried out.

        What was in memory is not to be trusted then: runs that are owned here and that nobody
        drives are taken anew, from what is stored.
        """
        self._in_doubt = True

    def blink(self) -> None:
        """Note that the store could not be read: nobody's silence counts meanwhile."""
        self._liveness.blink()

    async def cancel_unowned(self, row: RunRow) -> bool:
        """Record the cancel of a run that nobody drives; False where somebody does."""
        if row.number in self._drivers:
            return False
        owner = row.owner
        if owner not in (None, PARKED) and not self._employer.store.sign(owner).dead:
            return False
        try:
            taken = await self._employer.writer.execute(Take(row.number, self.owner, row.owner))
        except (Fenced, RunNotFound):
            return False
        await self._end_by_cancel(cast("RunRow", taken))
        return True

    async def _end_by_cancel(self, mine: RunRow) -> None:
        run = OpenRun(mine.id, mine.number, mine.epoch, mine.offset, mine.crc, row=mine)
        self._employer.writer.append(run, RunEndedByCancel(), "cancelled")
        await self._employer.writer.durable(run)

    def check_answer(self, number: int, path: str, value: Json) -> None:
        """Refuse an answer that is not of the type of a question asked here.

        Raises:
            AskError: it does not validate.
        """
        driver = self._drivers.get(number)
        if driver is not None and (problem := driver.calls.waits.problem_of(path, value)):
            raise AskError(message=f"that is no answer to {path}: {problem}")

    def calls_of(self, run: str, epoch: int) -> RunCalls:
        """Return the calls of a run, for work that was dispatched under `epoch`.

        Raises:
            Fenced: the run is not driven here under that epoch.
        """
        for driver in self._drivers.values():
            if (driver.run_id, driver.row.epoch) == (run, epoch):
                return driver.calls
        raise Fenced(run=run)

    def active(self) -> int:
        """Return how many runs are under way here, those that wait for somebody aside."""
        return sum(not driver.is_waiting for driver in self._drivers.values())

    async def drain(self) -> None:
        """Take no further run, and return when those under way have ended or wait."""
        self.takes_over = False
        while self.active():
            await asyncio.wait({d.ended for d in self._drivers.values()}, timeout=TAKE_SECONDS)

    async def release(self) -> None:
        """Give up the runs that have not ended, as their journals have them."""
        self._open = False
        for driver in list(self._drivers.values()):
            await driver.abandon()
            try:
                await self._employer.writer.durable(driver.open)
                await self._employer.writer.execute(Release(driver.row.number, driver.row.epoch))
            except (Fenced, StoreError):
                continue  # then somebody else has it, or finds it without an owner
        self._drivers.clear()
        # A store that cannot be reached finds the owner gone when its process is.
        with contextlib.suppress(StoreError, Busy):
            self._employer.store.release_owner(self.owner)


async def _tail(store: Store, row: RunRow) -> list[Event]:
    stored = store.events(row.number, after=max(0, row.offset - 3))
    return [Event(item.offset, item.kind, item.path, {}) for item in stored]
