"""What a run that is driven has around it."""

from collections.abc import Sequence
from typing import Protocol

from crew.budget import Account
from crew.graph import Workflow
from crew.hosts import Hosts
from crew.journal import RunRow
from crew.journal.notes import Note
from crew.journal.writer import Writer
from crew.message import Json, Message
from crew.run.account_rows import AccountRows
from crew.run.dependencies import Dependencies
from crew.thread import Thread


class Children(Protocol):
    """The runs that a run starts."""

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
        ...

    async def result(self, child: str) -> dict[str, Json]:
        """Wait for a child's end; return its id, its encoded output and its usage."""
        ...

    def usage(self, child: str) -> dict[str, int] | None:
        """Return what a child cost, or None if it goes on or nobody counted."""
        ...

    async def cancel(self, parent: RunRow, path: str) -> None:
        """Cancel the child that a run has started at `path`, if it is open; wait for nothing."""
        ...


class Surroundings(Protocol):
    """What a driver needs of its runtime."""

    writer: Writer
    hosts: Hosts
    children: Children
    accounts: AccountRows
    """Those that its runs share."""
    dependencies: Dependencies
    """What the code of its workflows depends on."""

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

    def read_spoken(self, run: int, agent: str) -> tuple[Message, ...]:
        """Return the calls of tools, with results, that an agent made in a turn that is over."""
        ...

    def conversation_of(self, row: RunRow) -> str | None:
        """Return the thread of a run, or of the one that it is a child of."""
        ...

    def read_notes(self, tenant: str, scopes: Sequence[str], words: str, limit: int) -> list[Note]:
        """Return notes; see `crew.journal.Store.notes`."""
        ...

    def read_metadata(self, row: RunRow) -> dict[str, Json]:
        """Return what a run was started with to be kept beside it."""
        ...
