"""What an agent asked of its tools in a run, and what they gave."""

from dataclasses import field

from crew.define import define
from crew.event import CallCompleted, CallStarted, RunEvent
from crew.message import Json

__all__ = ["Spoken"]


@define
class Spoken:
    """The calls of tools, with their results, in the calls of one agent that completed.

    Args:
        agent: its name; of a call that was handed on to it, all counts.
    """

    agent: str
    messages: list[dict[str, Json]] = field(default_factory=list)
    """As they are stored, in the order of the ends of the agent's calls."""
    _paths: set[str] = field(default_factory=set)

    def apply(self, event: RunEvent, offset: int, at: float) -> None:
        match event:
            case CallStarted(path=path, call="agent", data={"agent": self.agent}):
                self._paths.add(path)
            case CallCompleted(path=path, call="agent", data=data):
                if path in self._paths or data.get("agent") == self.agent:
                    said = data.get("messages", ())
                    self.messages += [each for each in said if _is_of_tools(each)]
            case _:
                pass


def _is_of_tools(message: dict[str, Json]) -> bool:
    return message["role"] == "tool" or bool(message.get("tool_calls"))
