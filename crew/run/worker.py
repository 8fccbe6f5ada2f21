"""A worker: the runs that one process owns and drives, from taking them to letting them go."""

import asyncio
import json
from collections.abc import Coroutine
from typing import Any, Protocol, cast

from crew.errors import Fenced, RunNotFound, StoreError
from crew.event import Event, RunEndedByCancel
from crew.graph import Workflow
from crew.journal import Clear, Release, RunRow, Store, Take
from crew.journal.writer import OpenRun, Writer, read_events
from crew.run.calls import RunCalls, Surroundings
from crew.run.driver import Driver, is_poisoned

TAKE_SECONDS = 0.5
"""How often a worker looks for runs whose owner died."""
PARKED = "parked"
"""The owner of a run that waits for a person to choose how it goes on."""


class Employer(Surroundings, Protocol):
    """What a worker needs of its runtime."""

    store: Store
    writer: Writer

    def workflow_of(self, row: RunRow) -> Workflow | None: ...

    def look(self) -> None:
        """Look for work soon: something has changed."""
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
    """

    def __init__(self, employer: Employer, owner: str, *, takes_over: bool) -> None:
        self.owner = owner
        self.takes_over = takes_over
        self.lost: dict[int, Exception] = {}
        """Why runs that were driven here are not any more."""
        self._to_fold_again: set[int] = set()
        self._employer = employer
        self._drivers: dict[int, Driver] = {}
        self._open = True

    def drives(self, number: int) -> bool:
        """Return whether a run is driven here."""
        return number in self._drivers

    def drive(self, row: RunRow, workflow: Workflow, *, taken: bool = False) -> Driver | None:
        """Fold a run that this process owns, and go on with it."""
        try:
            events = read_events(self._employer.store, row, upto=row.offset)
        except StoreError as error:
            self.lost[row.number] = error
            return None
        driver = Driver(self._employer, workflow, row)
        driver.fold(events)
        self.lost.pop(row.number, None)
        self._to_fold_again.discard(row.number)
        self._drivers[row.number] = driver
        code = workflow.code_hash() if taken else ""
        driver.go(crc=row.crc, code=code, taken=taken)
        self._employer.spawn(self._follow(driver))
        return driver

    async def _follow(self, driver: Driver) -> None:
        number = driver.row.number
        try:
            await asyncio.shield(driver.ended)
        except Fenced as error:
            self.lost[number] = error
        except StoreError as error:
            self.lost[number] = error
            self._to_fold_again.add(number)
        if driver.is_parked and self._open:
            await self._employer.writer.execute(Release(number, driver.row.epoch, to=PARKED))
        if self._drivers.get(number) is driver and self._open:
            del self._drivers[number]
            self._employer.wake(number)
            self._employer.look()  # the next turn of its thread may be waiting

    async def take(self, row: RunRow, *, explicit: bool = False) -> None:
        """Become the owner of a run whose owner is dead, and drive it.

        `explicit`: somebody asked for it, so that it is driven whatever happened to its owners.
        """
        workflow = self._employer.workflow_of(row)
        assert workflow is not None
        try:
            taken = await self._employer.writer.execute(Take(row.number, self.owner, row.owner))
        except (Fenced, RunNotFound):
            return  # another worker was faster
        driver = self.drive(cast("RunRow", taken), workflow, taken=True)
        if driver is None or explicit:
            return
        died_at_work = row.owner is not None and row.status == "running"
        if died_at_work and is_poisoned(await _tail(self._employer.store, row)):
            await driver.park(
                "poisoned", "its last workers died without one new event; look, then `crew resume`"
            )

    async def read_letters(self) -> None:
        """Turn the letters for runs that are driven here into events."""
        if not self._drivers:
            return
        done = []
        for letter in self._employer.store.letters(list(self._drivers)):
            driver = self._drivers.get(letter.number)
            if driver is not None and driver.deliver(letter, json.loads(letter.body)):
                done.append(letter.id)
        if done:
            await self._employer.writer.execute(Clear(tuple(done)))

    async def take_over(self) -> None:
        """Take the runs that nobody owns any more, of the workflows that are known here."""
        if not self.takes_over:
            return
        for row in self._employer.store.takeable():
            known = self._employer.workflow_of(row) is not None
            if not known or row.number in self._drivers or row.owner == PARKED:
                continue
            if row.owner == self.owner:
                # Its store failed meanwhile: what was in memory is not to be trusted any more.
                if row.number in self._to_fold_again:
                    await self.take(row)
            elif row.owner is None or not self._employer.store.owner_lives(row.owner):
                await self.take(row)

    async def cancel_unowned(self, row: RunRow) -> bool:
        """Record the cancel of a run that nobody drives; False where somebody does."""
        if row.number in self._drivers:
            return False
        if row.owner not in (None, PARKED) and self._employer.store.owner_lives(row.owner):
            return False
        try:
            taken = await self._employer.writer.execute(Take(row.number, self.owner, row.owner))
        except (Fenced, RunNotFound):
            return False
        mine = cast("RunRow", taken)
        run = OpenRun(mine.id, mine.number, mine.epoch, mine.offset, mine.crc)
        self._employer.writer.append(run, RunEndedByCancel(), "cancelled")
        await self._employer.writer.durable(run)
        return True

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
        self._employer.store.release_owner(self.owner)


async def _tail(store: Store, row: RunRow) -> list[Event]:
    stored = store.events(row.number, after=max(0, row.offset - 3))
    return [Event(item.offset, item.kind, item.path, {}) for item in stored]
