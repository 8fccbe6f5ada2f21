"""What the journal holds of a run's calls, by path: what they are answered from."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from crew.call import Record
from crew.engine import base_path
from crew.event import (
    AgentDrifted,
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
from crew.message import Json


class Records:
    """The records of calls, kept by step, so that those of a finished step can go at once."""

    def __init__(self) -> None:
        self._steps: dict[str, dict[str, Record]] = {}
        self._emitted: dict[str, set[str]] = {}
        self._said: dict[str, dict[str, list[str]]] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def get(self, path: str) -> Record | None:
        """Return what is recorded at a call's path."""
        step = self._steps.get(step_of(path))
        return None if step is None else step.get(path)

    def put(self, path: str, record: Record) -> None:
        step = self._steps.setdefault(step_of(path), {})
        if path not in step:
            self._count += 1
        step[path] = record

    def is_emitted(self, path: str) -> bool:
        """Return whether a text or a line of progress was recorded at `path`."""
        return path in self._emitted.get(step_of(path), ())

    def said(self, path: str) -> str:
        """Return what was said, and not taken back, at a model call's path or beneath it."""
        return "".join(piece for pieces in self._pieces(path) for piece in pieces)

    def has_said(self, path: str) -> bool:
        """Return whether that is more than nothing."""
        return any(self._pieces(path))

    def _pieces(self, path: str) -> Iterator[list[str]]:
        said = self._said.get(step_of(path), {})
        beneath = f"{path}/"
        return (p for place, p in said.items() if place == path or place.startswith(beneath))

    def has_emitted(self, attempt: str) -> bool:
        """Return whether a step's attempt, by its path, added to the workflow's answer."""
        return self.has_said(attempt) or any(
            path.startswith(f"{attempt}/") for path in self._emitted.get(step_of(attempt), ())
        )

    def learn(self, event: RunEvent) -> Record | None:
        """Keep what later calls of the same path are answered from; return the call's record."""
        match event:
            case CallStarted(path=path, call=call, data=data):
                known = self.get(path)
                if known is None or known.state != "completed":
                    known = Record(call, data.get("fingerprint", ""), "started", data)
                    self.put(path, known)
                return known
            case CallCompleted(path=path, call=call, data=data):
                return self._close(path, call, "completed", data, None)
            case CallFailed(path=path, call=call, error=error):
                return self._close(path, call, "failed", {}, error)
            case CallUnknown(path=path, call=call):
                return self._close(path, call, "unknown", {}, None)
            case TextEmitted(path=path, text=text, streamed=True):
                self._said.setdefault(step_of(path), {}).setdefault(path, []).append(text)
            case TextDiscarded(path=path):
                said = self._said.get(step_of(path), {})
                for place in [p for p in said if p == path or p.startswith(f"{path}/")]:
                    del said[place]
            case TextEmitted(path=path) | ProgressMade(path=path) | AgentDrifted(path=path):
                self._emitted.setdefault(step_of(path), set()).add(path)
            case _:
                pass
        return None

    def _close(
        self, path: str, call: CallKind, state: Any, result: dict[str, Json], error: Failure | None
    ) -> Record:
        known = self.get(path)
        data = known.data if known else {}
        fingerprint = known.fingerprint if known else result.get("fingerprint", "")
        record = Record(call, fingerprint, state, data, result, error)
        self.put(path, record)
        return record

    def drop(self, step: str) -> None:
        """Forget the calls of a step that is over: nobody asks for them any more."""
        self._count -= len(self._steps.pop(step, ()))
        self._emitted.pop(step, None)
        self._said.pop(step, None)

    def drop_beneath(self, path: str, call: CallKind) -> None:
        """Forget the calls of one kind that were made within the call at `path`."""
        step = self._steps.get(step_of(path), {})
        for inner, record in list(step.items()):
            if inner.startswith(f"{path}/") and record.call == call:
                del step[inner]
                self._count -= 1

    def doubt(self) -> None:
        """Note that whoever started what is under way may still be at it."""
        for step in self._steps.values():
            for path, record in step.items():
                if record.state == "started":
                    step[path] = replace(record, in_doubt=True)

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
            ]
            for step in self._steps.values()
            for path, record in step.items()
        }
        emitted = sorted(path for step in self._emitted.values() for path in step)
        said = {path: pieces for step in self._said.values() for path, pieces in step.items()}
        return {"records": records, "emitted": emitted, "said": said}

    def load(self, data: dict[str, Json]) -> None:
        """Read what `to_data` gave."""
        for path, (call, fingerprint, state, asked, result, error, doubt) in data[
            "records"
        ].items():
            failure = failure_from(error) if error else None
            self.put(path, Record(call, fingerprint, state, asked, result, failure, doubt))
        for path in data["emitted"]:
            self._emitted.setdefault(step_of(path), set()).add(path)
        for path, pieces in data["said"].items():
            self._said.setdefault(step_of(path), {})[path] = pieces


def step_of(path: str) -> str:
    """Return the step of a call's path, without its attempt: `look_up[2]` of `look_up[2]~2/a`."""
    step = path.partition("/")[0]
    return base_path(step) if "~" in step else step
