"""The driver of one run: it carries out the engine's commands and appends events."""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context as Variables
from typing import Any, assert_never, cast

from pydantic import BaseModel

from crew.budget import Budget
from crew.call import Performer, failure_of, invoke, recorded_value, time_limit
from crew.clock import wall_clock
from crew.context import Context
from crew.engine import apply, unfinished
from crew.errors import BudgetExceeded, CrewError, Diverged, Fenced, StoreError, Unreadable
from crew.event import (
    CallCompleted,
    CallFailed,
    CallUnknown,
    Event,
    QuorumReached,
    RunCompleted,
    RunEndedByCancel,
    RunEndedInFailure,
    RunEvent,
    RunParked,
    RunStarted,
    RunTaken,
    StepCompleted,
    StepFailed,
    StepStarted,
    TextDiscarded,
    from_data,
)
from crew.graph import Workflow
from crew.journal import Letter, RunRow, RunStatus, Snapshot
from crew.journal.reading import snapshot_of
from crew.journal.writer import OpenRun
from crew.lineage import Branches, entered
from crew.message import Json
from crew.node import Node
from crew.run.calls import RunCalls, Surroundings
from crew.run.snapshot import size_of, snapshot_version, state_from, state_to_data
from crew.run.unreadable import unreadable_event
from crew.state import CancelStep, Command, Fail, Finish, RunState, RunStep, WaitForQuorum

MAX_WORKERS_A_TICK = 256
SLICE_SECONDS = 0.005
SNAPSHOT_EVENTS = 128
"""A snapshot is due after so many events, or twice as many as what is live, if that is more."""
SHORT_SECONDS = 1.0
"""A pause that is shorter is waited for in the process."""


