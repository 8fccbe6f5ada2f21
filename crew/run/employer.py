"""What those who own, take and let go of runs need of their runtime."""

from collections.abc import Coroutine, Sequence
from typing import Any, Protocol

from crew.graph import Workflow
from crew.journal import RunRow, Store, StoredEvent
from crew.journal.writer import Writer
from crew.run.calls import Surroundings


class Employer(Surroundings, Protocol):
    """What a worker needs of its runtime."""

    store: Store
    writer: Writer

    def workflow_of(self, row: RunRow) -> Workflow | None: ...

    def known(self) -> list[tuple[str, str]]:
        """Return the names and versions of the workflows that may be driven here."""
        ...

    async def grown(self, number: int, after: int) -> Sequence[StoredEvent]:
        """Return when a run may have events after offset `after`; see `Home`."""
        ...

    def wake(self, *numbers: int) -> None:
        """Let those who follow these runs look at them again."""
        ...

    def spawn(self, work: Coroutine[Any, Any, None]) -> None: ...
