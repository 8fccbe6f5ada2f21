"""The driver of one run: it carries out the engine's commands and appends events."""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context as Variables
from typing import Any, assert_never, cast

from pydantic import BaseModel

from crew.attempt import STOP_SECONDS
from crew.budget import Budget
from crew.call import Performer, unreadable
from crew.clock import wall_clock
from crew.engine import apply, unfinished
from crew.errors import BudgetExceeded, CrewError, Diverged, Fenced, StoreError, Unreadable
from crew.event import (
    CallCancelled,
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
from crew.failure import failure_of
from crew.gate import REST
from crew.graph import Workflow
from crew.journal import Letter, RunRow, RunStatus, Snapshot
from crew.journal.reading import snapshot_of
from crew.journal.writer import OpenRun
from crew.message import Json
from crew.node import Node
from crew.patch import read_state
from crew.run.calls import RunCalls, Surroundings
from crew.run.dispatch import Dispatch
from crew.run.ending import End
from crew.run.snapshot import size_of, snapshot_version, state_from, state_to_data
from crew.run.step_run import Gave, StepRun
from crew.run.unreadable import unreadable_event
from crew.state import CancelStep, Command, Fail, Finish, RunState, RunStep, WaitForQuorum

logger = logging.getLogger(__name__)

MAX_WORKERS_A_TICK = 256
SLICE_SECONDS = 0.005
SNAPSHOT_EVENTS = 128
"""A snapshot is due after so many events, or twice as many as what is live, if that is more."""
SHORT_SECONDS = 1.0
"""A pause that is shorter is waited for in the process."""

_ENDS_OF_CALLS = (CallCompleted, CallFailed, CallUnknown, CallCancelled)


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
            around, row, self.open, append=self._append, changed=self._update_status
        )
        self.calls.goes_on = row.base is not None
        self._dispatch = Dispatch(self.calls, lambda agent: _standing_in(workflow, agent))
        self._rests = rests
        self._around = around
        self._workflow = workflow
        self._wiring = workflow.build()
        self._state = RunState()
        self._ready: deque[RunStep] = deque()
        self._running: dict[str, int] = {}
        self._held: dict[str, deque[RunStep]] = {}
        self._step_tasks: dict[str, asyncio.Task[Any]] = {}
        self._steps: dict[str, StepRun] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._ending: asyncio.Task[Any] | None = None
        self._status: RunStatus = row.status
        self.due: float | None = row.due
        """When a waiting run goes on by itself, in unix seconds."""
        self._snapshot_offset = 0
        self._clean = Variables()
        self._pumping = False
        self._going_on = 0
        """1 while a worker records a step's end: it takes one of the next steps itself."""
        self._clock: asyncio.TimerHandle | None = None
        self._looking_whether_stuck = False
        self.divergence: Diverged | None = None

    @property
    def end(self) -> End | None:
        """Why the run is not driven here any more, or is about not to be."""
        return self.calls.end

    @property
    def is_parked(self) -> bool:
        return self.end is End.PARKED

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
            Diverged: it holds what this workflow would not have done.
            Unreadable: the graph is another one than that which wrote it.
            NewerEvent: a newer release wrote it.
        """
        known = list[tuple[float, RunEvent]]()
        for event in events:
            try:
                typed = from_data(event.kind, event.path, event.data)
                self.calls.learn(typed, event.offset)
                apply(self._wiring, self._state, typed)
            except CrewError:
                raise
            except Exception as error:
                raise unreadable_event(self.run_id, event, error, self._wiring) from error
            known.append((event.at, typed))
        if events:
            self.open.offset = self.open.durable_offset = events[-1].offset
        self._around.writer.recall(self.open, known)
        assert self._state.started is not None
        self.calls.ledger.limit = _budget_of(self._state.started)
        self._check_steps()

    def _check_steps(self) -> None:
        """Let no act on record be left behind by a graph that does not have its step any more.

        Raises:
            Diverged: there is one.
        """
        for step in self.calls.records.steps():
            if step in self._state.let_go:
                self.calls.records.drop(step)
            elif step not in self._state.steps:
                for path, act in self.calls.records.acts(step).items():
                    raise Diverged(
                        run=self.run_id,
                        path=path,
                        recorded=act,
                        asked=f"nothing there: its nodes are {', '.join(self._wiring.nodes)}",
                    )

    def record_take(self, taken: RunTaken) -> None:
        """Append that a worker took the run over, before it goes on."""
        self.due = None
        self.calls.goes_on = True
        self._append(taken, "running")

    def go(self) -> None:
        """Start carrying out what the folded state has unfinished."""
        self._carry_out(unfinished(self._state))
        left = self.calls.ledger.seconds_left(self.row.created_at, wall_clock())
        if left is not None:
            self._clock = asyncio.get_running_loop().call_later(
                max(0.0, left), self._time_is_up, context=self._clean
            )

    def _time_is_up(self) -> None:
        """Fail the run: the seconds of its budget are over."""
        over = BudgetExceeded(run=self.run_id, needed=1, left=0, unit="seconds")
        failed = RunEndedInFailure(failure_of(over, ""), dict(self.calls.usage))
        self._end_with(End.TIMED_OUT, failed, "failed")

    def deliver(self, letter: Letter, value: Json) -> bool | None:
        """Turn a letter into an event.

        Returns:
            True if it was; None if it was refused; False if it stays in the inbox: the question it
            answers is not asked yet, or it is a cancel, which goes with the run's end.
        """
        if self.end is not None:
            return False
        if letter.kind == "cancel":
            self._end_with(End.CANCELLED, RunEndedByCancel(), "cancelled")
            return False
        return self.calls.answered(letter.name, value)

    async def abandon(self) -> None:
        """Stop without an end: the run stays as its journal has it, for somebody else."""
        self._end_with(End.LEFT)
        if self._ending is not None:
            await asyncio.wait({self._ending})

    def park(self, reason: str, detail: str, path: str = "") -> None:
        """Leave the run to a person: what it asks for is not what its journal holds."""
        self._end_with(End.PARKED, RunParked(reason, detail, path), "waiting")

    def stop(self, error: Exception) -> None:
        """Stop driving, for an error that is of the run and not of a call in it."""
        if not isinstance(error, Diverged):
            self._lose(error)
        elif self.end is None:
            self.divergence = error
            reason = "unreadable" if isinstance(error, Unreadable) else "diverged"
            reason = reason if self.calls.rules.live else "unrecorded"
            self.park(reason, str(error), error.path)

    def _end_with(
        self, end: End, event: RunEvent | None = None, status: RunStatus | None = None
    ) -> None:
        """End what goes on here, for the first cause that comes up, and record that."""
        if self.end is not None:
            return
        self.calls.end = end
        if self._clock is not None:
            self._clock.cancel()
        self._ending = self._spawn(self._finish(event, status))

    async def _finish(self, event: RunEvent | None, status: RunStatus | None) -> None:
        await self._stop_steps()
        try:
            if event is not None and not self.ended.done():
                self._append(event, status)
                await self._around.writer.durable(self.open)
        except (Fenced, StoreError) as error:
            self._lose(error)
        if not self.ended.done():
            self.ended.set_result(None)

    async def _stop_steps(self) -> None:
        """Cancel all steps, and wait a second at most; what takes longer writes nothing more."""
        self._cancel_steps()
        tasks = {*self._step_tasks.values()} - {asyncio.current_task()}
        if tasks:
            await asyncio.wait(tasks, timeout=STOP_SECONDS)
        for run in list(self._steps.values()):
            self.calls.leave(run.attempt)

    def _cancel_steps(self) -> None:
        for run in self._steps.values():
            run.attempt.cancel()
        for path, task in self._step_tasks.items():
            if path not in self._steps and task is not asyncio.current_task():
                task.cancel()

    def _lose(self, error: Exception) -> None:
        """The run is not ours any more, or its store failed: stop, and write nothing."""
        if self.end is None or not self.ended.done():
            self.calls.end = End.FENCED if isinstance(error, Fenced) else End.STORE_FAILED
        for run in self._steps.values():
            run.attempt.close()
        self._cancel_steps()
        if not self.ended.done():
            self.ended.set_exception(error)
            self.ended.exception()  # whoever waits gets it; nobody must

    def _append(self, event: RunEvent, status: RunStatus | None = None) -> None:
        """Append, learn and apply an event, and carry out what follows."""
        if self.end is not None and status is None and not isinstance(event, _ENDS_OF_CALLS):
            return
        if status is not None:
            self._status = status
        try:
            offset = self._around.writer.append(self.open, event, status)
        except (Fenced, StoreError) as error:
            self._lose(error)
            raise
        self.calls.learn(event, offset)
        commands = apply(self._wiring, self._state, event)
        self._carry_out(commands)

    def _snapshot(self) -> Snapshot | None:
        """Spare the next worker the fold, unless what is live is nearly as long as the journal."""
        since = self.open.offset - self._snapshot_offset
        if since < SNAPSHOT_EVENTS or self._wiring.plain:
            return None
        if self.end is not None or self._state.outcome is not None:
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
            if self.end is not None:
                return
            match command:
                case RunStep():
                    self._ready.append(command)
                case CancelStep(path=path):
                    self._let_go(path)
                case WaitForQuorum():
                    self._spawn(self._wait_for_quorum(command))
                case Finish(output=output):
                    reused = dict(self.calls.reused) or None
                    done = RunCompleted(output, dict(self.calls.usage), reused)
                    self._end_with(End.COMPLETED, done, "completed")
                case Fail(error=error):
                    failed = RunEndedInFailure(error, dict(self.calls.usage))
                    self._end_with(End.FAILED, failed, "failed")
                case _:
                    assert_never(command)
        if self._ready and not self._pumping:
            self._pumping = True
            self._pump()

    def _pump(self) -> None:
        """Start workers for what is ready; a worker goes on with the next step by itself."""
        wanted = 0 if self.end is not None else len(self._ready) - self._going_on
        for _ in range(min(wanted, MAX_WORKERS_A_TICK)):
            self._spawn(self._work())
        if wanted > MAX_WORKERS_A_TICK:
            asyncio.get_running_loop().call_soon(self._pump, context=self._clean)
        else:
            self._pumping = False

    async def _work(self) -> None:
        began = time.monotonic()
        while (step := self._next_step()) is not None:
            try:
                await self._run_step(step)
            finally:
                self._leave(step)
            if self.end is not None:
                return
            if time.monotonic() - began > SLICE_SECONDS:
                await asyncio.sleep(0)
                began = time.monotonic()

    def _next_step(self) -> RunStep | None:
        while self._ready and self.end is None:
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
        if self._let_in(step.node) and self.end is None and not self._pumping:
            self._pumping = True
            asyncio.get_running_loop().call_soon(self._pump, context=self._clean)

    def _let_in(self, node: str) -> bool:
        """Make a step that the node's limit held back ready; return whether there was one."""
        held = self._held.get(node)
        if held:
            self._ready.append(held.popleft())
        return bool(held)

    def _let_go(self, path: str) -> None:
        """Stop a step whose result no longer matters."""
        if (run := self._steps.get(path)) is not None:
            run.attempt.cancel()
        elif (task := self._step_tasks.get(path)) is not None:
            task.cancel()

    async def _run_step(self, step: RunStep) -> None:
        path = step.path if step.attempt == 1 else f"{step.path}~{step.attempt}"
        node = self._wiring.nodes[step.node]
        task = asyncio.current_task()
        assert task is not None
        self._step_tasks[step.path] = task
        try:
            gave = await self._carried_out(step, node, path)
        except asyncio.CancelledError:
            self._forget_cancel(step, task)
        except (Diverged, Fenced, StoreError) as error:
            self.stop(error)
        except Exception as error:  # noqa: BLE001  a user's step may raise anything
            self._step_failed(step, path, node, error)
        else:
            self._step_completed(step, path, gave)
        finally:
            del self._step_tasks[step.path]
            if step.path not in self._state.steps:
                self.calls.records.drop(step.path)

    async def _carried_out(self, step: RunStep, node: Node, path: str) -> Gave:
        if step.until:
            await self._wait_until(step)
        self._append(StepStarted(path))
        run = self._steps[step.path] = StepRun(node, step, self.calls, self._dispatch, self.stop)
        run.attempt.changed = self._branch_ended
        try:
            return await run.carry_out(self._shared_state)
        finally:
            del self._steps[step.path]

    def _forget_cancel(self, step: RunStep, task: "asyncio.Task[Any]") -> None:
        """Go on with other steps after one that was let go; else the worker ends as it was told."""
        if self.end is not None or step.path in self._state.steps:
            raise asyncio.CancelledError
        while task.cancelling():
            task.uncancel()

    async def _wait_until(self, step: RunStep) -> None:
        delay = step.until - wall_clock()
        if delay < SHORT_SECONDS:
            await asyncio.sleep(max(0.0, delay))
            return
        with self.calls.waits.waiting(f"{step.path}/retry", step.until):
            await asyncio.sleep(delay)

    def _step_completed(self, step: RunStep, path: str, gave: Gave) -> None:
        if step.path not in self._state.steps:
            return  # a quorum let go of it
        self._going_on = 1
        try:
            self._append(StepCompleted(path, gave.output, gave.patch))
        finally:
            self._going_on = 0
        self._update_status()

    def _step_failed(self, step: RunStep, path: str, node: Node, error: Exception) -> None:
        if step.path not in self._state.steps:
            return
        final = not node.retry.allows(error, step.attempt)
        until = 0.0 if final else wall_clock() + node.retry.delay(step.attempt)
        failure = failure_of(error, path)
        if not final and self.calls.records.has_emitted(path):
            self._append(TextDiscarded(path))
        self._append(StepFailed(path, failure, step.attempt, final, until))

    def _shared_state(self) -> BaseModel | None:
        model = self._workflow.state
        try:
            return None if model is None else read_state(model, self._state.shared)
        except Exception as error:
            raise unreadable(error, self._state.shared, run=self.run_id, path="state") from error

    async def _wait_for_quorum(self, command: WaitForQuorum) -> None:
        await asyncio.sleep(command.seconds)
        if command.scope in self._state.scopes:
            self._append(QuorumReached(command.path, command.scope))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        # A clean context: what a step set, its scope above all, is not for the driver's own tasks.
        task = asyncio.get_running_loop().create_task(work, context=self._clean.copy())
        self._tasks.add(task)
        task.add_done_callback(self._task_ended)
        return task

    def _task_ended(self, task: "asyncio.Task[Any]") -> None:
        self._tasks.discard(task)
        if task.cancelled() or (error := task.exception()) is None:
            return
        self._lose(error if isinstance(error, Exception) else StoreError(message=str(error)))

    def _branch_ended(self) -> None:
        if self.calls.waits.until:
            self._update_status()

    def review(self) -> None:
        """Look whether the run waits by now: a branch may have come to wait for another one."""
        self._branch_ended()

    def _update_status(self) -> None:
        """A run waits only when none of its branches is live."""
        if self.end is not None:
            return
        idle = self._is_idle()
        if idle and self._is_doomed() and not self._looking_whether_stuck:
            self._looking_whether_stuck = True
            self._spawn(self._park_if_stuck())
        status: RunStatus = "waiting" if idle else "running"
        due = self.calls.waits.due() if idle else None
        if (status, due) == (self._status, self.due):
            return
        self._status, self.due = status, due
        self._around.writer.set_status(self.open, status, due)
        if idle:
            self._rests(self)

    def _is_idle(self) -> bool:
        waits = self.calls.waits
        if self._ready or waits.resuming or not waits.until:
            return False
        return all(
            run.attempt.all_wait()
            if (run := self._steps.get(path)) is not None
            else f"{path}/retry" in waits.until
            for path in self._step_tasks
        )

    def _is_doomed(self) -> bool:
        """Whether all that the code waits for are calls that it cancelled before."""
        waits = self.calls.waits
        return bool(waits.doomed) and not waits.until.keys() - waits.doomed

    async def _park_if_stuck(self) -> None:
        """Park a run whose code only waits for cancels that it made before, and makes no more."""
        for run in list(self._steps.values()):
            await run.attempt.last_turn(REST)
        self._looking_whether_stuck = False
        timers = any(run.attempt.has_timer() for run in self._steps.values())
        if self._is_idle() and self._is_doomed() and not timers:
            path = min(self.calls.waits.doomed)
            recorded = "a call that the code cancelled"
            self.stop(
                Diverged(run=self.run_id, path=path, recorded=recorded, asked="no cancel of it")
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
