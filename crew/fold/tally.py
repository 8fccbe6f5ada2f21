"""How many calls of a run are on record, and how many were made twice."""

from dataclasses import field

from crew.define import define
from crew.event import (
    CallCancelled,
    CallCompleted,
    CallFailed,
    CallStarted,
    CallUnknown,
    RunEvent,
    RunTaken,
)


@define
class Tally:
    """The model, tool and effect calls of a run.

    `repeated` calls were made again though their result was recorded; those `in_flight` were made
    again because a crash came before it. `taken` counts the take-overs.
    """

    repeated: int = 0
    in_flight: int = 0
    taken: int = 0
    _done: set[str] = field(default_factory=set)
    _open: set[str] = field(default_factory=set)

    @property
    def recorded(self) -> int:
        return len(self._done)

    def apply(self, event: RunEvent, offset: int, at: float) -> None:
        match event:
            case CallStarted(path=path, call="model" | "tool" | "effect"):
                self.repeated += path in self._done
                self.in_flight += path in self._open
                self._open.add(path)
            case CallCompleted(path=path, call="model" | "tool" | "effect"):
                self._open.discard(path)
                self._done.add(path)
            case CallFailed(path=path) | CallUnknown(path=path) | CallCancelled(path=path):
                self._open.discard(path)
            case RunTaken() if is_takeover(offset):
                self.taken += 1
            case _:
                pass


def is_takeover(offset: int) -> bool:
    """Return whether somebody lost a run that is taken by the event at `offset`.

    The second event of a turn says who drives it first.
    """
    return offset > 2
