"""The steps of one run that are under way: each carried out, and what it came to recorded."""

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

from pydantic import BaseModel

from crew.call.attempt import STOP_SECONDS
from crew.call.record import unreadable
from crew.clock import wait_until, wall_clock
from crew.errors import Diverged, Fenced, StoreError
from crew.event import RunEvent, StepCompleted, StepFailed, StepStarted, TextDiscarded
from crew.failure import failure_of
from crew.graph.node import Node
from crew.graph.patch import read_state
from crew.graph.state import RunStep
from crew.run.course import Course
from crew.run.dispatch import Dispatch
from crew.run.step_run import Gave, StepRun

SHORT_SECONDS = 1.0
"""A pause that is shorter is waited for in the process."""


class Steps:
    """Carries out steps, and stops those whose result no longer matters.

    Args:
        course: what the run has come to.
        dispatch: has agents' work done.
        append: appends an event, and carries out what follows from it.
        stop: stops the run for an error of it.
        changed: called when the steps that are left may have come to wait.
    """

    def __init__(
        self,
        course: Course,
        dispatch: Dispatch,
        *,
        append: Callable[[RunEvent], None],
        stop: Callable[[Exception], None],
        changed: Callable[[], None],
    ) -> None:
        self.completing = 0
        """1 while a worker records a step's end: it takes one of the next steps itself."""
        self.tasks: dict[str, asyncio.Task[Any]] = {}
        """What carries each of them out, by their paths, those too that wait to be tried again."""
        self._runs: dict[str, StepRun] = {}
        self._course = course
        self._calls = course.calls
        self._dispatch = dispatch
        self._append = append
        self._stop = stop
        self._changed = changed

    async def carry_out(self, step: RunStep) -> None:
        """Run a step to its end in the current task, and record what it came to."""
        path = step.path if step.attempt == 1 else f"{step.path}~{step.attempt}"
        node = self._course.wiring.nodes[step.node]
        task = asyncio.current_task()
        assert task is not None
        self.tasks[step.path] = task
        try:
            if step.until and self._calls.lookup.rules.live:
                await self._wait_until(step)
            self._append(StepStarted(path))
            run = StepRun(node, step, path, self._calls, self._dispatch, self._stop)
            self._runs[step.path] = run
            run.attempt.changed = self.review
            await self._open_dependencies()
            gave = await run.carry_out(task, self._shared_state)
        except asyncio.CancelledError:
            self._forget_cancel(step, task)
        except (Diverged, Fenced, StoreError) as error:
            if self._is_of_its_code(step, error):
                self._failed(step, path, node, error)
            else:
                self._stop(error)
        except Exception as error:  # noqa: BLE001  a user's step may raise anything
            self._failed(step, path, node, error)
        else:
            self._completed(step, path, gave)
        finally:
            self._runs.pop(step.path, None)
            del self.tasks[step.path]

    async def _open_dependencies(self) -> None:
        workflow = self._course.workflow
        if workflow.deps is not None:
            dependencies = self._calls.around.dependencies
            self._calls.deps = await dependencies.of(workflow.deps, workflow.name)

    def _is_of_its_code(self, step: RunStep, error: Exception) -> bool:
        """Return whether an error is of a store that a step's own code uses, and not of this one.

        One of this store has stopped the run by now.
        """
        run = self._runs.get(step.path)
        if run is None or run.raised is not error or isinstance(error, Diverged):
            return False
        return self._calls.end is None

    def _forget_cancel(self, step: RunStep, task: "asyncio.Task[Any]") -> None:
        """Go on with other steps after one that was let go; else the worker ends as it was told."""
        if not self._was_let_go(step) or self._calls.end is not None:
            raise asyncio.CancelledError
        while task.cancelling():
            task.uncancel()

    def _was_let_go(self, step: RunStep) -> bool:
        """Return whether a quorum let go of a step; then nobody asks for its calls any more."""
        if step.path in self._course.state.steps:
            return False
        self._calls.drop(step.path)
        return True

    async def _wait_until(self, step: RunStep) -> None:
        if step.until - wall_clock() < SHORT_SECONDS:
            await wait_until(step.until)
            return
        with self._calls.waits.waiting(f"{step.path}/retry", step.until):
            await wait_until(step.until)

    def _completed(self, step: RunStep, path: str, gave: Gave) -> None:
        if self._was_let_go(step):
            return
        self.completing = 1
        try:
            self._append(StepCompleted(path, gave.output, gave.patch, gave.thread))
        finally:
            self.completing = 0

    def _failed(self, step: RunStep, path: str, node: Node, error: Exception) -> None:
        if self._was_let_go(step):
            return
        final = not node.retry.allows(error, step.attempt)
        until = 0.0 if final else wall_clock() + node.retry.delay(step.attempt)
        failure = failure_of(error, path)
        if not final and self._calls.records.has_emitted(path):
            self._append(TextDiscarded(path))
        self._append(StepFailed(path, failure, step.attempt, final, until))

    def _shared_state(self, path: str) -> BaseModel | None:
        """Return what all steps shared when the step at `path` first began."""
        model, step = self._course.workflow.state, self._course.state.steps.get(path)
        shared = self._course.state.shared if step is None or step.sees is None else step.sees
        try:
            return None if model is None else read_state(model, shared)
        except Exception as error:
            raise unreadable(error, shared, run=self._calls.run_id, path="state") from error

    def under_way(self) -> Iterable[StepRun]:
        """Return those whose code has begun."""
        return list(self._runs.values())

    def all_wait(self) -> bool:
        """Return whether each waits for the world outside, or for one of its own that does."""
        return all(
            run.attempt.all_wait()
            if (run := self._runs.get(path)) is not None
            else f"{path}/retry" in self._calls.waits.until
            for path in self.tasks
        )

    def has_timer(self) -> bool:
        """Return whether code of one of them has set a timer of the event loop that runs."""
        return any(run.attempt.has_timer() for run in self._runs.values())

    def review(self) -> None:
        """Look whether the run waits by now: all that is left may wait, for each other too."""
        if self._calls.waits.until:
            self._changed()

    def let_go(self, path: str) -> None:
        """Stop a step whose result no longer matters."""
        if (run := self._runs.get(path)) is not None:
            run.attempt.cancel()
        elif (task := self.tasks.get(path)) is not None:
            task.cancel()

    async def stop(self) -> None:
        """Cancel all steps, and wait `STOP_SECONDS`; what takes longer writes nothing more."""
        self._cancel()
        tasks = {*self.tasks.values()} - {asyncio.current_task()}
        if tasks:
            await asyncio.wait(tasks, timeout=STOP_SECONDS)
        for run in self.under_way():
            self._calls.attempts.leave(run.attempt)

    def close(self) -> None:
        """Cancel all steps, and let them write nothing more."""
        for run in self._runs.values():
            run.attempt.close()
        self._cancel()

    def _cancel(self) -> None:
        for run in self._runs.values():
            run.attempt.cancel()
        for path, task in self.tasks.items():
            if path not in self._runs and task is not asyncio.current_task():
                task.cancel()