class Driver:
    """Drives one run in this process, from its journal's fold to its end.

    Everything happens on one event loop, so that its state needs no lock. `rests` is called when
    the run begins to wait for the world outside.
    """

    def __init__(
        self,
        around: Surroundings,
        workflow: Workflow,
        row: RunRow,
        *,
        rests: Callable[["Driver"], None] = lambda driver: None,
    ) -> None:
        self.row = row
        self.run_id = row.id
        self.open = OpenRun(row.id, row.number, row.epoch, 0, 0, row=row)
        self.open.lost, self.open.snapshot = self._lose, self._snapshot
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.calls = RunCalls(
            around,
            row,
            self.open,
            append=self._append,
            changed=self._update_status,
            substitute=lambda agent: _standing_in(workflow, agent),
        )
        self._rests = rests
        self._around = around
        self._workflow = workflow
        self._wiring = workflow.build()
        self._state = RunState()
        self._ready: deque[RunStep] = deque()
        self._running: dict[str, int] = {}
        self._held: dict[str, deque[RunStep]] = {}
        self._step_tasks: dict[str, asyncio.Task[Any]] = {}
        self._branches: dict[str, Branches] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._status: RunStatus = row.status
        self.due: float | None = row.due
        """When a waiting run goes on by itself, in unix seconds."""
        self._snapshot_offset = 0
        self._clean = Variables()
        self._pumping = False
        self._going_on = 0
        """1 while a worker records a step's end: it takes one of the next steps itself."""
        self._over = False
        self._clock: asyncio.TimerHandle | None = None
        self.is_parked = False
        self.divergence: Diverged | None = None

    @property
    def is_waiting(self) -> bool:
        """Whether nothing goes on here until somebody answers or a time comes."""
        return self._status == "waiting"

    def load(self, snapshot: dict[str, Json], offset: int) -> None:
        """Bring the state to where a snapshot was taken, after the event at `offset`."""
        self._state = state_from(snapshot["state"])
        self.calls.load(snapshot["calls"])
        self.open.offset = self.open.durable_offset = self._snapshot_offset = offset

    def fold(self, events: list[Event]) -> None:
        """Bring the state on by what the journal holds; nothing is carried out yet.

        Raises:
            Unreadable: the graph is another one than that which wrote it.
            NewerEvent: a newer release wrote it.
        """
        known = list[tuple[float, RunEvent]]()
        event: Event | None = None
        try:
            for event in events:
                typed = from_data(event.kind, event.path, event.data)
                known.append((event.at, typed))
                self.calls.learn(typed)
                apply(self._wiring, self._state, typed)
        except CrewError:
            raise
        except Exception as error:
            assert event is not None
            raise unreadable_event(self.run_id, event, error, self._wiring) from error
        if events:
            self.open.offset = self.open.durable_offset = events[-1].offset
        self._around.writer.recall(self.open, known)
        assert self._state.started is not None
        self.calls.ledger.limit = _budget_of(self._state.started)

    def record_take(self, taken: RunTaken) -> None:
        """Append that a worker took the run over, before it goes on."""
        self.due = None
        self._append(taken, "running")

    def go(self) -> None:
        """Start carrying out what the folded state has unfinished."""
        self._carry_out(unfinished(self._state))
        if (left := self.calls.seconds_left()) is not None:
            self._clock = asyncio.get_running_loop().call_later(max(0.0, left), self._time_is_up)

    def _time_is_up(self) -> None:
        """Fail the run: the seconds of its budget are over."""
        if self._over:
            return
        self._over = True
        over = BudgetExceeded(run=self.run_id, needed=1, left=0, unit="seconds")
        failed = RunEndedInFailure(failure_of(over, ""), dict(self.calls.usage))
        self._spawn(self._finish(failed, "failed"))

    def deliver(self, letter: Letter, value: Json) -> bool | None:
        """Turn a letter into an event.

        Returns:
            True if it was; None if it was refused; False if it stays in the inbox: the question it
            answers is not asked yet, or it is a cancel, which goes with the run's end.
        """
        if letter.kind == "cancel":
            self._spawn(self.cancel())
            return False
        return self.calls.answered(letter.name, value)

    async def cancel(self) -> None:
        """Stop all steps, then record that the run was cancelled."""
        if self._over:
            return
        self._over = True
        await self._stop_steps()
        self._append(RunEndedByCancel(), "cancelled")
        await self._end()

    async def abandon(self) -> None:
        """Stop without an end: the run stays as its journal has it, for somebody else."""
        self._over = self.calls.keeps_children = True
        if self._clock is not None:
            self._clock.cancel()
        await self._stop_steps()
        if not self.ended.done():
            self.ended.set_result(None)

    def _append(self, event: RunEvent, status: RunStatus | None = None) -> None:
        """Append, learn and apply an event, and carry out what follows."""
        if (
            self._over
            and status is None
            and not isinstance(event, CallCompleted | CallFailed | CallUnknown)
        ):
            return
        if status is not None:
            self._status = status
        try:
            self._around.writer.append(self.open, event, status)
        except (Fenced, StoreError) as error:
            self._lose(error)
            raise
        self.calls.learn(event)
        commands = apply(self._wiring, self._state, event)
        self._carry_out(commands)

    def _snapshot(self) -> Snapshot | None:
        """Spare the next worker the fold, unless what is live is nearly as long as the journal."""
        since = self.open.offset - self._snapshot_offset
        if since < SNAPSHOT_EVENTS or self._wiring.plain:
            return None
        if self._over or self._state.outcome is not None:
            return None
        if since < 2 * (size_of(self._state) + len(self.calls.records)):
            return None
        body = {"state": state_to_data(self._state), "calls": self.calls.to_data()}
        packed = self.open.text.refer(body)
        version = snapshot_version(self._workflow)
        self._snapshot_offset = self.open.offset
        return snapshot_of(self.open.offset, self.open.crc, version, packed)

    def _carry_out(self, commands: list[Command]) -> None:
        for command in commands:
            if self._over:
                return
            match command:
                case RunStep():
                    self._ready.append(command)
                case CancelStep(path=path):
                    if (task := self._step_tasks.get(path)) is not None:
                        task.cancel()
                case WaitForQuorum():
                    self._spawn(self._wait_for_quorum(command))
                case Finish(output=output):
                    self._over = True
                    reused = dict(self.calls.reused) or None
                    done = RunCompleted(output, dict(self.calls.usage), reused)
                    self._spawn(self._finish(done, "completed"))
                case Fail(error=error):
                    self._over = True
                    ended = RunEndedInFailure(error, dict(self.calls.usage))
                    self._spawn(self._finish(ended, "failed"))
                case _:
                    assert_never(command)
        if self._ready and not self._pumping:
            self._pumping = True
            self._pump()

    def _pump(self) -> None:
        """Start workers for what is ready; a worker goes on with the next step by itself."""
        wanted = 0 if self._over else len(self._ready) - self._going_on
        for _ in range(min(wanted, MAX_WORKERS_A_TICK)):
            self._spawn(self._work())
        if wanted > MAX_WORKERS_A_TICK:
            asyncio.get_running_loop().call_soon(self._pump)
        else:
            self._pumping = False

    async def _work(self) -> None:
        began = time.monotonic()
        while (step := self._next_step()) is not None:
            try:
                await self._run_step(step)
            finally:
                self._leave(step)
            if self._over:
                return
            if time.monotonic() - began > SLICE_SECONDS:
                await asyncio.sleep(0)
                began = time.monotonic()

    def _next_step(self) -> RunStep | None:
        while self._ready and not self._over:
            step = self._ready.popleft()
            if step.path not in self._state.steps:
                self._let_in(step.node)  # a quorum let go of it before it began
                continue
            limit = self._wiring.nodes[step.node].concurrency
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
        if self._let_in(step.node) and not self._over and not self._pumping:
            self._pumping = True
            asyncio.get_running_loop().call_soon(self._pump)

    def _let_in(self, node: str) -> bool:
        """Make a step that the node's limit held back ready; return whether there was one."""
        held = self._held.get(node)
        if held:
            self._ready.append(held.popleft())
        return bool(held)

    async def _run_step(self, step: RunStep) -> None:
        path = step.path if step.attempt == 1 else f"{step.path}~{step.attempt}"
        node = self._wiring.nodes[step.node]
        task = asyncio.current_task()
        assert task is not None
        self._step_tasks[step.path] = task
        try:
            if step.until:
                await self._wait_until(step)
            self._append(StepStarted(path))
            state = self._shared_state()
            context = Context(self.calls, step.path, step.attempt, state)
            self._branches[step.path] = context.branches
            context.branches.changed = self._branch_ended
            decode = node.input.decode
            value = recorded_value(decode, step.value, run=self.run_id, path=step.path)
            result = await self._call_node(node, context, value)
            output = node.output.encode(result)
            node.output.decode(output)
        except asyncio.CancelledError:
            if self._over or step.path in self._state.steps:
                raise
            task.uncancel()  # the engine let go of this step; its worker goes on
        except (Fenced, StoreError) as error:
            self._lose(error)
        except Exception as error:  # noqa: BLE001  a user's step may raise anything
            if (divergence := _divergence_in(error)) is None:
                self._step_failed(step, path, node, error)
            else:
                await self._diverged(divergence)
        else:
            self._step_completed(path, output, context)
        finally:
            self._step_tasks.pop(step.path, None)
            self._branches.pop(step.path, None)

    async def _diverged(self, divergence: Diverged) -> None:
        self.divergence = divergence
        reason = "unreadable" if isinstance(divergence, Unreadable) else "diverged"
        reason = reason if self.calls.rules.live else "unrecorded"
        await self.park(reason, str(divergence), divergence.path)

    async def _wait_until(self, step: RunStep) -> None:
        delay = step.until - wall_clock()
        if delay < SHORT_SECONDS:
            await asyncio.sleep(max(0.0, delay))
            return
        with self.calls.waiting(f"{step.path}/retry", step.until):
            await asyncio.sleep(delay)

    async def _call_node(self, node: Node, context: Context, value: Any) -> Any:
        arguments: list[Any] = [context] if node.takes_context else []
        if node.parameter is not type(None):
            arguments.append(value)
        async with time_limit(node.timeout, f"step {node.name!r}"):
            with entered(context._root):  # noqa: SLF001  the driver opens its own contexts
                return await invoke(node.function, *arguments)

    def _step_completed(self, path: str, output: Json, context: Context) -> None:
        self._going_on = 1
        try:
            self._append(StepCompleted(path, output, context._patch or None))  # noqa: SLF001
        finally:
            self._going_on = 0
        self._update_status()

    def _step_failed(self, step: RunStep, path: str, node: Node, error: Exception) -> None:
        final = not node.retry.allows(error, step.attempt)
        until = 0.0 if final else wall_clock() + node.retry.delay(step.attempt)
        failure = failure_of(error, path)
        if not final and self.calls.records.has_emitted(path):
            self._append(TextDiscarded(path))
        self._append(StepFailed(path, failure, step.attempt, final, until))

    def _shared_state(self) -> BaseModel | None:
        model = self._workflow.state
        if model is None:
            return None
        shared = self._state.shared
        return recorded_value(model.model_validate, shared, run=self.run_id, path="state")

    async def _wait_for_quorum(self, command: WaitForQuorum) -> None:
        await asyncio.sleep(command.seconds)
        if command.scope in self._state.scopes:
            self._append(QuorumReached(command.path, command.scope))

    async def _finish(self, event: RunCompleted | RunEndedInFailure, status: RunStatus) -> None:
        await self._stop_steps()
        try:
            self._append(event, status)
        except (Fenced, StoreError):
            return
        await self._end()

    async def _end(self) -> None:
        if self._clock is not None:
            self._clock.cancel()
        try:
            await self._around.writer.durable(self.open)
        except (Fenced, StoreError) as error:
            self._lose(error)
        if not self.ended.done():
            self.ended.set_result(None)

    async def park(self, reason: str, detail: str, path: str = "") -> None:
        """Leave the run to a person: what it asks for is not what its journal holds."""
        if self._over:
            return
        self._over = self.is_parked = self.calls.keeps_children = True
        self._append(RunParked(reason, detail, path), "waiting")
        self._spawn(self._end())
        current = asyncio.current_task()
        for task in self._tasks - {current}:
            if task in self._step_tasks.values():
                task.cancel()

    async def _stop_steps(self) -> None:
        current = asyncio.current_task()
        steps = [task for task in self._step_tasks.values() if task is not current]
        for task in steps:
            task.cancel()
        if steps:
            await asyncio.wait(steps)

    def _lose(self, error: Exception) -> None:
        """The run is not ours any more, or its store failed: stop, and write nothing."""
        self._over = self.calls.keeps_children = True
        for task in self._step_tasks.values():
            if task is not asyncio.current_task():
                task.cancel()
        if not self.ended.done():
            self.ended.set_exception(error)
            self.ended.exception()  # whoever waits gets it; nobody must

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        # A clean context: what a step set, its scope above all, is not for the driver's own tasks.
        task = asyncio.get_running_loop().create_task(work, context=self._clean.copy())
        self._tasks.add(task)
        task.add_done_callback(self._task_ended)

    def _task_ended(self, task: "asyncio.Task[Any]") -> None:
        self._tasks.discard(task)
        if task.cancelled() or (error := task.exception()) is None:
            return
        self._lose(error if isinstance(error, Exception) else StoreError(message=str(error)))

    def _branch_ended(self) -> None:
        if self.calls.waits:
            self._update_status()

    def review(self) -> None:
        """Look whether the run waits by now: a branch may have come to wait for another one."""
        if self.calls.waits:
            self._update_status()

    def _update_status(self) -> None:
        """A run waits only when none of its branches is live."""
        if self._over:
            return
        idle = self._is_idle()
        status: RunStatus = "waiting" if idle else "running"
        due = self.calls.due() if idle else None
        if (status, due) == (self._status, self.due):
            return
        self._status, self.due = status, due
        self._around.writer.set_status(self.open, status, due)
        if idle:
            self._rests(self)

    def _is_idle(self) -> bool:
        if self._ready or self.calls.resuming or not self.calls.waits:
            return False
        return all(
            branches.all_wait(task)
            if (branches := self._branches.get(path)) is not None
            else f"{path}/retry" in self.calls.waits
            for path, task in self._step_tasks.items()
        )


def _budget_of(started: RunStarted) -> Budget | None:
    limits = (started.budget, started.budget_calls, started.budget_seconds)
    if all(limit is None for limit in limits):
        return None
    return Budget(tokens=limits[0], calls=limits[1], seconds=limits[2])


def _standing_in(workflow: Workflow, agent: Performer) -> Performer:
    """Return what a fork was given in place of an agent, or the agent."""
    overrides = workflow.overrides
    if (named := overrides.get(agent.name)) is not None:
        return cast("Performer", named)
    every = overrides.get("*")
    return agent if every is None else cast("Performer", every(agent))


def _divergence_in(error: BaseException) -> Diverged | None:
    """Return the divergence that an error is, or that is in it, as in one of a task group."""
    if isinstance(error, Diverged):
        return error
    inner = error.exceptions if isinstance(error, BaseExceptionGroup) else ()
    return next((found for item in inner if (found := _divergence_in(item)) is not None), None)
