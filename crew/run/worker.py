"""A worker: the runs that one process owns and drives, from taking them to letting them go."""

import asyncio
import contextlib
import json
import logging
import time
from collections.abc import Coroutine, Sequence
from contextvars import Context as Variables
from dataclasses import replace
from typing import Any, Protocol, cast

from crew.clock import wall_clock
from crew.errors import (
    AskError,
    CrewError,
    Diverged,
    Fenced,
    NewerEvent,
    RunNotFound,
    StoreError,
    Unreadable,
)
from crew.event import RunEndedByCancel, RunForked, RunParked, RunTaken, from_data
from crew.graph import Workflow
from crew.hosts import here
from crew.journal import (
    OPEN,
    PARKED,
    Busy,
    Clear,
    Letter,
    Post,
    Release,
    RunRow,
    Store,
    StoredEvent,
    Take,
)
from crew.journal.reading import JournalReader
from crew.journal.writer import OpenRun, Writer
from crew.message import Json
from crew.run.calls import RunCalls, Surroundings
from crew.run.driver import SHORT_SECONDS, SNAPSHOT_EVENTS, Driver
from crew.run.fork import prepare_fork
from crew.run.liveness import Liveness
from crew.run.poison import DEATHS_TO_PARK, DEATHS_TO_SUSPECT, deaths_of, has_died, is_progress
from crew.run.snapshot import snapshot_version

logger = logging.getLogger(__name__)

