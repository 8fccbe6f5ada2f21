"""What the journal holds of a run's calls, by path: what they are answered from."""

from collections.abc import Iterator
from typing import Literal, NamedTuple

from crew.event import (
    AgentDrifted,
    CallCancelled,
    CallCompleted,
    CallFailed,
    CallKind,
    CallStarted,
    CallUnknown,
    Failure,
    ProgressMade,
    RunEvent,
    TextDiscarded,
    TextEmitted,
    failure_data,
    failure_from,
)
from crew.fold.paths import is_within, step_of
from crew.fold.text import Stream
from crew.message import Json

State = Literal["started", "completed", "failed", "unknown", "cancelled"]


_NOTHING: dict[str, Json] = {}
"""One for all; nobody changes it."""


# Two are made for each call: a tuple costs a third of a frozen dataclass.
class Record(NamedTuple):
    """What the journal holds at a call's path.

    `in_doubt`: whoever started it may still be at it, being stopped or cut off, not dead.
    `streamed`: of a model call that is under way, the part of its text that was streamed so far.
    `offset`: that of the event of its end.
    `swallowed`: how many cancels came while it was under way, without ending it.
    """

    call: CallKind
    fingerprint: str
    state: State
    data: dict[str, Json]
    result: dict[str, Json] = _NOTHING
    error: Failure | None = None
    in_doubt: bool = False
    streamed: str = ""
    offset: int = 0
    swallowed: int = 0

    @property
    def is_ended(self) -> bool:
        """Whether its caller went on with what came of it."""
        return self.state in ("completed", "failed", "cancelled")

    @property
    def given(self) -> str:
        """What it was given, as text of 200 characters at most, where its record says so."""
        for name in ("input", "arguments", "question"):
            if name in self.data:
                return f"{self.data[name]!r:.200}"
        return ""


