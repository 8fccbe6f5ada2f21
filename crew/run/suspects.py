"""Runs that may end this process, driven one at a time, so that a death names one of them."""

import asyncio
import contextlib
import logging
from collections.abc import Coroutine, Sequence
from typing import Any

from crew.errors import CrewError
from crew.journal import RunRow
from crew.run.cancels import Cancels
from crew.run.driver import Driver
from crew.run.employer import Employer
from crew.run.owned import Owned
from crew.run.poison import DEATHS_TO_PARK, DEATHS_TO_SUSPECT, deaths_of, has_died, is_progress
from crew.run.taking import Taking

logger = logging.getLogger(__name__)

MOST_TRIAL_SECONDS = 60.0
"""How long a run is driven beside no other that may end this process, at most."""


class Suspects:
    """Takes many runs at once, but of those that may end this process one after the other.

    Args:
        employer: the runtime.
        owned: the runs of this process.
        cancels: says which were told to stop, so that they are not driven.
        taking: takes one.
    """

    def __init__(self, employer: Employer, owned: Owned, cancels: Cancels, taking: Taking) -> None:
        self.waiting = 0
        """How many of that kind are left for later."""
        self._suspect: int | None = None
        """The run that is driven to see whether it ends this process."""
        self._employer = employer
        self._owned = owned
        self._cancels = cancels
        self._taking = taking

    async def take_all(self, rows: Sequence[RunRow], gone: dict[str, bool]) -> None:
        """Take runs; of those that may end this process, one at a time.

        The others stay untaken, so that its death is not counted as theirs.

        Args:
            rows: the runs, as they were found without an owner that lives.
            gone: owners that are gone, and whether each is proven dead.
        """
        takes, suspects = list[Coroutine[Any, Any, None]](), list[RunRow]()
        for row in rows:
            proven = gone.get(row.owner or "", True)
            died = has_died(row, proven=proven, me=self._owned.owner)
            deaths = deaths_of(self._employer.store, row, died=died)
            is_named = deaths >= DEATHS_TO_PARK and died
            if deaths < DEATHS_TO_SUSPECT or is_named or self._cancels.is_asked(row):
                takes.append(self._taking.take(row, proven=proven, deaths=deaths))
            else:
                suspects.append(row)
        if suspects and self._suspect is None:
            row = suspects.pop()  # a child comes before its parent, which may wait for it
            self._suspect = row.number
            takes.append(self._try(row, proven=gone.get(row.owner or "", True)))
        self.waiting = len(suspects)
        if any(row.owner == self._owned.owner for row in suspects):
            self._owned.doubt()  # it is to be found again
        await asyncio.gather(*takes)

    async def _try(self, row: RunRow, *, proven: bool) -> None:
        """Take a run that may end this process; the next such one comes once it is cleared."""
        logger.warning("run.suspected", extra={"run": row.id})
        try:
            await self._taking.take(row, proven=proven)
        finally:
            if (driver := self._owned.drivers.get(row.number)) is not None:
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
        while self._owned.drivers.get(number) is driver and not driver.is_waiting:
            written = await self._employer.followers.grown(number, offset)
            events = written or self._employer.store.events(number, after=offset)
            if any(is_progress(event.kind) for event in events):
                return
            offset = events[-1].offset if events else offset
