"""The runs that other runs start: their children."""

import asyncio

from crew.budget import Account, Budget
from crew.clock import wall_clock
from crew.errors import CrewError, RunCancelled
from crew.fold import Ending, folded
from crew.graph import Workflow
from crew.journal import OPEN, Clear, RunRow
from crew.journal.reading import JournalReader
from crew.message import Json
from crew.run.acceptance import Acceptance
from crew.run.cancels import MOST_CHILDREN
from crew.run.handle import Home, Run


class ChildRuns:
    """Starts the children of runs, waits for them, and cancels them.

    Args:
        home: the runtime.
        acceptance: accepts a child like any other run.
    """

    def __init__(self, home: Home, acceptance: Acceptance) -> None:
        self._home = home
        self._acceptance = acceptance

    async def start(
        self,
        parent: RunRow,
        path: str,
        workflow: Workflow,
        value: object,
        *,
        above: tuple[Account, ...],
        until: float | None,
    ) -> str:
        """Start a child, or find it as it was started before; return its id.

        Args:
            parent: the run that calls it.
            path: of the call.
            workflow: the child's.
            value: its input.
            above: what it draws on beside its own.
            until: when its time is up, in unix seconds, if it is limited.
        """
        run = await self._acceptance.begin(
            parent.tenant,
            workflow,
            value,
            thread=None,
            key=_child_key(parent, path),
            budget=_time_until(until),
            when_busy="queue",
            parent=parent.id,
            above=above,
        )
        return run.id

    async def result(self, child: str) -> dict[str, Json]:
        """Wait for a child's end; return its id, its encoded output and its usage."""
        try:
            end = await Run(self._home, self._row(child)).completed()
        except RunCancelled as error:
            raise CrewError(message=f"the child run {child} was cancelled") from error
        return {"run": child, "output": end.output, "usage": end.usage or {}}

    def usage(self, child: str) -> dict[str, int] | None:
        """Return what a child cost, or None if it goes on or nobody counted."""
        row = self._row(child)
        last = JournalReader(self._home.store, row).one(row.offset)
        return folded([last], Ending()).usage

    def _row(self, child: str) -> RunRow:
        row = self._home.store.run(child)
        assert row is not None  # it was started, or found, by the call that asks
        return row

    async def cancel(self, parent: RunRow, path: str) -> None:
        """Cancel the child that a run has started at `path`, if it is open; wait for nothing."""
        # In a task of its own: whoever calls may be cancelled once more meanwhile.
        await asyncio.shield(self._home.spawn(self._cancel(parent, path)))

    async def _cancel(self, parent: RunRow, path: str) -> None:
        # Behind a start that is still on its way to the store, if there is one.
        await self._home.writer.execute(Clear(parent.number, parent.epoch, ()))
        for row in self._home.store.runs(parent=parent.id, status=OPEN, limit=MOST_CHILDREN):
            if row.key == _child_key(parent, path):
                await Run(self._home, row).cancel()


def _time_until(until: float | None) -> Budget | None:
    # One whose time is up is ended by its driver, not here.
    return None if until is None else Budget(seconds=max(until - wall_clock(), 0.001))


def _child_key(parent: RunRow, path: str) -> str:
    return f"child:{parent.id}:{path}"
