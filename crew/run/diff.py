"""Two runs compared by their events: how each ended, which results differ, what each cost."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from crew.event import (
    CallCancelled,
    CallCompleted,
    CallFailed,
    CallKind,
    CallStarted,
    CallUnknown,
    Event,
    Failure,
    RunCompleted,
    RunEndedByCancel,
    RunEndedInFailure,
    RunEvent,
    RunForked,
    RunParked,
    StepCompleted,
    StepFailed,
    StepStarted,
    from_data,
)
from crew.message import Json

EndKind = Literal["completed", "failed", "cancelled", "parked", "open"]

_LEFT_OUT = frozenset({"fingerprint", "reused"})


@dataclass(frozen=True, slots=True)
class End:
    """How a run stands: `value` is its output, its error, or why it is parked."""

    kind: EndKind
    value: Json = None


@dataclass(frozen=True, slots=True)
class Cost:
    """Model calls and tokens that a run paid, and those that another run's records spared it."""

    calls: int = 0
    tokens: int = 0
    reused_calls: int = 0
    reused_tokens: int = 0

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(
            self.calls + other.calls,
            self.tokens + other.tokens,
            self.reused_calls + other.reused_calls,
            self.reused_tokens + other.reused_tokens,
        )

    @property
    def all_calls(self) -> int:
        """The calls that the run would have paid alone."""
        return self.calls + self.reused_calls

    @property
    def all_tokens(self) -> int:
        """The tokens that the run would have paid alone."""
        return self.tokens + self.reused_tokens


@dataclass(frozen=True, slots=True)
class Change:
    """A step or call that both runs came to, with its result in each; None where it has none."""

    path: str
    a: Json
    b: Json


@dataclass(frozen=True, slots=True)
class Difference:
    """What `compare` found; paths are in the order in which the runs came to their results."""

    ends: tuple[End, End]
    only_a: tuple[str, ...]
    only_b: tuple[str, ...]
    changed: tuple[Change, ...]
    reused: tuple[tuple[str, ...], tuple[str, ...]]
    """The calls of each that were answered from another run's records."""
    costs: tuple[Cost, Cost]

    @property
    def same_answer(self) -> bool:
        """Whether both ended, in the same way and with the same output or error."""
        return self.ends[0] == self.ends[1] and self.ends[0].kind not in ("open", "parked")

    @property
    def equal(self) -> bool:
        """Whether both did the same and came to the same, whatever each paid."""
        return self.same_answer and not (self.only_a or self.only_b or self.changed)


def compare(a: Sequence[Event], b: Sequence[Event]) -> Difference:
    """Compare two runs by all their events."""
    one, two = _read(a), _read(b)
    return Difference(
        ends=(one.end, two.end),
        only_a=tuple(path for path in one.results if path not in two.results),
        only_b=tuple(path for path in two.results if path not in one.results),
        changed=tuple(
            Change(path, result, two.results[path])
            for path, result in one.results.items()
            if path in two.results and result != two.results[path]
        ),
        reused=(tuple(one.reused), tuple(two.reused)),
        costs=(one.cost, two.cost),
    )


def end_of(events: Sequence[Event]) -> End:
    """Return how a run stands after these events."""
    return _read(events).end


def cost_of(events: Sequence[Event]) -> Cost:
    """Return what a run paid so far; the prefix that a fork shares with its base was not paid."""
    return _read(events).cost


def reused_of(events: Sequence[Event]) -> list[str]:
    """Return the paths of the calls that were answered from another run's records."""
    return _read(events).reused


@dataclass(slots=True)
class _Reading:
    """One run, folded."""

    results: dict[str, Json] = field(default_factory=dict)
    reused: list[str] = field(default_factory=list)
    end: End = field(default_factory=lambda: End("open"))
    cost: Cost = field(default_factory=Cost)


def _read(events: Sequence[Event]) -> _Reading:
    reading = _Reading()
    for event in events:
        typed = from_data(event.kind, event.path, event.data)
        _read_result(reading, typed)
        _read_cost(reading, typed)
        reading.end = _end(typed)
    return reading


def _read_result(reading: _Reading, event: RunEvent) -> None:
    match event:
        case StepStarted() | CallStarted():
            reading.results.setdefault(event.path, None)
        case StepCompleted(output=output, patch=patch):
            _settle(reading, event.path, {"output": output} | ({"patch": patch} if patch else {}))
        case CallCompleted(call=call, data=data):
            _settle(reading, event.path, _result_of(call, data))
            if data.get("reused"):
                reading.reused.append(event.path)
        case StepFailed(error=error) | CallFailed(error=error):
            _settle(reading, event.path, _error(error))
        case CallUnknown():
            _settle(reading, event.path, {"unknown": True})
        case CallCancelled():
            _settle(reading, event.path, {"cancelled": True})
        case _:
            pass


def _result_of(call: CallKind, data: dict[str, Json]) -> dict[str, Json]:
    if call == "model":
        # The ids of tool calls are made up anew with each reply.
        wanted = [[item["name"], item["arguments"]] for item in data.get("tool_calls", [])]
        return {"text": data.get("text"), "tool_calls": wanted}
    if call in ("agent", "child"):
        return {"output": data.get("output")}
    return {name: value for name, value in data.items() if name not in _LEFT_OUT}


def _settle(reading: _Reading, path: str, result: Json) -> None:
    # The order is that of the results, so that the first change is the cause of the others.
    reading.results.pop(path, None)
    reading.results[path] = result


def _read_cost(reading: _Reading, event: RunEvent) -> None:
    cost = reading.cost
    match event:
        case CallCompleted(call="model" | "child", data=data):
            usage: dict[str, int] = data.get("usage", {})
            calls = usage.get("calls", 0)
            tokens = usage.get("input_tokens", 0) + usage.get("output_tokens", 0)
            spared = bool(data.get("reused"))
            reading.cost = cost + (Cost(0, 0, calls, tokens) if spared else Cost(calls, tokens))
        case RunForked():
            reading.cost = Cost(0, 0, cost.all_calls, cost.all_tokens)
        case _:
            pass


def _end(event: RunEvent) -> End:
    match event:
        case RunCompleted(output=output):
            return End("completed", output)
        case RunEndedInFailure(error=error):
            return End("failed", _error(error))
        case RunEndedByCancel():
            return End("cancelled")
        case RunParked(reason=reason, detail=detail, path=path, asked=asked):
            facts = {"reason": reason, "detail": detail, "path": path, "asked": asked}
            return End("parked", facts)
        case _:
            return End("open")


def _error(error: Failure) -> Json:
    return {"error": f"{error.type}: {error.message}"}
