"""How a run stands by its newest event: how it ended, or why it waits for a person to choose."""

from typing import Literal

from crew.define import define
from crew.event import (
    Failure,
    RunCompleted,
    RunEndedByCancel,
    RunEndedInFailure,
    RunEvent,
    RunParked,
)
from crew.message import Json

EndKind = Literal["completed", "failed", "cancelled", "parked", "open"]


@define
class Ending:
    """The end of a run.

    `usage` is None while it has none, or where nobody drove it when it was cancelled. `offset` and
    `at` are those of its newest event.
    """

    kind: EndKind = "open"
    output: Json = None
    error: Failure | None = None
    parked: RunParked | None = None
    usage: dict[str, int] | None = None
    offset: int = 0
    at: float = 0.0
    thread: dict[str, Json] | None = None
    """What a completed run has changed of its thread's state."""

    @property
    def is_final(self) -> bool:
        """Whether nothing follows."""
        return self.kind in ("completed", "failed", "cancelled")

    def apply(self, event: RunEvent, offset: int, at: float) -> None:
        self.offset, self.at = offset, at
        self.kind, self.output, self.error = "open", None, None
        self.parked = self.usage = self.thread = None
        match event:
            case RunCompleted(output=output, usage=usage, thread=thread):
                self.kind, self.output, self.usage = "completed", output, usage
                self.thread = thread
            case RunEndedInFailure(error=error, usage=usage):
                self.kind, self.error, self.usage = "failed", error, usage
            case RunEndedByCancel(usage=usage):
                self.kind, self.usage = "cancelled", usage
            case RunParked():
                self.kind, self.parked = "parked", event
            case _:
                pass
