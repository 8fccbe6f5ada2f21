"""What a run has changed of its thread's state: by the steps, and by the tools of agents at work.

The whole is committed with the run's completion, and is nothing to its thread before.
"""

from crew.event import CallCompleted, RunEvent, StepCompleted
from crew.fold.paths import step_of
from crew.message import Json
from crew.value.changes import Changes, joined

__all__ = ["ThreadChanges"]


class ThreadChanges:
    """Those of the steps that have completed, and those of tools whose step has not."""

    def __init__(self) -> None:
        self.of_run: Changes = {}
        self._of_tools: dict[str, Changes] = {}
        """By the paths of the agents' calls, each joined in the order of the tools' ends."""

    def apply(self, event: RunEvent, offset: int = 0, at: float = 0.0) -> None:
        match event:
            case StepCompleted(thread=dict() as changes):
                self.of_run = joined(self.of_run, changes)
            case CallCompleted(path=path, call="tool", data={"thread": changes}):
                agent = path.rpartition("/")[0]
                self._of_tools[agent] = joined(self._of_tools.get(agent, {}), changes)
            case _:
                pass

    def within(self, agent: str) -> Changes:
        """Return what the tools of the agent's call at a path have changed so far."""
        return self._of_tools.get(agent, {})

    def drop(self, step: str) -> None:
        """Forget those of the tools of a step that is over."""
        if self._of_tools:
            left = {p: c for p, c in self._of_tools.items() if step_of(p) != step}
            self._of_tools = left

    def to_data(self) -> Json:
        """Return everything as JSON, for a snapshot."""
        return [self.of_run, self._of_tools]

    def load(self, data: Json) -> None:
        """Know what `to_data` gave."""
        self.of_run, self._of_tools = data
