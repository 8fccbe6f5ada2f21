"""The runs that other runs start: their children."""

import asyncio

from crew.budget import Budget
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

    async def run(
        self, parent: RunRow, path: str, workflow: Workflow, value: object, budget: Budget | None
    ) -> dict[str, Json]:
        """Start a child, or find it as it was started before, and wait for its result."""
        run = await self._acceptance.begin(
            parent.tenant,
            workflow,
            value,
            thread=None,
            key=_child_key(parent, path),
            budget=budget,
            when_busy="queue",
            parent=parent.id,
        )
        try:
            output = await run.result()
        except RunCancelled as error:
            raise CrewError(message=f"the child run {run.id} was cancelled") from error
        usage = await run.usage()
        return {"run": run.id, "output": workflow.output_codec.encode(output), "usage": usage}

    def usage(self, parent: RunRow, path: str) -> dict[str, int] | None:
        """Return what the child that a run has started at `path` cost, or None if it goes on."""
        row = self._child(parent, path)
        if row is None:
            return {}
        last = JournalReader(self._home.store, row).one(row.offset)
        return folded([last], Ending()).usage

    def _child(self, parent: RunRow, path: str) -> RunRow | None:
        before: int | None = None
        key = _child_key(parent, path)
        while rows := self._home.store.runs(parent=parent.id, before=before):
            for row in rows:
                if row.key == key:
                    return row
            before = rows[-1].number
        return None

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


def _child_key(parent: RunRow, path: str) -> str:
    return f"child:{parent.id}:{path}"
