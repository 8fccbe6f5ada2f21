"""What the steps and calls of a run came to, to be compared with another run's."""

from dataclasses import field

from crew.define import define
from crew.event import (
    CallCancelled,
    CallCompleted,
    CallFailed,
    CallKind,
    CallStarted,
    CallUnknown,
    Failure,
    RunEvent,
    StepCompleted,
    StepFailed,
    StepStarted,
)
from crew.message import Json

_LEFT_OUT = frozenset({"fingerprint", "reused"})


@define
class Results:
    """The results of steps and calls by their paths, in the order in which they came.

    Those that have none are None. `reused` are the paths of calls that were answered from another
    run's records.
    """

    by_path: dict[str, Json] = field(default_factory=dict)
    reused: list[str] = field(default_factory=list)

    def apply(self, event: RunEvent, offset: int, at: float) -> None:
        match event:
            case StepStarted() | CallStarted():
                self.by_path.setdefault(event.path, None)
            case StepCompleted(output=output, patch=patch):
                self._settle(event.path, {"output": output} | ({"patch": patch} if patch else {}))
            case CallCompleted(call=call, data=data):
                self._settle(event.path, _result_of(call, data))
                if data.get("reused"):
                    self.reused.append(event.path)
            case StepFailed(error=error) | CallFailed(error=error):
                self._settle(event.path, error_data(error))
            case CallUnknown():
                self._settle(event.path, {"unknown": True})
            case CallCancelled():
                self._settle(event.path, {"cancelled": True})
            case _:
                pass

    def _settle(self, path: str, result: Json) -> None:
        # The order is that of the results, so that the first change is the cause of the others.
        self.by_path.pop(path, None)
        self.by_path[path] = result


def _result_of(call: CallKind, data: dict[str, Json]) -> dict[str, Json]:
    if call == "model":
        # The ids of tool calls are made up anew with each reply.
        wanted = [[item["name"], item["arguments"]] for item in data.get("tool_calls", [])]
        return {"text": data.get("text"), "tool_calls": wanted}
    if call in ("agent", "child"):
        return {"output": data.get("output")}
    return {name: value for name, value in data.items() if name not in _LEFT_OUT}


def error_data(error: Failure) -> Json:
    """Return an error as two runs are compared by it."""
    return {"error": f"{error.type}: {error.message}"}
