"""The deadlines of a run's code that have not passed, and whose blocks have not ended."""

from collections.abc import Iterator
from dataclasses import field, replace

from crew.define import define, frozen
from crew.event import CallCancelled, CallCompleted, CallStarted, RunEvent, RunForked, RunTaken
from crew.fold.paths import step_of
from crew.message import Json


@frozen
class Deadline:
    """When a block is broken off, in unix seconds.

    `driven` says that time does not count in which nobody drives the run.
    """

    until: float
    driven: bool


@define
class Deadlines:
    """Those on record, by their steps and their paths."""

    _steps: dict[str, dict[str, Deadline]] = field(default_factory=dict)

    def apply(self, event: RunEvent, offset: int = 0, at: float = 0.0) -> None:
        match event:
            case CallStarted(path=path, call="deadline", data=data):
                self._put(path, Deadline(data["until"], data["driven"]))
            case (
                CallCompleted(path=path, call="deadline")
                | CallCancelled(path=path, call="deadline", by_end=False)
            ):
                self._steps.get(step_of(path), {}).pop(path, None)
            case RunTaken(gap=gap):
                self._put_off(gap)
            case RunForked():
                self._steps.clear()  # in a fork they begin anew
            case _:
                pass

    def __iter__(self) -> Iterator[str]:
        return (path for step in self._steps.values() for path in step)

    def until(self, path: str) -> float:
        """Return when the block at a path is broken off."""
        return self._steps[step_of(path)][path].until

    def drop(self, step: str) -> None:
        """Forget those of a step that is over."""
        self._steps.pop(step, None)

    def _put(self, path: str, deadline: Deadline) -> None:
        self._steps.setdefault(step_of(path), {})[path] = deadline

    def _put_off(self, seconds: float) -> None:
        for step in self._steps.values():
            for path, deadline in step.items():
                if deadline.driven:
                    step[path] = replace(deadline, until=deadline.until + seconds)

    def to_data(self) -> list[Json]:
        """Return everything as JSON, for a snapshot."""
        return [
            [path, deadline.until, deadline.driven]
            for step in self._steps.values()
            for path, deadline in step.items()
        ]

    def load(self, data: list[Json]) -> None:
        """Know what `to_data` gave."""
        for path, until, driven in data:
            self._put(path, Deadline(until, driven))
