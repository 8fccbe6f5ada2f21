"""What a run that is driven has around it."""

from typing import Protocol

from crew.budget import Budget
from crew.graph import Workflow
from crew.hosts import Hosts
from crew.journal import RunRow
from crew.journal.writer import Writer
from crew.message import Json
from crew.thread import Thread


class Children(Protocol):
    """The runs that a run starts."""

    async def run(
        self, parent: RunRow, path: str, workflow: Workflow, value: object, budget: Budget | None
    ) -> dict[str, Json]:
        """Start a child, or find it as it was started before, and wait for its result."""
        ...

    def usage(self, parent: RunRow, path: str) -> dict[str, int] | None:
        """Return what the child that a run has started at `path` cost, or None if it goes on."""
        ...

    async def cancel(self, parent: RunRow, path: str) -> None:
        """Cancel the child that a run has started at `path`, if it is open; wait for nothing."""
        ...


class Surroundings(Protocol):
    """What a driver needs of its runtime."""

    writer: Writer
    hosts: Hosts
    children: Children

    def look(self) -> None:
        """Look for work and letters soon: something has changed."""
        ...

    def hand_out(self, number: int, before: float) -> bool:
        """Hand out at once what was posted for a run by `before` (unix seconds).

        Returns:
            Whether there was something.

        Raises:
            StoreError, Busy: nobody knows.
        """
        ...

    def read_thread(self, row: RunRow) -> Thread: ...
