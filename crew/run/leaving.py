"""Runs that wait, let go out of memory: from then on they are only rows."""

import asyncio
import logging
import math
from contextvars import Context as Variables
from typing import ClassVar

from crew.call.timers import owners
from crew.clock import wall_clock
from crew.errors import Fenced, StoreError
from crew.journal import Release
from crew.run.driver import Driver
from crew.run.employer import Employer
from crew.run.letters import Letters
from crew.run.owned import Owned
from crew.run.steps import SHORT_SECONDS

logger = logging.getLogger(__name__)

_HINT = (
    "asyncio.timeout or wait_for around a journalled wait keeps the run in memory, and begins anew "
    "after a restart; ctx.timeout is on record, and does neither"
)
LINGER_SECONDS = 1.0
"""How long a run that waits stays in memory, for an answer that comes at once."""


class Leaving:
    """Lets go of the runs that have nothing to do here until somebody answers or a time comes.

    Args:
        employer: the runtime.
        owned: the runs of this process.
        letters: their inboxes.
    """

    _has_warned: ClassVar[bool] = False

    def __init__(self, employer: Employer, owned: Owned, letters: Letters) -> None:
        self._employer = employer
        self._owned = owned
        self._letters = letters
        self._looked_at = -math.inf
        self._timed = set[int]()
        """The ids of the attempts that had set a timer then."""

    def rested(self, driver: Driver) -> None:
        """Let a run go that has begun to wait, if it still waits after a while."""
        loop = asyncio.get_running_loop()
        loop.call_later(LINGER_SECONDS, self._leave_soon, driver, context=Variables())

    def _leave_soon(self, driver: Driver) -> None:
        if not self._may_leave(driver):
            return
        if self._has_timer(driver):
            self._stays(driver)
        else:
            self._employer.spawn(self._leave(driver))

    def _has_timer(self, driver: Driver) -> bool:
        """Return whether code of a run that rests has set a timer of the event loop."""
        loop = asyncio.get_running_loop()
        # One look for many runs; whatever rests so long has set its timers before.
        if loop.time() - self._looked_at > LINGER_SECONDS / 2:
            self._timed = {id(owner) for owner in owners(loop)}
            self._looked_at = loop.time()
        return any(id(step.attempt) in self._timed for step in driver.steps.under_way())

    def _stays(self, driver: Driver) -> None:
        """Keep a run in memory in which a timer is set that nobody but this process knows of."""
        if not Leaving._has_warned:
            Leaving._has_warned = True
            logger.warning("run.timer_in_memory", extra={"run": driver.run_id, "hint": _HINT})
        self.rested(driver)

    def _may_leave(self, driver: Driver) -> bool:
        if not self._owned.is_open or self._owned.drivers.get(driver.row.number) is not driver:
            return False
        if not self._owned.takes_over:
            return False  # it would not come back
        is_due = driver.rest.due is not None and driver.rest.due - wall_clock() < SHORT_SECONDS
        return driver.is_waiting and not is_due

    async def _leave(self, driver: Driver) -> None:
        """Let a run that waits go out of memory: from here on it is only rows."""
        number = driver.row.number
        try:
            await self._employer.writer.durable(driver.open)
            await self._letters.read(number)
            if not self._may_leave(driver):
                return
            if self._employer.store.letters([number]):
                self.rested(driver)  # for a question that is still to be asked
                return
            # From here on no letter is turned into an event, until somebody takes the run.
            self._owned.let_go(driver)
            await driver.abandon()
            await self._employer.writer.execute(Release(number, driver.row.epoch))
        except (Fenced, StoreError):
            self._owned.doubt()  # it is somebody else's, is taken anew, or was let go after all
        self._employer.followers.wake(number)
        self._employer.look()  # a letter may have come meanwhile
