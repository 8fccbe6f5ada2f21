"""The steps of a run and the calls in them, each from its start to its end."""

from collections.abc import Iterator
from dataclasses import field
from typing import Literal

from crew.budget import NANOS
from crew.define import define
from crew.event import (
    CallCancelled,
    CallCompleted,
    CallFailed,
    CallKind,
    CallStarted,
    CallUnknown,
    Failure,
    RunCompleted,
    RunEndedByCancel,
    RunEndedInFailure,
    RunEvent,
    RunForked,
    StepCompleted,
    StepFailed,
    StepStarted,
)
from crew.fold.costs import tokens_in
from crew.message import Json

State = Literal["running", "again", "completed", "failed", "cancelled", "unknown"]
"""`again`: it was begun once more, since a crash came before its end."""

_CALLS: frozenset[CallKind] = frozenset({"agent", "model", "tool", "effect", "function", "child"})
_NOTHING: dict[str, Json] = {}


@define
class Activity:
    """A step or a call; times are the journal's, in unix seconds."""

    path: str
    kind: Literal["step"] | CallKind
    began: float
    state: State = "running"
    ended: float | None = None
    asked: dict[str, Json] = field(default_factory=dict)
    usage: dict[str, int] = field(default_factory=dict)
    """What is on record of it, by unit; money in billionths."""
    is_reused: bool = False
    """Whether another run paid for it, whose record answered."""
    error: Failure | None = None

    @property
    def is_under_way(self) -> bool:
        return self.state in ("running", "again")

    @property
    def tokens(self) -> int:
        return tokens_in(self.usage)

    @property
    def money(self) -> float:
        return self.usage.get("money_nanos", 0) / NANOS

    def seconds_by(self, now: float) -> float:
        """Return how long it took, or has taken by `now`."""
        return max(0.0, (now if self.ended is None else self.ended) - self.began)

    @property
    def place(self) -> tuple[str, int] | None:
        """The machine and the process that an agent works in, if that is known."""
        pid = self.asked.get("pid")
        return None if pid is None else (self.asked["host"], pid)


@define
class Steps:
    """What a run has done and does: its steps, agents and other calls, by their paths."""

    all: dict[str, Activity] = field(default_factory=dict)

    def apply(self, event: RunEvent, offset: int, at: float) -> Activity | None:
        """Take in an event; return the step or call that it is of, if it is of one."""
        match event:
            case StepStarted(path=path):
                return self._begin(path, "step", _NOTHING, at)
            case StepCompleted(path=path):
                return self._end(path, "step", "completed", at)
            case StepFailed(path=path, error=error):
                return self._end(path, "step", "failed", at, error=error)
            case CallStarted(path=path, call=call, data=data) if call in _CALLS:
                return self._begin(path, call, data, at)
            case CallCompleted(path=path, call=call, data=data) if call in _CALLS:
                activity = self._end(path, call, "completed", at, usage=data.get("usage"))
                activity.is_reused = bool(data.get("reused"))
                return activity
            case CallFailed(path=path, call=call, error=error, usage=usage) if call in _CALLS:
                return self._end(path, call, "failed", at, usage=usage, error=error)
            case CallUnknown(path=path, call=call) if call in _CALLS:
                return self._end(path, call, "unknown", at)
            case CallCancelled(path=path, call=call) if call in _CALLS:
                return self._end(path, call, "cancelled", at)
            case RunCompleted() | RunEndedInFailure() | RunEndedByCancel():
                self._cancel_beneath("", at)
            case RunForked():
                for activity in self.all.values():
                    activity.is_reused = True
            case _:
                pass
        return None

    def under_way(self) -> Iterator[Activity]:
        """Yield what has no end yet."""
        return (activity for activity in self.all.values() if activity.is_under_way)

    def _begin(
        self, path: str, kind: Literal["step"] | CallKind, asked: dict[str, Json], at: float
    ) -> Activity:
        activity = self.all.get(path)
        if activity is None or not activity.is_under_way:
            activity = self.all[path] = Activity(path, kind, at)
        else:
            activity.state = "again"
        activity.asked = asked
        if lost := asked.get("lost"):
            activity.usage = _sum(activity.usage, lost)  # a request of it that broke off
        return activity

    def _end(
        self,
        path: str,
        kind: Literal["step"] | CallKind,
        state: State,
        at: float,
        *,
        usage: dict[str, int] | None = None,
        error: Failure | None = None,
    ) -> Activity:
        activity = self.all.setdefault(
            path, Activity(path, kind, at)
        )  # a function has no start on record
        activity.ended, activity.state, activity.error = at, state, error
        if usage:
            activity.usage = _sum(activity.usage, usage)
        if state != "completed":
            self._cancel_beneath(f"{path}/", at)
        return activity

    def _cancel_beneath(self, place: str, at: float) -> None:
        """End what is still under way in a place that has ended: it has no event of its own."""
        for activity in self.under_way():
            if activity.path.startswith(place):
                activity.state, activity.ended = "cancelled", at


def _sum(one: dict[str, int], other: dict[str, int]) -> dict[str, int]:
    return {name: one.get(name, 0) + other.get(name, 0) for name in one | other}
