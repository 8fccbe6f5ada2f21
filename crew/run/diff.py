"""Two runs compared: their answers, their calls, and what each paid."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from crew.event import ENDS, Event
from crew.message import Json

_RESULTS = ("step", "agent", "function", "tool", "effect", "ask", "child")
_VALUES = ("output", "result", "value")


@dataclass(frozen=True, slots=True)
class Side:
    """One run: how it ended, and what it paid and did not have to pay, in tokens and calls."""

    end: str
    answer: Json
    paid: dict[str, int] = field(default_factory=dict)
    reused: dict[str, int] = field(default_factory=dict)

    @property
    def tokens(self) -> int:
        """What it paid, input and output together."""
        return self.paid.get("input_tokens", 0) + self.paid.get("output_tokens", 0)


@dataclass(frozen=True, slots=True)
class Difference:
    """What differs between two runs; the paths are those of steps and calls."""

    first: Side
    second: Side
    only_first: tuple[str, ...]
    only_second: tuple[str, ...]
    changed: tuple[str, ...]

    @property
    def is_same(self) -> bool:
        """Whether both came to the same end with the same answer."""
        return (self.first.end, self.first.answer) == (self.second.end, self.second.answer)


def compare(first: Sequence[Event], second: Sequence[Event]) -> Difference:
    """Compare two runs by their events."""
    results = [_results(events) for events in (first, second)]
    shared = results[0].keys() & results[1].keys()
    return Difference(
        _side(first),
        _side(second),
        only_first=tuple(path for path in results[0] if path not in shared),
        only_second=tuple(path for path in results[1] if path not in shared),
        changed=tuple(path for path in results[0] if path in shared and _differ(results, path)),
    )


def _differ(results: list[dict[str, Json]], path: str) -> bool:
    return bool(results[0][path] != results[1][path])


def _results(events: Sequence[Event]) -> dict[str, Json]:
    """Return what each step and call came to."""
    found: dict[str, Json] = {}
    for event in events:
        call, _, phase = event.kind.partition(".")
        if call in _RESULTS and phase in ("completed", "answered", "failed"):
            told = [event.data[name] for name in _VALUES if name in event.data]
            found[event.path] = told[0] if told else event.data.get("error")
    return found


def _side(events: Sequence[Event]) -> Side:
    last = events[-1]
    if last.kind not in ENDS:
        return Side("open", None)
    answer = last.data.get("output", last.data.get("error"))
    usage, reused = (last.data.get(name) or {} for name in ("usage", "reused"))
    return Side(last.kind.removeprefix("run."), answer, usage, reused)
