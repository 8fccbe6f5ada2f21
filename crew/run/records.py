"""What the journal holds of a run's calls, by path: what they are answered from."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from crew.call.record import Record
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
from crew.graph.engine import base_path
from crew.message import Json


class Records:
    """The records of calls, kept by step, so that those of a finished step can go at once."""

    def __init__(self) -> None:
        self._calls: dict[str, Record] = {}
        self._steps: dict[str, dict[str, Record]] = {}
        """The same by the steps that made them."""
        self._emitted: dict[str, set[str]] = {}
        self._streamed: dict[str, dict[str, list[str]]] = {}

    def __len__(self) -> int:
        return len(self._calls)

    def get(self, path: str) -> Record | None:
        """Return what is recorded at a call's path."""
        return self._calls.get(path)

    def put(self, path: str, record: Record) -> None:
        self._calls[path] = record
        self._steps.setdefault(step_of(path), {})[path] = record

    def is_emitted(self, path: str) -> bool:
        """Return whether a text or a line of progress was recorded at `path`."""
        return path in self._emitted.get(step_of(path), ())

    def streamed(self, path: str) -> str:
        """Return the text streamed, and not discarded, at a model call's path or beneath it."""
        return "".join(piece for pieces in self._pieces(path) for piece in pieces)

    def has_streamed(self, path: str) -> bool:
        """Return whether that is more than nothing."""
        return any(self._pieces(path))

    def _pieces(self, path: str) -> Iterator[list[str]]:
        streamed = self._streamed.get(step_of(path), {})
        beneath = f"{path}/"
        return (p for place, p in streamed.items() if place == path or place.startswith(beneath))

    def has_emitted(self, attempt: str) -> bool:
        """Return whether a step's attempt, by its path, added to the workflow's answer."""
        return self.has_streamed(attempt) or any(
            path.startswith(f"{attempt}/") for path in self._emitted.get(step_of(attempt), ())
        )

    def fold(self, event: RunEvent, offset: int) -> Record | None:
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
                return known
            case CallFailed(path=path, call=call, error=error, swallowed=swallowed):
                return self._close(path, call, "failed", offset, swallowed or 0, error=error)
            case CallUnknown(path=path, call=call):
                return self._close(path, call, "unknown", offset)
            case CallCancelled(path=path, call=call):
                return self._close(path, call, "cancelled", offset)
            case TextEmitted(path=path, text=text, streamed=True):
                self._streamed.setdefault(step_of(path), {}).setdefault(path, []).append(text)
            case TextDiscarded(path=path):
                streamed = self._streamed.get(step_of(path), {})
                for place in [p for p in streamed if p == path or p.startswith(f"{path}/")]:
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
        state: Any,
        offset: int,
        swallowed: int = 0,
        *,
        result: dict[str, Json] | None = None,
        error: Failure | None = None,
    ) -> Record:
        known = self.get(path)
        result = {} if result is None else result
        data = known.data if known else {}
        fingerprint = known.fingerprint if known else result.get("fingerprint", "")
        record = Record(
            call, fingerprint, state, data, result, error, offset=offset, swallowed=swallowed
        )
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

    def remove(self, path: str) -> None:
        """Forget one call, as if it had never begun."""
        if self._calls.pop(path, None) is not None:
            del self._steps[step_of(path)][path]

    def place_of(self, act: str) -> str:
        """Return the place of the code that made the act at a path on record."""
        record = self.get(act)
        above = act.rpartition("/")[0]
        return above if record is None else record.data.get("within", above)

    def drop(self, step: str) -> None:
        """Forget the calls of a step that is over: nobody asks for them any more."""
        for path in self._steps.pop(step, ()):
            del self._calls[path]
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
                self.put(path, replace(record, in_doubt=True))

    def put_off(self, seconds: float) -> None:
        """Put deadlines off that count only time in which the run is driven."""
        for path, record in self._deadlines():
            if record.data["driven"]:
                until = record.data["until"] + seconds
                self.put(path, replace(record, data={**record.data, "until": until}))

    def forget_deadlines(self) -> None:
        """Forget those that have not passed: in a fork they begin anew."""
        for path, _ in self._deadlines():
            self.remove(path)

    def _deadlines(self) -> list[tuple[str, Record]]:
        return [
            (path, record)
            for path, record in self._calls.items()
            if record.call == "deadline" and record.state == "started"
        ]

    def beneath(self, step: str) -> dict[str, Record]:
        """Return the records of one step's calls, by path."""
        return self._steps.get(step, {})

    def to_data(self) -> dict[str, Json]:
        """Return everything as JSON, for a snapshot."""
        records = {
            path: [
                record.call,
                record.fingerprint,
                record.state,
                record.data,
                record.result,
                failure_data(record.error) if record.error else None,
                record.in_doubt,
                record.offset,
                record.swallowed,
            ]
            for path, record in self._calls.items()
        }
        emitted = sorted(path for step in self._emitted.values() for path in step)
        streamed = {
            path: pieces for step in self._streamed.values() for path, pieces in step.items()
        }
        return {"records": records, "emitted": emitted, "said": streamed}

    def load(self, data: dict[str, Json]) -> None:
        """Read what `to_data` gave."""
        for path, stored in data["records"].items():
            call, fingerprint, state, asked, result, error, in_doubt, offset, swallowed = stored
            record = Record(
                call,
                fingerprint,
                state,
                asked,
                result,
                failure_from(error) if error else None,
                in_doubt,
                offset=offset,
                swallowed=swallowed,
            )
            self.put(path, record)
        for path in data["emitted"]:
            self._emitted.setdefault(step_of(path), set()).add(path)
        for path, pieces in data["said"].items():
            self._streamed.setdefault(step_of(path), {})[path] = pieces


def is_act(call: CallKind, data: dict[str, Json]) -> bool:
    """Return whether a call acts on the world, so that it must not be made twice.

    A child is a run of its own, which may do whatever it likes.
    """
    return call in ("effect", "child") or (call == "tool" and data.get("effect") == "once")


def _way_to(place: str) -> Iterator[str]:
    """Yield the paths of the calls around a place, itself too, from the inside out."""
    while place:
        yield place
        place = place.rpartition("/")[0]


def step_of(path: str) -> str:
    """Return the step of a call's path, without its attempt: `look_up[2]` of `look_up[2]~2/a`."""
    step = path.partition("/")[0]
    return base_path(step) if "~" in step else step
