"""How a run went that is lived again: what time brought about in it, beside what calls came to."""

from dataclasses import field

from crew.define import define
from crew.errors import BudgetExceeded
from crew.event import (
    Failure,
    QuorumReached,
    RunEndedInFailure,
    RunEvent,
    StepCompleted,
    StepFailed,
)
from crew.fold.paths import base_path


@define
class Past:
    """What a replay knows of its run beside the records of calls."""

    ended: set[str] = field(default_factory=set)
    """The steps that ended there; the others were cut off."""
    quorums: dict[str, frozenset[str]] = field(default_factory=dict)
    """The steps that had completed when each join fired early, by the quorum's path."""
    is_out_of_time: bool = False
    """Whether it ended since the seconds of its budget were over."""
    completed: set[str] = field(default_factory=set)
    """The steps that did so far."""

    def apply(self, event: RunEvent, offset: int = 0, at: float = 0.0) -> None:
        match event:
            case StepCompleted(path=path):
                self.completed.add(base_path(path))
                self.ended.add(base_path(path))
            case StepFailed(path=path, final=True):
                self.ended.add(base_path(path))
            case QuorumReached(path=path):
                self.quorums[path] = frozenset(self.completed)
            case RunEndedInFailure(error=error):
                self.is_out_of_time = _is_time(error)
            case _:
                pass


def _is_time(error: Failure) -> bool:
    # What a call or a step raised has its path.
    return error.type == BudgetExceeded.__name__ and not error.path
