"""One attempt of a step, carried out: from what it takes to what it gives, with all its tasks."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from pydantic import BaseModel

from crew.call.attempt import Attempt
from crew.call.context import Context
from crew.call.deadline import Limit
from crew.call.invoke import invoke, is_asked_to_stop, not_an_exception
from crew.call.lineage import entered
from crew.call.record import unreadable
from crew.define import define
from crew.graph.node import Node
from crew.graph.state import RunStep
from crew.message import Json
from crew.run.calls import RunCalls
from crew.run.dispatch import Dispatch
from crew.run.step_calls import StepCalls
from crew.value import LIGHT, Codec, aside, is_big
from crew.value.changes import Changes


@define
class Gave:
    """What a step came to: the value that its node returned, encoded, and its changes of state.

    `thread` are those of the state of the run's thread.
    """

    output: Json
    patch: dict[str, Json] | None
    thread: Changes | None


class StepRun:
    """Carries out one attempt of a step.

    Args:
        node: whose function it is.
        step: which firing, and which attempt of it.
        path: the step's, with that attempt.
        run: the calls of the run.
        dispatch: has agents' work done.
        stop: stops the run for an error of it.
    """

    def __init__(
        self,
        node: Node,
        step: RunStep,
        path: str,
        run: RunCalls,
        dispatch: Dispatch,
        stop: Callable[[Exception], None],
    ) -> None:
        self.attempt = Attempt(path, step.path)
        self._node = node
        self._step = step
        self._run = run
        self._dispatch = dispatch
        self._stop = stop
        self._context: Context | None = None
        self.raised: Exception | None = None
        """What the node's own code raised."""

    async def carry_out(
        self, task: "asyncio.Task[Any]", state: Callable[[str], BaseModel | None]
    ) -> Gave:
        """Run the step to the end of its last task.

        Args:
            task: the current one.
            state: gives what all steps share, as the step at a path sees it.

        Raises:
            CancelledError: somebody stopped it.
            Diverged: what is on record for it is nothing that its code can take.
            Exception: what its code raised.
        """
        self._run.attempts.enter(self.attempt)
        self.attempt.begin(task)
        try:
            codec = self._node.input
            if codec.is_light or not is_big(self._step.value):
                value = self._taken(codec)
            else:
                value = await aside(self._taken, codec.in_parts)
            arguments = self._arguments(value, state)
            try:
                with entered(self.attempt.scope):
                    result = await self._called(arguments)
            except Exception as error:
                self.raised = error
                raise
            if self.attempt.cut_off:
                self._run.attempts.require_asked(self.attempt)
            if type(result) not in LIGHT and is_big(result):
                output = await self._run.encoded(self._node.output, result)
            else:
                output, _ = self._node.output.passed_on(result)
            changes = None if self._context is None else self._context.changes
            if changes is not None:
                await self._write_down(changes)
            view = self.attempt.thread
            return Gave(output, changes, None if view is None else view.changes() or None)
        except asyncio.CancelledError as error:
            if is_asked_to_stop():
                raise
            raise not_an_exception(error) from error
        finally:
            await self._end()

    async def _write_down(self, changes: dict[str, Json]) -> None:
        for change in changes.values():
            if is_big(change):
                await self._run.write_down(change)

    def _taken(self, codec: Codec) -> Any:
        if not self._run.goes_on:
            return codec.decode(self._step.value)
        try:
            return codec.read_back(self._step.value)
        except Exception as error:
            run, path = self._run.run_id, self._step.path
            raise unreadable(error, self._step.value, run=run, path=path) from error

    def _arguments(self, value: Any, state: Callable[[str], BaseModel | None]) -> list[Any]:
        """Return what the node's function is called with."""
        node = self._node
        arguments = [] if node.parameter is type(None) else [value]
        if node.takes_context:
            self._context = Context(self._calls(), state(self._step.path), node.function)
            arguments.insert(0, self._context)
        return arguments

    def _calls(self) -> StepCalls:
        return StepCalls(self._run, self._dispatch, self.attempt, self._stop)

    def _called(self, arguments: list[Any]) -> Coroutine[Any, Any, Any]:
        """Call the node's function, for no longer than it may take."""
        function, seconds = self._node.function, self._node.timeout
        if seconds is None:
            return invoke(function, *arguments)
        return self._limited(function, arguments, seconds)

    async def _limited(
        self, function: Callable[..., Any], arguments: list[Any], seconds: float
    ) -> Any:
        what = f"step {self._node.name!r}"
        async with Limit(self._calls(), self.attempt.path, seconds, what):
            return await invoke(function, *arguments)

    async def _end(self) -> None:
        """End the tasks that are left, and let nothing be written from there on."""
        attempt = self.attempt
        await attempt.end()
        self._run.attempts.leave(attempt)
        self._run.spending.left(attempt.step)
