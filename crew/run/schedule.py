"""The steps of one run that are ready: workers take them, as many as their nodes let in."""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context as Variables
from typing import Any

from crew.graph.state import RunStep
from crew.run.course import Course
from crew.run.steps import Steps

MAX_WORKERS_A_TICK = 256
SLICE_SECONDS = 0.005
"""How long a worker goes from step to step before it lets others have the loop."""


class Schedule:
    """Decides when each step begins, and has a pool of workers carry them out.

    Args:
        course: what the run has come to.
        steps: carries out one of them.
        spawn: starts a task of the run's driver.
    """

    def __init__(
        self,
        course: Course,
        steps: Steps,
        spawn: Callable[[Callable[[], Coroutine[Any, Any, None]]], object],
    ) -> None:
        self._course = course
        self._calls = course.calls
        self._steps = steps
        self._spawn = spawn
        self.ready: deque[RunStep] = deque()
        """Steps that may begin, and that no worker has taken yet."""
        self._running: dict[str, int] = {}
        self._held: dict[str, deque[RunStep]] = {}
        """Steps beyond what their nodes let in at once, by the nodes' names."""
        self._pumping = False

    def pump(self) -> None:
        """See to it that workers take what is ready."""
        if len(self.ready) > self._steps.completing and not self._pumping:
            self._pumping = True
            self._pump()

    def _pump(self) -> None:
        """Start workers for what is ready; a worker goes on with the next step by itself."""
        wanted = 0 if self._calls.end is not None else len(self.ready) - self._steps.completing
        for _ in range(min(wanted, MAX_WORKERS_A_TICK)):
            self._spawn(self._work)
        if wanted > MAX_WORKERS_A_TICK:
            self._pump_soon()
        else:
            self._pumping = False

    def _pump_soon(self) -> None:
        asyncio.get_running_loop().call_soon(self._pump, context=Variables())

    async def _work(self) -> None:
        began = time.monotonic()
        while (step := self._next_step()) is not None:
            try:
                await self._steps.carry_out(step)
            finally:
                self._leave(step)
            if self._calls.end is not None:
                return
            if time.monotonic() - began > SLICE_SECONDS:
                await asyncio.sleep(0)
                began = time.monotonic()

    def _next_step(self) -> RunStep | None:
        while self.ready and self._calls.end is None:
            step = self.ready.popleft()
            if step.path not in self._course.state.steps:
                self._let_in(step.node)  # a quorum let go of it before it began
                continue
            limit = self._course.wiring.nodes[step.node].concurrency
            running = self._running.get(step.node, 0)
            if limit is not None and running >= limit:
                self._held.setdefault(step.node, deque()).append(step)
                continue
            self._running[step.node] = running + 1
            return step
        return None

    def _leave(self, step: RunStep) -> None:
        self._running[step.node] -= 1
        # The worker that leaves goes on with the next one, unless it is about to end.
        let_in = bool(self._held) and self._let_in(step.node)
        if let_in and self._calls.end is None and not self._pumping:
            self._pumping = True
            self._pump_soon()
        self._steps.review()

    def _let_in(self, node: str) -> bool:
        """Make a step that the node's limit held back ready; return whether there was one."""
        held = self._held.get(node)
        if held:
            self.ready.append(held.popleft())
        return bool(held)
