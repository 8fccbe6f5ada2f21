"""Whether a run waits for the world outside, or for what can never come."""

from collections.abc import Callable, Coroutine
from typing import Any

from crew.call.gate import REST
from crew.errors import Diverged
from crew.journal import RunRow, RunStatus
from crew.run.course import Course
from crew.run.schedule import Schedule
from crew.run.steps import Steps


class Rest:
    """Tells when nothing goes on in a run until somebody answers or a time comes.

    Args:
        row: the run.
        course: what it has come to.
        schedule: its steps that are ready.
        steps: those that are under way.
        begins: called when the run begins to wait.
        stuck: called with why nothing can go on in the run any more.
        spawn: starts a task of the run's driver.
    """

    def __init__(
        self,
        row: RunRow,
        course: Course,
        schedule: Schedule,
        steps: Steps,
        *,
        begins: Callable[[], None],
        stuck: Callable[[Diverged], None],
        spawn: Callable[[Callable[[], Coroutine[Any, Any, None]]], object],
    ) -> None:
        self.status: RunStatus = row.status
        self.due: float | None = row.due
        """When a waiting run goes on by itself, in unix seconds."""
        self._course = course
        self._calls = course.calls
        self._schedule = schedule
        self._steps = steps
        self._begins = begins
        self._stuck = stuck
        self._spawn = spawn
        self._looking_whether_stuck = False

    def update(self) -> None:
        """A run waits only when none of its branches is live."""
        if self._calls.end is not None:
            return
        idle = self._is_idle()
        if idle and self._is_doomed() and not self._looking_whether_stuck:
            self._looking_whether_stuck = True
            self._spawn(self._park_if_stuck)
        status: RunStatus = "waiting" if idle else "running"
        due = self._calls.due() if idle else None
        if (status, due) == (self.status, self.due):
            return
        self.status, self.due = status, due
        self._course.writer.set_status(self._course.open, status, due)
        if idle:
            self._begins()

    def _is_idle(self) -> bool:
        waits = self._calls.waits
        if self._schedule.ready or waits.resuming or not waits.until:
            return False
        return self._steps.all_wait()

    def _is_doomed(self) -> bool:
        """Whether all that the code waits for are calls that it cancelled before."""
        waits = self._calls.waits
        return bool(waits.doomed) and not waits.until.keys() - waits.doomed.keys()

    async def _park_if_stuck(self) -> None:
        """Park a run whose code only waits for cancels that it made before, and makes no more."""
        for step in self._steps.under_way():
            await step.attempt.gate.turn(REST)
        self._looking_whether_stuck = False
        if self._is_idle() and self._is_doomed() and not self._steps.has_timer():
            doomed = self._calls.waits.doomed
            self._stuck(doomed[min(doomed)])