class Records:
    """The records of calls, kept by step, so that those of a finished step can go at once."""

    def __init__(self) -> None:
        self._calls: dict[str, Record] = {}
        self._steps: dict[str, dict[str, Record]] = {}
        """The same by the steps that made them."""
        self._asked: dict[str, set[str]] = {}
        """The paths of what steps have asked people, answered or not."""
        self._emitted: dict[str, set[str]] = {}
        self._streamed: dict[str, dict[str, Stream]] = {}

    def __len__(self) -> int:
        return len(self._calls)

    def get(self, path: str) -> Record | None:
        """Return what is recorded at a call's path."""
        return self._calls.get(path)

    def put(self, path: str, record: Record) -> None:
        self._calls[path] = record
        step = step_of(path)
        calls = self._steps.get(step)
        if calls is None:
            calls = self._steps[step] = dict[str, Record]()
        calls[path] = record

    def is_emitted(self, path: str) -> bool:
        """Return whether a text or a line of progress was recorded at `path`."""
        return path in self._emitted.get(step_of(path), ())

    def streamed(self, path: str) -> str:
        """Return the text streamed, and not discarded, at a model call's path or beneath it."""
        return "".join(piece for stream in self._streams(path) for piece in stream.pieces)

    def has_streamed(self, path: str) -> bool:
        """Return whether that is more than nothing."""
        return any(True for _ in self._streams(path))

    def _streams(self, path: str) -> Iterator[Stream]:
        streamed = self._streamed.get(step_of(path), {})
        return (stream for place, stream in streamed.items() if is_within(place, path))

    def has_emitted(self, attempt: str) -> bool:
        """Return whether a step's attempt, by its path, added to the workflow's answer."""
        return self.has_streamed(attempt) or any(
            path.startswith(f"{attempt}/") for path in self._emitted.get(step_of(attempt), ())
        )

    def apply(self, event: RunEvent, offset: int, at: float = 0.0) -> Record | None:
        """Keep what later calls of the same path are answered from; return the call's record.

        `offset` is the event's in its journal.
        """
        match event:
            case CallCompleted(path=path, call=call, data=data):
                swallowed = data.get("swallowed", 0)
                return self._close(path, call, "completed", offset, swallowed, result=data)
            case CallStarted(path=path, call=call, data=data):
                known = self.get(path)
                if known is None or known.state != "completed":
                    known = Record(call, data.get("fingerprint", ""), "started", data)
                    self.put(path, known)
                if call == "ask":
                    self._asked.setdefault(step_of(path), set()).add(path)
                return known
            case CallFailed(path=path, call=call, error=error, swallowed=swallowed):
                return self._close(path, call, "failed", offset, swallowed or 0, error=error)
            case CallUnknown(path=path, call=call):
                return self._close(path, call, "unknown", offset)
            case CallCancelled(path=path, call=call):
                return self._close(path, call, "cancelled", offset)
            case TextEmitted(path=path, text=text, streamed=True):
                streams = self._streamed.setdefault(step_of(path), {})
                streams.setdefault(path, Stream()).add(offset, text)
            case TextDiscarded(path=path):
                streamed = self._streamed.get(step_of(path), {})
                for place in [place for place in streamed if is_within(place, path)]:
                    del streamed[place]
            case TextEmitted(path=path) | ProgressMade(path=path) | AgentDrifted(path=path):
                self._emitted.setdefault(step_of(path), set()).add(path)
            case _:
                pass
        return None

    def _close(
        self,
        path: str,
        call: CallKind,
        state: State,
        offset: int,
        swallowed: int = 0,
        *,
        result: dict[str, Json] = _NOTHING,
        error: Failure | None = None,
    ) -> Record:
        known = self.get(path)
        data = _NOTHING if known is None else known.data
        fingerprint = result.get("fingerprint", "") if known is None else known.fingerprint
        record = Record(call, fingerprint, state, data, result, error, False, "", offset, swallowed)
        self.put(path, record)
        return record

    def acts(self, step: str, attempt: str = "") -> dict[str, str]:
        """Return the acts of a step that are on record, by path, or those of one attempt.

        Left out are those that happened within a call whose own end is on record, which nobody asks
        for again, and those that were cancelled before they began.
        """
        calls = self.beneath(step)
        found: dict[str, str] = {}
        for path, record in calls.items():
            if not is_act(record.call, record.data) or not record.fingerprint:
                continue
            place = record.data.get("within", path.rpartition("/")[0])
            if attempt and place.partition("/")[0] != attempt:
                continue
            if not any(above in calls and calls[above].is_ended for above in _way_to(place)):
                found[path] = f"{record.call} {record.fingerprint}"
        return found

    def asked_within(self, path: str) -> list[str]:
        """Return the paths of the open questions that were asked within the call at `path`."""
        asked = (each for each in self._asked.get(step_of(path), ()) if is_within(each, path))
        return sorted(each for each in asked if self._calls[each].state == "started")

    def remove(self, path: str) -> None:
        """Forget one call, as if it had never begun."""
        if self._calls.pop(path, None) is not None:
            del self._steps[step_of(path)][path]
            self._asked.get(step_of(path), set()).discard(path)

    def place_of(self, act: str) -> str:
        """Return the place of the code that made the act at a path on record."""
        record = self.get(act)
        above = act.rpartition("/")[0]
        return above if record is None else record.data.get("within", above)

    def drop(self, step: str) -> None:
        """Forget the calls of a step that is over: nobody asks for them any more."""
        for path in self._steps.pop(step, ()):
            del self._calls[path]
        self._asked.pop(step, None)
        self._emitted.pop(step, None)
        self._streamed.pop(step, None)

    def drop_beneath(self, path: str, call: CallKind) -> None:
        """Forget the calls of one kind that were made within the call at `path`."""
        for inner, record in list(self.beneath(step_of(path)).items()):
            if inner.startswith(f"{path}/") and record.call == call:
                self.remove(inner)

    def doubt(self) -> None:
        """Note that whoever started what is under way may still be at it."""
        for path, record in self._calls.items():
            if record.state == "started":
                self.put(path, record._replace(in_doubt=True))

    def beneath(self, step: str) -> dict[str, Record]:
        """Return the records of one step's calls, by path."""
        return self._steps.get(step, {})

    def to_data(self) -> dict[str, Json]:
        """Return everything as JSON, for a snapshot."""
        records = {path: record_data(record) for path, record in self._calls.items()}
        emitted = sorted(path for step in self._emitted.values() for path in step)
        streamed = [
            place
            for step in self._streamed.values()
            for stream in step.values()
            for place in stream.places
        ]
        return {"records": records, "emitted": emitted, "streamed": streamed}

    def load(self, data: dict[str, Json]) -> None:
        """Read what `to_data` gave; the streamed texts are in the journal, at `streamed`."""
        for path, stored in data["records"].items():
            record = record_from(stored)
            self.put(path, record)
            if record.call == "ask":
                self._asked.setdefault(step_of(path), set()).add(path)
        for path in data["emitted"]:
            self._emitted.setdefault(step_of(path), set()).add(path)


def record_data(record: Record) -> list[Json]:
    """Return a record as JSON, for a snapshot or another process."""
    error = None if record.error is None else failure_data(record.error)
    return list(record._replace(error=error))  # type: ignore[arg-type]


def record_from(data: list[Json]) -> Record:
    """Return the record that `record_data` described."""
    record = Record(*data)
    return record if record.error is None else record._replace(error=failure_from(data[5]))


def is_act(call: CallKind, data: dict[str, Json]) -> bool:
    """Return whether a call acts on the world, so that it must not be made twice.

    A child is a run of its own, which may do whatever it likes.
    """
    return call in ("effect", "child") or (call == "tool" and data.get("effect") == "once")


def is_end_of_act(event: RunEvent) -> bool:
    """Return whether an event tells what an effect, or the call of a tool, came to."""
    return isinstance(event, CallCompleted | CallFailed) and event.call in ("effect", "tool")


def _way_to(place: str) -> Iterator[str]:
    """Yield the paths of the calls around a place, itself too, from the inside out."""
    while place:
        yield place
        place = place.rpartition("/")[0]
