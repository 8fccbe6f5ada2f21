"""Where the agents of a run worked, and what was said there."""

from dataclasses import field

from crew.define import define, frozen
from crew.event import CallCompleted, CallStarted, RunEvent, StepStarted
from crew.fold.paths import step_of
from crew.message import Json


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


@frozen
class Transcript:
    """What an agent was told and said in one call that it completed, as the journal has it."""

    agent: str
    path: str
    messages: list[Json]


@define
class Transcripts:
    """What was said in the calls of a run's agents, in the order of their ends."""

    all: list[Transcript] = field(default_factory=list)
    _names: dict[str, str] = field(default_factory=dict)

    def apply(self, event: RunEvent, offset: int, at: float) -> None:
        match event:
            case CallStarted(path=path, call="agent", data=data):
                self._names[path] = data["agent"]
            case CallCompleted(path=path, call="agent", data={"messages": messages}):
                self.all.append(Transcript(self._names.get(path, ""), path, messages))
            case _:
                pass
