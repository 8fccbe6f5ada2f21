"""The spans of a run: the tree of its steps, and of the agents, models and tools beneath them."""

from collections.abc import Iterator, Mapping
from dataclasses import field, replace
from typing import Literal

from crew.define import define, frozen
from crew.event import CallKind, Failure, RunEvent
from crew.fold.costs import in_currency, tokens_in
from crew.fold.ends import Ending
from crew.fold.paths import base_path, places_around
from crew.fold.steps import Activity, State, Steps

_PAID: frozenset[str] = frozenset({"model", "child"})
"""What costs something by itself; anything else costs what lies beneath it."""
_ROOT = ""


@frozen
class Span:
    """A run, a step or a call, with everything beneath it; iterated, all of them, the outer first.

    Times are unix seconds, of whichever process wrote them; `end` is None while it is under way.
    `path` is empty for the run itself. `usage` is what it cost, by unit, with all beneath it;
    `reused` says that another run paid, whose record answered. `place` is the machine and the
    process that an agent worked in, where that is known.
    """

    path: str
    kind: Literal["run", "step"] | CallKind
    name: str
    start: float
    end: float | None
    outcome: State
    usage: Mapping[str, float] = field(default_factory=dict)
    reused: bool = False
    error: Failure | None = None
    place: tuple[str, int] | None = None
    children: tuple["Span", ...] = ()

    def __iter__(self) -> Iterator["Span"]:
        yield self
        for child in self.children:
            yield from child

    @property
    def seconds(self) -> float | None:
        """How long it took; clocks of two processes may disagree, but no time is negative."""
        return None if self.end is None else max(0.0, self.end - self.start)

    def seconds_by(self, now: float) -> float:
        """Return how long it took, or has taken by `now`."""
        return max(0.0, (now if self.end is None else self.end) - self.start)

    @property
    def tokens(self) -> int:
        return tokens_in(self.usage)

    @property
    def money(self) -> float:
        """In the currency of the models' prices."""
        return self.usage.get("money", 0.0)


@define
class Spans:
    """Follows a run, and draws the tree of what it did and does."""

    steps: Steps = field(default_factory=Steps)
    ending: Ending = field(default_factory=Ending)
    start: float | None = None

    def apply(self, event: RunEvent, offset: int, at: float) -> Activity | None:
        """Take in an event; return the step or call that it is of, if it is of one."""
        self.start = at if self.start is None else self.start
        self.ending.apply(event, offset, at)
        return self.steps.apply(event, offset, at)

    def tree(self, name: str = "") -> Span:
        """Return the span of the run, which is called `name`; its end is told by its last event."""
        beneath: dict[str, list[Activity]] = {}
        for path, activity in self.steps.all.items():
            around = (place for place in places_around(path) if place in self.steps.all)
            beneath.setdefault(next(around, _ROOT), []).append(activity)
        whole = Activity(_ROOT, "step", self.start or 0.0, error=self.ending.error)
        kind = self.ending.kind
        if kind in ("completed", "failed", "cancelled"):
            whole.state, whole.ended = kind, self.ending.at
        span, _ = _span(whole, beneath, name)
        counted = self.ending.usage
        # The run counts the bounds of calls, too, that nobody answered.
        return span if counted is None else replace(span, usage=in_currency(counted))


def _span(
    activity: Activity, beneath: Mapping[str, list[Activity]], name: str = ""
) -> tuple[Span, dict[str, int]]:
    """Return a span, and what it cost, in billionths where that is money."""
    found = [_span(inner, beneath) for inner in beneath.get(activity.path, ())]
    total = dict[str, int]()
    for _, usage in found:
        _add(total, usage)
    if activity.kind in _PAID and not activity.is_reused:
        _add(total, activity.usage)
    span = Span(
        path=activity.path,
        kind=activity.kind if activity.path else "run",
        name=name or _name_of(activity),
        start=activity.began,
        end=activity.ended,
        outcome=activity.state,
        usage=in_currency(total),
        reused=activity.is_reused,
        error=activity.error,
        place=activity.place,
        children=tuple(span for span, _ in found),
    )
    return span, total


def _name_of(activity: Activity) -> str:
    """Return what an agent, a model, a tool, a workflow or a function is called, or else a node."""
    asked = activity.asked
    for key in (activity.kind, "workflow", "function"):
        if isinstance(called := asked.get(key), str):
            return called
    last = base_path(activity.path.rpartition("/")[2])
    return last.partition("[")[0] if activity.kind == "step" else last


def _add(total: dict[str, int], more: Mapping[str, int]) -> None:
    for name, count in more.items():
        total[name] = total.get(name, 0) + count
