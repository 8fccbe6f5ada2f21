"""What a replay knows of its run beside the records of calls: what time brought about there."""

from collections.abc import Sequence
from dataclasses import dataclass

from crew.errors import BudgetExceeded
from crew.event import Event, QuorumReached, RunEndedInFailure, StepCompleted, StepFailed
from crew.graph.engine import base_path


@dataclass(frozen=True, slots=True)
class Past:
    """How a run went that is lived again.

    Args:
        ended: the steps that ended there; the others were cut off.
        quorums: the steps that had completed when each join fired early, by the quorum's path.
        is_out_of_time: whether it ended since the seconds of its budget were over.
    """

    ended: frozenset[str]
    quorums: dict[str, frozenset[str]]
    is_out_of_time: bool


def past_of(events: Sequence[Event]) -> Past:
    """Return how a run went, by its whole journal."""
    completed, ended = set[str](), set[str]()
    quorums: dict[str, frozenset[str]] = {}
    for event in events:
        if event.kind == QuorumReached.kind:
            quorums[event.path] = frozenset(completed)
        elif event.kind == StepCompleted.kind:
            completed.add(base_path(event.path))
        elif event.kind == StepFailed.kind and event.data["final"]:
            ended.add(base_path(event.path))
    return Past(frozenset(completed | ended), quorums, _is_out_of_time(events[-1]))


def _is_out_of_time(last: Event) -> bool:
    if last.kind != RunEndedInFailure.kind:
        return False
    error = last.data["error"]
    # What a call or a step raised has its path.
    return error["type"] == BudgetExceeded.__name__ and not error.get("path")
