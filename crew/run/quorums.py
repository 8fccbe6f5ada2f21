"""The joins of one run that fire with what has arrived, once their time has come."""

from collections.abc import Callable

from crew.clock import wait_until, wall_clock
from crew.event import QuorumAwaited, QuorumReached, RunEvent
from crew.fold.past import Past
from crew.graph.state import WaitForQuorum
from crew.run.course import Course


class Quorums:
    """Fires each join in its time; on a replay, behind the steps that had completed before it.

    Args:
        course: what the run has come to.
        append: appends an event, and carries out what follows from it.
    """

    def __init__(self, course: Course, *, append: Callable[[RunEvent], None]) -> None:
        self._course = course
        self._calls = course.calls
        self._append = append
        self._waiting: dict[str, WaitForQuorum] = {}
        self._so_far = Past()

    async def wait(self, command: WaitForQuorum) -> None:
        """Let a join fire when its time has come, which is on record."""
        if self._calls.past is not None:
            self._waiting[command.path] = command
            self._look()
            return
        until = command.until
        if not until:
            until = wall_clock() + command.seconds
            self._append(QuorumAwaited(command.path, command.scope, until))
        with self._calls.waits.waiting(command.path, until):
            await wait_until(until)
        self._fire(command)

    def see(self, event: RunEvent) -> None:
        """Learn from an event of a replay how far it has come."""
        self._so_far.apply(event)
        self._look()

    def _look(self) -> None:
        assert self._calls.past is not None
        for path, before in self._calls.past.quorums.items():
            if path in self._waiting and before <= self._so_far.completed:
                self._fire(self._waiting.pop(path))

    def _fire(self, command: WaitForQuorum) -> None:
        if command.scope in self._course.state.scopes:
            self._append(QuorumReached(command.path, command.scope))
