"""The runs that one process owns: which they are, which it drives, and which it cannot."""

import asyncio
from typing import cast

from crew.errors import Fenced, NewerEvent, RunNotFound, StoreError
from crew.journal import PARKED, RunRow, Take
from crew.journal.writer import OpenRun
from crew.run.driver import Driver
from crew.run.employer import Employer

TAKE_SECONDS = 0.5
"""How often a worker looks for runs whose owner died."""
MOST_PAUSE_SECONDS = 60.0
"""How long a run that the store failed again and again is left alone, at most."""


class Owned:
    """Knows what one process owns, so that no run is taken twice and none is forgotten.

    Args:
        employer: the runtime.
        owner: the name under which the runs are owned.
        takes_over: whether this process looks for runs that nobody owns.
    """

    def __init__(self, employer: Employer, owner: str, *, takes_over: bool) -> None:
        self.owner = owner
        self.takes_over = takes_over
        self.is_open = True
        """Whether runs are still driven here."""
        self.drivers: dict[int, Driver] = {}
        """Those at work, by the numbers of their runs."""
        self._by_id: dict[str, Driver] = {}
        self.held: dict[int, int] = {}
        """Epochs of the runs that are owned here and not driven yet, by their numbers."""
        self.lost: dict[int, StoreError] = {}
        """What made this process let go of runs that nobody else has."""
        self.unreadable: dict[int, NewerEvent] = {}
        """Why runs are left to processes of a newer release, by their numbers."""
        self.in_doubt = False
        """Whether a write failed, so that runs may be owned here that nobody drives."""
        self._employer = employer
        self._pauses: dict[int, float] = {}

    def drive(self, driver: Driver) -> None:
        """Note that a run that was held is driven from now on."""
        number = driver.row.number
        del self.held[number]
        self.lost.pop(number, None)
        self.drivers[number] = self._by_id[driver.run_id] = driver

    def let_go(self, driver: Driver) -> bool:
        """Note that a run is not driven here any more; return whether it was by this driver."""
        if self.drivers.get(driver.row.number) is not driver:
            return False
        del self.drivers[driver.row.number], self._by_id[driver.run_id]
        return True

    def let_all_go(self) -> None:
        """Note that no run is driven or held here any more."""
        for kept in (self.drivers, self._by_id, self.held):
            kept.clear()

    def driver_of(self, run: str) -> Driver | None:
        """Return the driver of a run, by its id; None where it is not driven here."""
        return self._by_id.get(run)

    def durable(self, number: int) -> int:
        """Return up to which offset a run is on disk; 0 where it is not driven here."""
        driver = self.drivers.get(number)
        return 0 if driver is None else driver.open.durable_offset

    def drives(self, number: int) -> bool:
        """Return whether a run is driven here."""
        return number in self.drivers

    def is_left_alone(self, number: int) -> bool:
        """Return whether a run is not to be taken, though it is found without an owner."""
        return any(number in kept for kept in (self.drivers, self.held, self.unreadable))

    def is_gone(self, owner: str) -> bool:
        """Return whether nobody drives the runs of an owner, its own that are not driven here."""
        return owner in (PARKED, self.owner) or self._employer.store.sign(owner).dead

    async def own(self, row: RunRow) -> RunRow | None:
        """Become the owner of a run; None if another worker was faster."""
        if row.number in self.held:
            return None
        self.held[row.number] = row.epoch + 1
        try:
            taken = await self._employer.writer.execute(Take(row.number, self.owner, row.owner))
        except (Fenced, RunNotFound):
            del self.held[row.number]
            return None
        except StoreError:
            self.give_back_later(row.number)
            raise
        return cast("RunRow", taken)

    def give_back_later(self, number: int) -> None:
        """Note that a run may be owned here since a write of unknown outcome."""
        del self.held[number]
        self.doubt()

    def doubt(self) -> None:
        """Note that a write failed, though it may have been carried out.

        What was in memory is not to be trusted then: runs that are owned here and that nobody
        drives are taken anew, from what is stored.
        """
        self.in_doubt = True

    def doubt_later(self, number: int) -> None:
        """Take a run that is owned here, and not driven, anew after a pause.

        The pause doubles each time: what is damaged stays so.
        """
        pause = self._pauses.get(number, TAKE_SECONDS)
        self._pauses[number] = min(2 * pause, MOST_PAUSE_SECONDS)
        asyncio.get_running_loop().call_later(pause, self.doubt)

    def trust(self, number: int) -> None:
        """Forget how often the store failed a run, which has come to its end."""
        self._pauses.pop(number, None)

    def lose(self, number: int, error: StoreError) -> None:
        """Note that a run that is owned here could not be read from the store."""
        del self.held[number]
        self.lost[number] = error
        self.doubt_later(number)
        self._employer.followers.wake(number)

    def forget_errors(self) -> None:
        """Forget why the store failed for runs that are in others' hands by now."""
        for number in list(self.lost):
            row = self._employer.store.numbered(number)
            if row is None or row.owner != self.owner:
                del self.lost[number]


def opened(row: RunRow) -> OpenRun:
    """Return a run to which this process appends without folding it."""
    return OpenRun(row.id, row.number, row.epoch, row.offset, row.crc, row=row)
