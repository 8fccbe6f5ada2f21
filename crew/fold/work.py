"""What of a run is under way: each piece of work from the event of its start to that of its end."""

from collections.abc import Iterator, Mapping
from typing import Literal, NamedTuple, Protocol

from crew.event import (
    CallCancelled,
    CallCompleted,
    CallFailed,
    CallStarted,
    CallUnknown,
    Failure,
    RunCompleted,
    RunEndedByCancel,
    RunEndedInFailure,
    RunEvent,
    RunParked,
    StepCompleted,
    StepFailed,
    StepStarted,
    TextEmitted,
)
from crew.message import Json

WorkKind = Literal["run", "step", "agent", "model", "tool"]
Outcome = Literal["completed", "failed", "cancelled", "unknown"]

SELDOM = frozenset(
    {CallCancelled, CallFailed, StepFailed, RunParked}
    | {RunCompleted, RunEndedInFailure, RunEndedByCancel}
)
"""What more than the end of one piece of work may follow from."""

_NOTHING: Mapping[str, Json] = {}


class RunFacts(Protocol):
    """What is known of a run beside its events."""

    @property
    def id(self) -> str: ...
    @property
    def number(self) -> int: ...
    @property
    def tenant(self) -> str: ...
    @property
    def workflow(self) -> str: ...
    @property
    def version(self) -> str: ...
    @property
    def thread(self) -> str | None: ...
    @property
    def parent(self) -> str | None: ...
    @property
    def created_at(self) -> float: ...


# Two of these are made for each step of a run: a tuple costs a third of a frozen dataclass.
class Work(NamedTuple):
    """A piece of work that ended. Times are unix seconds, of whichever process wrote them.

    `path` is empty for the run itself, and so is the `parent` of what stands right beneath it.
    `asked` and `result` are what the events of its start and its end hold.
    """

    run: RunFacts
    kind: WorkKind
    path: str
    parent: str
    began_at: float
    ended_at: float
    outcome: Outcome
    asked: Mapping[str, Json] = _NOTHING
    result: Mapping[str, Json] = _NOTHING
    error: Failure | None = None

    @property
    def seconds(self) -> float:
        """How long it took; clocks of two processes may disagree, but no time is negative."""
        return max(0.0, self.ended_at - self.began_at)

    @property
    def node(self) -> str:
        """Of a step: the name of its node."""
        return self.path.partition("[")[0]


class FirstText(NamedTuple):
    """The first text of a model came, so many seconds after it was asked."""

    model: str
    seconds: float


class Refusal(NamedTuple):
    """A budget refused a call."""


class Trouble(NamedTuple):
    """A step failed, or a run is parked; `facts` are what is logged of it."""

    event: Literal["step.failed", "run.parked"]
    facts: Mapping[str, str | int]
    error: Failure | None = None


class _Open(NamedTuple):
    kind: WorkKind
    at: float
    parent: str
    data: Mapping[str, Json]


