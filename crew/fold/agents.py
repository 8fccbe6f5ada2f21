"""Where the agents of a run worked."""

from dataclasses import field

from crew.define import define, frozen
from crew.event import CallStarted, RunEvent, StepStarted
from crew.fold.paths import step_of


@frozen
class Placement:
    """One start of an agent: its name, its path, and the machine and process it went to."""

    agent: str
    path: str
    host: str
    pid: int


@define
class Agents:
    """The agents of a run, in the order of their starts, and where their steps began."""

    starts: list[Placement] = field(default_factory=list)
    steps: dict[str, int] = field(default_factory=dict)
    """The offsets at which the steps of the run began first, by their paths."""

    def apply(self, event: RunEvent, offset: int, at: float) -> Placement | None:
        """Take in an event; return the start of an agent, if it is one."""
        match event:
            case CallStarted(path=path, call="agent", data=data):
                place = Placement(data["agent"], path, data.get("host", ""), data.get("pid", 0))
                self.starts.append(place)
                return place
            case StepStarted(path=path):
                self.steps.setdefault(step_of(path), offset)
            case _:
                pass
        return None
