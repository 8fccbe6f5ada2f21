"""A worker: the runs that one process owns and drives, from taking them to letting them go."""

import asyncio
import contextlib
import functools
import logging
import math
from collections.abc import Iterable, Set

from crew.clock import wall_clock
from crew.errors import AskError, Diverged, Fenced, NewerEvent, StoreError
from crew.journal import PARKED, Busy, Release, RunRow, rules
from crew.journal.writer import QUIET
from crew.message import Json
from crew.run.calls import RunCalls
from crew.run.cancels import Cancels
from crew.run.driver import Driver
from crew.run.employer import Employer
from crew.run.ending import End
from crew.run.leaving import Leaving
from crew.run.letters import Letters
from crew.run.liveness import Liveness
from crew.run.owned import TAKE_SECONDS, Owned
from crew.run.suspects import Suspects
from crew.run.taking import Taking

logger = logging.getLogger(__name__)

MOST_TAKEN = 256
"""How many runs are taken at once."""


class Worker:
    """Owns runs of a store, under one name, and follows their drivers to their ends.

    Args:
        employer: the runtime.
        owner: the name; its lock shows others that it lives.
        takes_over: whether it looks for runs that nobody owns.
        lease: seconds of silence after which another owner's runs are taken.
    """

    def __init__(self, employer: Employer, owner: str, *, takes_over: bool, lease: float) -> None:
        self.owned = Owned(employer, owner, takes_over=takes_over)
        self.cancels = Cancels(employer, self.owned)
        self.letters = Letters(employer, self.owned)
        self._leaving = Leaving(employer, self.owned, self.letters)
        self.taking = Taking(
            employer, self.owned, self.cancels, go=self._go, rests=self._leaving.rested
        )
        self._suspects = Suspects(employer, self.owned, self.cancels, self.taking)
        self._employer = employer
        self._drivers = self.owned.drivers
        self._lease = lease
        self._watched: Liveness | None = None
        self._looked_at = -math.inf
        """When it was looked for runs that others have started in its name."""
        self._unbegun = set[int]()
        """Those that were there then."""

    @property
    def _liveness(self) -> Liveness:
        if self._watched is None:
            self._watched = Liveness(self._employer.store, self._lease)
        return self._watched

    async def take_over(self) -> None:
        """Take the runs that nobody owns any more, of the workflows that are known here.

        Who takes over no other runs takes the children of those that are driven here all the same:
        these wait for them.
        """
        owned = self.owned
        for driver in list(self._drivers.values()):
            driver.steps.review()
        await self._adopt_lost()
        if not owned.takes_over and not self._drivers:
            return
        store = self._employer.store
        gone = self._liveness.gone([name for name in store.owners() if name != owned.owner])
        mine = [owned.owner] if owned.in_doubt else []
        if owned.in_doubt:
            owned.forget_errors()
        owned.in_doubt = False
        # What is left alone here comes back each time, and must not crowd the others out.
        most = MOST_TAKEN + len(owned.unreadable) + self._suspects.waiting
        names = self._employer.workflows.names()
        rows = store.takeable(names, [*gone, *mine], wall_clock(), limit=most)
        rows = [row for row in rows if not owned.is_left_alone(row.number) and self._takes(row)]
        await self._suspects.take_all(rows, gone)

    def _takes(self, row: RunRow) -> bool:
        is_child = row.parent is not None and self.owned.driver_of(row.parent) is not None
        return self.owned.takes_over or is_child

    async def take(self, numbers: Set[int]) -> None:
        """Take those of some runs that may be taken, of which others have told."""
        owned = self.owned
        if not numbers or not owned.takes_over:
            return
        names = self._employer.workflows.names()
        rows = self._employer.store.takeable(names, (), wall_clock(), limit=MOST_TAKEN)
        asked = [row for row in rows if row.number in numbers]
        await self._suspects.take_all(
            [row for row in asked if not owned.is_left_alone(row.number)], {}
        )

    async def adopt(self, numbers: Iterable[int]) -> None:
        """Drive runs that others have started in the name of this process."""
        rows = [self._employer.store.numbered(number) for number in numbers]
        await asyncio.gather(*(self._adopt(row) for row in rows if row is not None))

    async def _adopt(self, row: RunRow) -> None:
        owned = self.owned
        is_mine = row.owner == owned.owner and rules.is_unbegun(row)
        if not is_mine or owned.is_left_alone(row.number) or row.number in owned.lost:
            return
        workflow = self._employer.workflows.of(row)
        if workflow is None:
            await self._employer.writer.execute(Release(row.number, row.epoch))
            return
        with contextlib.suppress(NewerEvent, Diverged):  # it was let go, or parked
            await self.taking.drive(row, workflow)

    async def _adopt_lost(self) -> None:
        """Adopt runs that were there at the last look, too: what told of them was lost."""
        now = asyncio.get_running_loop().time()
        if now - self._looked_at < TAKE_SECONDS:
            return
        self._looked_at = now
        # This process itself may be about to drive one that it has just started.
        rows = self._employer.store.unbegun(self.owned.owner)
        before, self._unbegun = self._unbegun, {row.number for row in rows}
        lost = [row for row in rows if row.number in before]
        await asyncio.gather(*(self._adopt(row) for row in lost))
        for row in lost:
            self._employer.other_runtimes.taken(row.number)

    def blink(self) -> None:
        """Note that the store could not be read: nobody's silence counts meanwhile."""
        self._liveness.blink()

    def _go(self, driver: Driver) -> None:
        self.owned.drive(driver)
        driver.ended.add_done_callback(functools.partial(self._ended, driver), context=QUIET)
        driver.go()

    def _ended(self, driver: Driver, ended: "asyncio.Future[None]") -> None:
        """Let go of a run that has come to its end, or is not driven here any more."""
        if not self.owned.is_open:
            return  # whoever leaves sees to it
        is_last = driver.end is not None and driver.end.is_final and driver.end is not End.CANCELLED
        if is_last and ended.exception() is None:
            self.owned.trust(driver.row.number)
            self._forget(driver)
        else:
            self._employer.spawn(self._after(driver, ended))

    async def _after(self, driver: Driver, ended: "asyncio.Future[None]") -> None:
        """See to what follows from the end of a driver, where more does than forgetting it."""
        number, owned = driver.row.number, self.owned
        try:
            ended.result()
            owned.trust(number)
            await self._after_end(driver)
        except Fenced:
            await driver.abandon()  # another worker has it; what that one writes is followed here
        except StoreError as error:
            owned.lost[number] = error
            self._employer.followers.wake(number)
            await driver.abandon()  # before it is taken anew, which may be at once
            owned.doubt()
        except Exception as error:
            logger.exception("driver.failed", extra={"run": driver.run_id})
            owned.lost[number] = StoreError(message=f"run {driver.run_id} is not driven: {error!r}")
            owned.doubt_later(number)
        self._forget(driver)

    def _forget(self, driver: Driver) -> None:
        if self.owned.is_open and self.owned.let_go(driver):
            driver.let_go()
            self._employer.followers.wake(driver.row.number)
            if driver.row.thread is not None:
                self._employer.look()  # the next turn may be waiting

    async def _after_end(self, driver: Driver) -> None:
        """Leave a run that parked to a person, and let a cancel reach the children of one."""
        number = driver.row.number
        try:
            if driver.is_parked and self.owned.is_open:
                await self._employer.writer.execute(Release(number, driver.row.epoch, to=PARKED))
            if driver.end is End.CANCELLED:
                await self.cancels.of_children(driver.row)
        except StoreError:
            self.owned.doubt()  # it is taken again, and parks again

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
        driver = self.owned.driver_of(run)
        if driver is None or driver.row.epoch != epoch:
            raise Fenced(run=run)
        return driver.calls

    def active(self) -> int:
        """Return how many runs are under way here, those that wait for somebody aside."""
        return sum(not driver.is_waiting for driver in self._drivers.values())

    async def drain(self) -> None:
        """Take no further run, and return when those under way have ended or wait."""
        self.owned.takes_over = False
        self._employer.introduce()
        while self.active():
            await asyncio.wait({d.ended for d in self._drivers.values()}, timeout=TAKE_SECONDS)

    async def release(self) -> None:
        """Give up the runs that have not ended, as their journals have them."""
        owned = self.owned
        owned.is_open = False
        await asyncio.gather(*(self._give_up(driver) for driver in self._drivers.values()))
        for number, epoch in list(owned.held.items()):  # one that is being taken may go meanwhile
            with contextlib.suppress(Fenced, StoreError):
                await self._employer.writer.execute(Release(number, epoch))
        owned.let_all_go()
        # A store that cannot be reached finds the owner gone when its process is.
        with contextlib.suppress(StoreError, Busy):
            self._employer.store.release_owner(owned.owner)

    async def _give_up(self, driver: Driver) -> None:
        await driver.abandon()
        # Else somebody else has it, or finds it without an owner.
        with contextlib.suppress(Fenced, StoreError):
            await self._employer.writer.durable(driver.open)
            await self._employer.writer.execute(Release(driver.row.number, driver.row.epoch))