class WorkUnderWay:
    """Follows the events of one run, and pairs them."""

    def __init__(self, run: RunFacts) -> None:
        self.run = run
        self.asks: set[str] = set()
        """The paths of its open questions."""
        self._open: dict[str, _Open] = {}
        self._inner: dict[str, list[str]] = {}
        """What an agent or tool under way began, by its path."""
        self._with_text: set[str] = set()
        self._refused: set[str] = set()

    def follow(self, at: float, event: RunEvent) -> Work | FirstText | None:
        """Take in the next event; return what it ends, or the first text of a model."""
        match event:
            # The two that come with every step are asked for first.
            case StepStarted(path=path):
                self._open.setdefault(path, _Open("step", at, "", _NOTHING))
            case StepCompleted(path=path):
                return self._end(path, at, "completed")
            case StepFailed(path=path, error=error):
                return self._end(path, at, "failed", error=error)
            case CallStarted(path=path, call="ask"):
                self.asks.add(path)
            case (
                CallCompleted(path=path, call="ask")
                | CallFailed(path=path, call="ask")
                | CallCancelled(path=path, call="ask")
            ):
                self.asks.discard(path)
            case CallStarted(path=path, call=("agent" | "model" | "tool") as call, data=data):
                self._begin(path, call, at, data)
            case CallCompleted(path=path, data=data):
                return self._end(path, at, "completed", data)
            case CallFailed(path=path, error=error, usage=usage):
                return self._end(path, at, "failed", {"usage": usage} if usage else {}, error)
            case CallUnknown(path=path):
                return self._end(path, at, "unknown")
            case TextEmitted(path=path, streamed=True):
                return self._first_text(path, at)
            case _:
                pass
        return None

    def know(self, at: float, event: RunEvent) -> None:
        """Take in an event that was reported before."""
        self.follow(at, event)
        self._is_refusal(event)
        if isinstance(event, CallCancelled):
            self._close(at, event)

    def more(self, at: float, event: RunEvent) -> Iterator[Work | Refusal | Trouble]:
        """Yield what else follows from an event that was taken in, of those in `SELDOM`."""
        yield from self._close(at, event)
        if self._is_refusal(event):
            yield Refusal()
        match event:
            case RunParked(reason=reason, path=path):
                yield Trouble("run.parked", {"reason": reason, "path": path})
            case StepFailed(path=path, attempt=attempt, error=error):
                yield Trouble("step.failed", {"path": path, "attempt": attempt}, error)
            case _:
                pass

    def _close(self, at: float, event: RunEvent) -> list[Work]:
        """Return what a cancel ends with all beneath it, or the run's end; else nothing."""
        match event:
            case CallCancelled(path=path):
                return self._cancelled(path, at)
            case RunCompleted(usage=usage):
                whole = self._whole(at, "completed", {"usage": usage})
            case RunEndedInFailure(usage=usage, error=error):
                whole = self._whole(at, "failed", {"usage": usage}, error)
            case RunEndedByCancel():
                whole = self._whole(at, "cancelled", _NOTHING)
            case _:
                return []
        # From the inside out: who stands beneath comes later.
        left = [self._end(path, at, "cancelled") for path in reversed(list(self._open))]
        return [*(work for work in left if work is not None), whole]

    def _is_refusal(self, event: RunEvent) -> bool:
        """Return whether a budget refused a call here, each refusal once.

        A call that is refused has no event; its agent fails with it, and then perhaps its step.
        """
        match event:
            case CallFailed(path=path, call="agent", error=Failure(type="BudgetExceeded")):
                self._refused.add(path.partition("/")[0])
                return True
            case StepFailed(path=path, error=Failure(type="BudgetExceeded")):
                return path not in self._refused
            case RunEndedInFailure(error=Failure(type="BudgetExceeded", path="")):
                return True  # its time was up
            case _:
                return False

    def _begin(self, path: str, kind: WorkKind, at: float, data: Mapping[str, Json]) -> None:
        if path not in self._open:  # else it is begun again after a crash
            parent = self._parent_of(path)
            self._open[path] = _Open(kind, at, parent, data)
            if parent and self._open[parent].kind != "step":
                self._inner.setdefault(parent, []).append(path)

    def _parent_of(self, path: str) -> str:
        while path:
            path = path.rpartition("/")[0]
            if path in self._open:
                return path
        return ""

    def _cancelled(self, path: str, at: float) -> list[Work]:
        """Return a call that is cancelled, and what it began: that has no event of its own."""
        inner = [
            work
            for beneath in reversed(self._inner.pop(path, []))
            for work in self._cancelled(beneath, at)
        ]
        outer = self._end(path, at, "cancelled")
        return inner if outer is None else [*inner, outer]

    def _end(
        self,
        path: str,
        at: float,
        outcome: Outcome,
        result: Mapping[str, Json] = _NOTHING,
        error: Failure | None = None,
    ) -> Work | None:
        opened = self._open.pop(path, None)
        self._inner.pop(path, None)
        if opened is None:
            return None  # of a kind that nobody asks about, or a record of another run
        kind, began_at, parent, asked = opened
        return Work(self.run, kind, path, parent, began_at, at, outcome, asked, result, error)

    def _whole(
        self, at: float, outcome: Outcome, result: Mapping[str, Json], error: Failure | None = None
    ) -> Work:
        began_at = self.run.created_at
        return Work(self.run, "run", "", "", began_at, at, outcome, _NOTHING, result, error)

    def _first_text(self, path: str, at: float) -> FirstText | None:
        opened = self._open.get(path)
        if opened is None or path in self._with_text:
            return None
        self._with_text.add(path)
        return FirstText(str(opened.data.get("model", "")), max(0.0, at - opened.at))
