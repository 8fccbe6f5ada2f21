"""What a run came from: what it was started with, and the run that it is a fork of."""

from dataclasses import field

from crew.define import define
from crew.event import RunEvent, RunForked, RunStarted
from crew.message import Json


@define
class Origin:
    """A run's first event, and where it went its own way.

    `forked_at` is the offset of the event by which a fork began, or 0.
    """

    workflow: str = ""
    input: Json = None
    thread: str | None = None
    parent: str | None = None
    code: str = ""
    metadata: dict[str, Json] = field(default_factory=dict)
    at: float = 0.0
    forked: RunForked | None = None
    forked_at: int = 0

    def apply(self, event: RunEvent, offset: int, at: float) -> None:
        match event:
            case RunStarted():
                self.workflow, self.input, self.code = event.workflow, event.input, event.code
                self.thread, self.parent, self.at = event.thread, event.parent, at
                self.metadata = event.metadata or {}
            case RunForked():
                self.forked, self.forked_at = event, offset
            case _:
                pass
