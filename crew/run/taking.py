"""The taking of a run, as one unit: owned and folded, it goes on, or is parked, or let go."""

import logging
from collections.abc import Callable
from dataclasses import replace

from crew.clock import wall_clock
from crew.errors import Diverged, Fenced, NewerEvent, StoreError
from crew.event import RunParked, RunTaken
from crew.graph import Workflow
from crew.hosts import here
from crew.journal import PARKED, Release, RunRow
from crew.run.cancels import Cancels
from crew.run.driver import Driver
from crew.run.employer import Employer
from crew.run.ending import parked_by
from crew.run.folding import Begun, begin, divergence_of, fold_stored
from crew.run.owned import Owned, opened
from crew.run.poison import DEATHS_TO_PARK, has_died

logger = logging.getLogger(__name__)

POISONED = (
    f"its last {DEATHS_TO_PARK} owners died without anything of it done; look, then `crew resume`"
)


class Taking:
    """Takes runs that nobody drives, and starts their drivers.

    Args:
        employer: the runtime.
        owned: the runs of this process.
        cancels: records the cancel of one that was told to stop.
        go: starts the driver of a run that has been folded.
        rests: called when a driver begins to wait for the world outside.
    """

    def __init__(
        self,
        employer: Employer,
        owned: Owned,
        cancels: Cancels,
        *,
        go: Callable[[Driver], None],
        rests: Callable[[Driver], None],
    ) -> None:
        self._employer = employer
        self._owned = owned
        self._cancels = cancels
        self._go = go
        self._rests = rests

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
        workflow = self._employer.workflows.of(row)
        assert workflow is not None
        if (mine := await self._owned.own(row)) is None:
            return
        died = has_died(row, proven=proven, me=self._owned.owner)
        taken = _taken(mine, workflow, proven=proven, died=died)
        try:
            if self._cancels.is_asked(row):
                await self._cancels.of_held(mine)
            elif deaths >= DEATHS_TO_PARK and taken.died:
                await self._park(mine, RunParked("poisoned", POISONED), taken)
            else:
                await self.drive(mine, workflow, taken=taken)
                if self._owned.drives(row.number):
                    self._employer.other_runtimes.taken(row.number)
        except (NewerEvent, Diverged):
            if explicit:
                raise

    async def drive(
        self,
        row: RunRow,
        workflow: Workflow,
        *,
        taken: RunTaken | None = None,
        begun: Begun | None = None,
    ) -> None:
        """Fold a run that this process owns, and go on with it; or park it, if the code cannot.

        Args:
            row: the run.
            workflow: its own.
            taken: the record of how it was taken over, if it was.
            begun: how it was just started here, if it was; then it is not read back.

        Raises:
            NewerEvent: this release cannot read its journal; the run is let go.
            Diverged: the code cannot go on with it; the run is parked.
        """
        owned = self._owned
        if not owned.is_open:
            await self._employer.writer.execute(Release(row.number, row.epoch))
            return
        owned.held[row.number] = row.epoch
        try:
            driver = await self._folded(row, workflow, taken, begun)
        except Fenced:
            del owned.held[row.number]  # another worker goes on with it
        except StoreError as error:
            owned.lose(row.number, error)
        except NewerEvent as error:
            owned.unreadable[row.number] = replace(error, run=row.id)
            await self._let_go(row, error.kind)
            raise owned.unreadable.get(row.number, error) from error
        except Exception as error:
            problem = divergence_of(row, workflow, error)
            await self._park(row, parked_by(problem), taken)
            raise problem from error
        else:
            self._go(driver)

    async def _folded(
        self, row: RunRow, workflow: Workflow, taken: RunTaken | None, begun: Begun | None
    ) -> Driver:
        """Return a run's driver where its journal ends, with the take-over on record."""
        driver = Driver(self._employer, workflow, row, rests=self._rests)
        if begun is not None:
            begin(driver, row, begun)
        else:
            await fold_stored(self._employer.store, driver, workflow, row)
        if taken is not None:
            driver.record_take(taken)
            if taken.died:
                # Should it end this process too, at once, that must be told from the journal.
                await self._employer.writer.durable(driver.open)
        return driver

    async def _park(self, row: RunRow, parked: RunParked, taken: RunTaken | None) -> None:
        """Leave a run that is owned here, and not driven, to a person: in one commit."""
        facts = {"run": row.id, "reason": parked.reason, "detail": parked.detail}
        logger.warning("run.parked", extra=facts)
        run, writer = opened(row), self._employer.writer
        try:
            await self._employer.accounts.rest(row)
            if taken is not None:
                writer.append(run, taken)
            writer.append(run, parked, "waiting")
            await writer.execute(Release(row.number, row.epoch, to=PARKED))
            await writer.durable(run)
        except Fenced:
            pass  # another worker has it
        except StoreError:
            self._owned.doubt_later(row.number)  # it is taken again, and parks again
        del self._owned.held[row.number]
        self._employer.followers.wake(row.number)

    async def _let_go(self, row: RunRow, kind: str) -> None:
        """Give up a run whose journal this release cannot read."""
        logger.warning("run.unreadable", extra={"run": row.id, "kind": kind})
        try:
            await self._employer.accounts.rest(row)
            await self._employer.writer.execute(Release(row.number, row.epoch))
        except (Fenced, StoreError):
            # Unless somebody else has it, it is taken anew.
            self._owned.unreadable.pop(row.number, None)
            self._owned.doubt()
        del self._owned.held[row.number]


def _taken(row: RunRow, workflow: Workflow, *, proven: bool, died: bool) -> RunTaken:
    """Return the record of a take-over by this process."""
    place = here()
    code, gap = workflow.code_hash(), _gap(row)
    return RunTaken(place.host, place.pid, row.epoch, code, proven=proven, died=died, gap=gap)


def _gap(row: RunRow) -> float:
    """Return for how many seconds nobody drove a run.

    One that waits needs nobody until it is due.
    """
    now, last = wall_clock(), row.updated_at
    if row.status == "waiting" and row.due is not None:
        last = max(last, min(now, row.due))
    return max(0.0, now - last)