TAKE_SECONDS = 0.5
"""How often a worker looks for runs whose owner died."""
MOST_TAKEN = 256
"""How many runs are taken at once."""
MOST_CHILDREN = 1 << 31
"""How many children of a run are cancelled with it: all of them."""
MOST_PAUSE_SECONDS = 60.0
"""How long a run that the store failed again and again is left alone, at most."""
MOST_TRIAL_SECONDS = 60.0
"""How long a run is driven beside no other that may end this process, at most."""
POISONED = (
    f"its last {DEATHS_TO_PARK} owners died without anything of it done; look, then `crew resume`"
)
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

    async def grown(self, number: int, after: int) -> Sequence[StoredEvent]:
        """Return when a run may have events after offset `after`; see `Home`."""
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
        self._held: dict[int, int] = {}
        """Epochs of the runs that are owned here and not driven yet, by their numbers."""
        self._pauses: dict[int, float] = {}
        self._suspect: int | None = None
        """The run that is driven to see whether it ends this process."""
        self._waiting = 0
        """How many others of that kind there are."""
        self._cancelled: set[int] = set()
        """Runs that are driven here and were told to stop."""
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

    async def take(
        self, row: RunRow, *, proven: bool = True, explicit: bool = False, deaths: int = 0
    ) -> None:
        """Become the owner of a run that its owner let go, and drive it, or leave it parked.

        Args:
            row: the run, as it was when its owner was found gone.
            proven: whether the owner is proven dead.
            explicit: somebody asked for it, so that it is driven whatever happened to its owners.
            deaths: how many owners of it died in a row; see `deaths_of`.

        Raises:
            NewerEvent, Diverged: somebody asked for it, and the code here cannot read its
                journal.
        """
        workflow = self._employer.workflow_of(row)
        assert workflow is not None
        if (mine := await self._own(row)) is None:
            return
        taken = _taken(
            mine, workflow, proven=proven, died=has_died(row, proven=proven, me=self.owner)
        )
        try:
            if any(
                letter.kind == "cancel" for letter in self._employer.store.letters([row.number])
            ):
                await self._end_by_cancel(mine)
            elif deaths >= DEATHS_TO_PARK and taken.died:
                await self._park(mine, RunParked("poisoned", POISONED), taken)
            else:
                await self.drive(mine, workflow, taken=taken)
        except (NewerEvent, Diverged):
            if explicit:
                raise

    async def _own(self, row: RunRow) -> RunRow | None:
        """Become the owner of a run; None if another worker was faster."""
        if row.number in self._held:
            return None
        self._held[row.number] = row.epoch + 1
        try:
            taken = await self._employer.writer.execute(Take(row.number, self.owner, row.owner))
        except (Fenced, RunNotFound):
            del self._held[row.number]
            return None
        except StoreError:
            self._give_back_later(row.number)
            raise
        return cast("RunRow", taken)

    async def drive(
        self, row: RunRow, workflow: Workflow, *, taken: RunTaken | None = None
    ) -> None:
        """Fold a run that this process owns, and go on with it; or park it, if the code cannot.

        Raises:
            NewerEvent: this release cannot read its journal; the run is let go.
            Diverged: the code cannot go on with it; the run is parked.
        """
        if not self._open:
            await self._employer.writer.execute(Release(row.number, row.epoch))
            return
        self._held[row.number] = row.epoch
        try:
            driver = await self._folded(row, workflow, taken)
        except Fenced:
            del self._held[row.number]  # another worker goes on with it
        except StoreError as error:
            self._lose(row.number, error)
        except NewerEvent as error:
            self.unreadable[row.number] = replace(error, run=row.id)
            await self._let_go(row, error.kind)
            raise self.unreadable.get(row.number, error) from error
        except Exception as error:
            problem = _divergence(row, workflow, error)
            reason = "unreadable" if isinstance(problem, Unreadable) else "diverged"
            await self._park(row, RunParked(reason, str(problem), problem.path), taken)
            raise problem from error
        else:
            self._go(driver)

    async def _folded(self, row: RunRow, workflow: Workflow, taken: RunTaken | None) -> Driver:
        """Return a run's driver where its journal ends, with the take-over on record."""
        driver = Driver(self._employer, workflow, row, rests=self._rested)
        self._fold(driver, workflow, row)
        if taken is not None:
            driver.record_take(taken)
            if taken.died:
                # Should it end this process too, at once, that must be told from the journal.
                await self._employer.writer.durable(driver.open)
        return driver

    def _go(self, driver: Driver) -> None:
        number = driver.row.number
        del self._held[number]
        self.lost.pop(number, None)
        self._drivers[number] = driver
        driver.go()
        self._employer.spawn(self._follow(driver))

    async def _park(self, row: RunRow, parked: RunParked, taken: RunTaken | None) -> None:
        """Leave a run that is owned here, and not driven, to a person: in one commit."""
        facts = {"run": row.id, "reason": parked.reason, "detail": parked.detail}
        logger.warning("run.parked", extra=facts)
        run, writer = _opened(row), self._employer.writer
        try:
            if taken is not None:
                writer.append(run, taken)
            writer.append(run, parked, "waiting")
            await writer.execute(Release(row.number, row.epoch, to=PARKED))
            await writer.durable(run)
        except Fenced:
            pass  # another worker has it
        except StoreError:
            self._doubt_later(row.number)  # it is taken again, and parks again
        del self._held[row.number]
        self._employer.wake(row.number)

    def _lose(self, number: int, error: StoreError) -> None:
        """Note that a run that is owned here could not be read from the store."""
        del self._held[number]
        self.lost[number] = error
        self._doubt_later(number)
        self._employer.wake(number)

    def _doubt_later(self, number: int) -> None:
        """Take a run that is owned here, and not driven, anew after a pause.

        The pause doubles each time: what is damaged stays so.
        """
        pause = self._pauses.get(number, TAKE_SECONDS)
        self._pauses[number] = min(2 * pause, MOST_PAUSE_SECONDS)
        asyncio.get_running_loop().call_later(pause, self.doubt)

    def _give_back_later(self, number: int) -> None:
        """Note that a run may be owned here since a write of unknown outcome."""
        del self._held[number]
        self.doubt()

    def _fold(self, driver: Driver, workflow: Workflow, row: RunRow) -> None:
        """Bring a driver to where the journal ends."""
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
        driver.open.crc = row.crc

    async def _let_go(self, row: RunRow, kind: str) -> None:
        """Give up a run whose journal this release cannot read."""
        logger.warning("run.unreadable", extra={"run": row.id, "kind": kind})
        try:
            await self._employer.writer.execute(Release(row.number, row.epoch))
        except (Fenced, StoreError):
            self.unreadable.pop(row.number, None)  # unless somebody else has it, it is taken anew
            self.doubt()
        del self._held[row.number]

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
            self._pauses.pop(number, None)
            await self._after_end(driver)
        except Fenced:
            pass  # another worker goes on with it, and what it writes is followed from here
        except StoreError as error:
            self.lost[number] = error
            self.doubt()
        except Exception as error:
            logger.exception("driver.failed", extra={"run": driver.run_id})
            self.lost[number] = StoreError(message=f"run {driver.run_id} is not driven: {error!r}")
            self._doubt_later(number)
        self._cancelled.discard(number)
        if self._drivers.get(number) is driver and self._open:
            del self._drivers[number]
            self._employer.wake(number)
            self._employer.look()  # the next turn of its thread may be waiting

    async def _after_end(self, driver: Driver) -> None:
        """Leave a run that parked to a person, and let a cancel reach the children of one."""
        number = driver.row.number
        try:
            if driver.is_parked and self._open:
                await self._employer.writer.execute(Release(number, driver.row.epoch, to=PARKED))
            if number in self._cancelled:
                await self._cancel_children(driver.row)
        except StoreError:
            self.doubt()  # it is taken again, and parks again

    async def read_letters(self, *only: int) -> None:
        """Turn the letters for runs that are driven here, or `only` some of them, into events."""
        if not self._drivers:
            return
        clears: list[Clear] = []
        for number, letters in self._letters_of(only or tuple(self._drivers)).items():
            driver = self._drivers[number]
            done, kept = list[int](), list[int]()
            for letter in letters:
                if letter.kind == "cancel":
                    self._cancelled.add(number)
                delivered = driver.deliver(letter, json.loads(letter.body))
                if delivered is None:
                    done.append(letter.id)
                elif delivered:
                    kept.append(letter.id)
            if done or kept:
                clears.append(Clear(number, driver.row.epoch, tuple(done), tuple(kept)))
        # At once: in one transaction with the events that were made of the letters.
        cleared = [self._employer.writer.submit(clear) for clear in clears]
        for result in await asyncio.gather(*cleared):
            if isinstance(result, StoreError):
                raise result

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
        most = MOST_TAKEN + len(self.unreadable) + self._waiting
        rows = store.takeable(self._employer.known(), [*gone, *mine], wall_clock(), limit=most)
        await self._take_all([row for row in rows if not self._is_left_alone(row.number)], gone)

    def _is_left_alone(self, number: int) -> bool:
        return any(number in kept for kept in (self._drivers, self._held, self.unreadable))

    async def _take_all(self, rows: Sequence[RunRow], gone: dict[str, bool]) -> None:
        """Take runs; of those that may end this process, one at a time.

        The others stay untaken, so that its death is not counted as theirs.
        """
        takes, suspects = list[Coroutine[Any, Any, None]](), list[RunRow]()
        for row in rows:
            proven = gone.get(row.owner or "", True)
            died = has_died(row, proven=proven, me=self.owner)
            deaths = deaths_of(self._employer.store, row, died=died)
            is_named = deaths >= DEATHS_TO_PARK and died
            if deaths < DEATHS_TO_SUSPECT or is_named or self._is_cancelled(row):
                takes.append(self.take(row, proven=proven, deaths=deaths))
            else:
                suspects.append(row)
        if suspects and self._suspect is None:
            row = suspects.pop()  # a child comes before its parent, which may wait for it
            self._suspect = row.number
            takes.append(self._try(row, proven=gone.get(row.owner or "", True)))
        self._waiting = len(suspects)
        if any(row.owner == self.owner for row in suspects):
            self.doubt()  # it is to be found again
        await asyncio.gather(*takes)

    def _is_cancelled(self, row: RunRow) -> bool:
        return any(letter.kind == "cancel" for letter in self._employer.store.letters([row.number]))

    async def _try(self, row: RunRow, *, proven: bool) -> None:
        """Take a run that may end this process; the next such one comes once it is cleared."""
        logger.warning("run.suspected", extra={"run": row.id})
        try:
            await self.take(row, proven=proven)
        finally:
            if (driver := self._drivers.get(row.number)) is not None:
                self._employer.spawn(self._clear(driver))
            else:
                self._suspect = None

    async def _clear(self, driver: Driver) -> None:
        """Let the next suspect in once this one is cleared, or has lived long enough.

        Until then a death of this process would be its third.
        """
        # Else it is in other hands, comes back here by itself, or waits for what may never come.
        with contextlib.suppress(CrewError, TimeoutError):
            async with asyncio.timeout(MOST_TRIAL_SECONDS):
                await self._cleared(driver)
        self._suspect = None
        self._employer.look()

    async def _cleared(self, driver: Driver) -> None:
        """Return when something of a run is done, or it waits, or is not driven here any more."""
        number, offset = driver.row.number, driver.open.offset
        while self._drivers.get(number) is driver and not driver.is_waiting:
            written = await self._employer.grown(number, offset)
            events = written or self._employer.store.events(number, after=offset)
            if any(is_progress(event.kind) for event in events):
                return
            offset = events[-1].offset if events else offset

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
        if row.number in self._drivers or row.number in self._held:
            return False
        if row.owner is not None and not self._is_gone(row.owner):
            return False
        if (mine := await self._own(row)) is None:
            return False
        await self._end_by_cancel(mine)
        return True

    def _is_gone(self, owner: str) -> bool:
        """Return whether nobody drives the runs of an owner, its own that are not driven here."""
        return owner in (PARKED, self.owner) or self._employer.store.sign(owner).dead

    async def _end_by_cancel(self, mine: RunRow) -> None:
        """Record the cancel of a run that is owned here and that nobody drives.

        A letter to each of its open children goes with it, so that no crash leaves one without.
        """
        run, writer = _opened(mine), self._employer.writer
        children = self._open_children(mine)
        try:
            writer.append(run, RunEndedByCancel(), "cancelled")
            posted = [writer.submit(_cancel_of(child)) for child in children]
            await writer.durable(run)
            await asyncio.gather(*posted)
        except StoreError:
            self._give_back_later(mine.number)
            raise
        except Fenced:
            children.clear()  # another worker has it
        self._held.pop(mine.number, None)
        self._employer.wake(mine.number)
        await self._reach(children)

    async def _cancel_children(self, parent: RunRow) -> None:
        """Cancel the children of a run that was driven here: those too it has not asked for."""
        row = self._employer.store.numbered(parent.number)
        if row is None or row.status in OPEN:
            return
        children = self._open_children(parent)
        await asyncio.gather(*(self._employer.writer.execute(_cancel_of(row)) for row in children))
        await self._reach(children)

    def _open_children(self, parent: RunRow) -> list[RunRow]:
        return self._employer.store.runs(parent=parent.id, status=OPEN, limit=MOST_CHILDREN)

    async def _reach(self, children: Sequence[RunRow]) -> None:
        """Let children see the cancel in their inboxes; record it for those nobody drives."""
        for child in children:
            await self.cancel_unowned(child)
        self._employer.look()

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
        await asyncio.gather(*(self._give_up(driver) for driver in self._drivers.values()))
        for number, epoch in self._held.items():
            with contextlib.suppress(Fenced, StoreError):
                await self._employer.writer.execute(Release(number, epoch))
        self._drivers.clear()
        self._held.clear()
        # A store that cannot be reached finds the owner gone when its process is.
        with contextlib.suppress(StoreError, Busy):
            self._employer.store.release_owner(self.owner)

    async def _give_up(self, driver: Driver) -> None:
        await driver.abandon()
        # Else somebody else has it, or finds it without an owner.
        with contextlib.suppress(Fenced, StoreError):
            await self._employer.writer.durable(driver.open)
            await self._employer.writer.execute(Release(driver.row.number, driver.row.epoch))


def _taken(row: RunRow, workflow: Workflow, *, proven: bool, died: bool) -> RunTaken:
    """Return the record of a take-over by this process."""
    place = here()
    code = workflow.code_hash()
    return RunTaken(place.host, place.pid, row.epoch, code, proven=proven, died=died)


def _cancel_of(row: RunRow) -> Post:
    return Post(row.number, "cancel", "", "null", time.time())


def _opened(row: RunRow) -> OpenRun:
    """Return a run to which this process appends without folding it."""
    return OpenRun(row.id, row.number, row.epoch, row.offset, row.crc, row=row)


def _divergence(row: RunRow, workflow: Workflow, error: Exception) -> Diverged:
    """Return the error of a journal that could not be folded, with both sides named."""
    if isinstance(error, Diverged):
        return replace(error, run=row.id)
    return Unreadable(
        run=row.id,
        recorded=f"{row.offset} events of {row.workflow!r} version {row.version}",
        asked=f"{workflow.name!r} of code {workflow.code_hash()} ({type(error).__name__}: {error})",
    )
