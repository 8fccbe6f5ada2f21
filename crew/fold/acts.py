"""What a run has done to the world, and of which of it nobody knows whether it happened."""

from dataclasses import field

from crew.define import define, frozen
from crew.event import (
    CallCancelled,
    CallCompleted,
    CallFailed,
    CallStarted,
    CallUnknown,
    RunEvent,
)
from crew.message import Json


@frozen
class Act:
    """An effect, or a call of a tool.

    `policy` is what its code declared for the case that nobody knows whether it happened; `once`
    that of a tool. `acts` is false for a tool that may be called again.
    """

    path: str
    function: str
    policy: str
    key: str
    acts: bool


@define
class Acts:
    """The effects and tools of a run that began, and the unknown ones of these, by their paths."""

    begun: dict[str, Act] = field(default_factory=dict)
    unknown: dict[str, Act] = field(default_factory=dict)
    settled: set[str] = field(default_factory=set)
    """The paths of those that came to a result, or to an error."""

    def apply(self, event: RunEvent, offset: int, at: float) -> None:
        match event:
            case CallStarted(path=path, call="effect" | "tool", data=data):
                self.begun[path] = _act(path, data, acts=event.call == "effect")
            case CallUnknown(path=path, call="effect" | "tool") if path in self.begun:
                self.unknown[path] = self.begun[path]
            case CallCompleted(path=path) | CallFailed(path=path) if path in self.begun:
                self.unknown.pop(path, None)
                self.settled.add(path)
            case CallCancelled():
                pass  # that its caller was cancelled does not tell what it did
            case _:
                pass

    @property
    def acting(self) -> list[str]:
        """The paths of those that act on the world: they happened, or may have."""
        return [path for path, act in self.begun.items() if act.acts]

    @property
    def in_doubt(self) -> list[Act]:
        """Those that act on the world, and of which nobody knows whether they did."""
        return [act for path, act in self.begun.items() if act.acts and path not in self.settled]


def _act(path: str, data: dict[str, Json], *, acts: bool) -> Act:
    return Act(
        path=path,
        function=data.get("function") or data.get("tool") or "?",
        policy=data.get("unknown", "once"),
        key=data.get("idempotency_key", ""),
        acts=acts or data.get("effect") == "once",
    )
