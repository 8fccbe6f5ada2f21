"""The driver of one run: it carries out the engine's commands and appends events."""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context as Variables
from dataclasses import replace
from typing import Any, Protocol

from pydantic import BaseModel

from crew.budget import Budget, Ledger
from crew.call import AgentTask, Performer, Record, failure_of, invoke, outcome, time_limit
from crew.context import Context
from crew.engine import (
    CancelStep,
    Command,
    Fail,
    Finish,
    RunState,
    RunStep,
    WaitForQuorum,
    apply,
    unfinished,
)
from crew.errors import BudgetExceeded, CrewError, Diverged, Fenced, StoreError
from crew.event import (
    CallCompleted,
    CallFailed,
    CallKind,
    CallStarted,
    CallUnknown,
    Event,
    Failure,
    ProgressMade,
    QuorumReached,
    RunCompleted,
    RunEndedByCancel,
    RunEndedInFailure,
    RunEvent,
    RunParked,
    RunTaken,
    StepCompleted,
    StepFailed,
    StepStarted,
    TextEmitted,
    from_data,
)
from crew.graph import Workflow
from crew.hosts import HostLost, Hosts, here
from crew.journal import Letter, RunRow, RunStatus
from crew.journal.writer import OpenRun, Writer
from crew.lineage import entered
from crew.message import Json
from crew.node import Node
from crew.thread import Thread
from crew.value import Codec

MAX_WORKERS_A_TICK = 256
SLICE_SECONDS = 0.005
MAX_TAKES_WITHOUT_PROGRESS = 3

_LEAVES_PROCESS: frozenset[CallKind] = frozenset({"model", "tool", "effect", "ask", "child"})


class Surroundings(Protocol):
    """What a driver needs of its runtime."""

    writer: Writer
    hosts: Hosts

    def read_thread(self, row: RunRow) -> Thread: ...

    async def run_child(
        self, parent: RunRow, path: str, workflow: Workflow, value: object, budget: Budget | None
    ) -> dict[str, Json]: ...


class Driver:
    """Drives one run in this process, from its journal's fold to its end.

    Everything happens on one event loop, so that its state needs no lock.
    """

    def __init__(self, around: Surroundings, workflow: Workflow, row: RunRow) -> None:
        self.row = row
        self.run_id = row.id
        self.thread_id = row.thread
        self.open = OpenRun(row.id, row.number, row.epoch, 0, 0)
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.served = 0
        """How many calls were answered from the journal."""
        self._around = around
        self._workflow = workflow
        self._wiring = workflow.build()
        self._state = RunState()
        self._records: dict[str, Record] = {}
        self._emitted: dict[str, str] = {}
        self._ledger = Ledger()
        self._usage: dict[str, int] = {}
        self._ready: deque[RunStep] = deque()
        self._running: dict[str, int] = {}
        self._held: dict[str, deque[RunStep]] = {}
        self._step_tasks: dict[str, asyncio.Task[Any]] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._answers: dict[str, tuple[Codec, asyncio.Future[Json]]] = {}
        self._pauses = 0
        self._busy_calls = 0
        self._status: RunStatus = row.status
        self._clean = Variables()
        self._pumping = False
        self._going_on = 0
        """1 while a worker records a step's end: it takes one of the next steps itself."""
        self._over = False
        self.is_parked = False

    @property
    def is_waiting(self) -> bool:
        """Whether nothing goes on here until somebody answers or a time comes."""
        return self._status == "waiting"

    def fold(self, events: list[Event]) -> None:
        """Bring the state to where the journal ends; nothing is carried out yet."""
        for event in events:
            typed = from_data(event.kind, event.path, event.data)
            self.open.text.learn(event.offset, event.data)
            self._learn(typed)
            apply(self._wiring, self._state, typed)
        self.open.offset = self.open.durable_offset = len(events)
        if self._state.started is not None:
            self._ledger.limit = self._state.started.budget

    def go(self, *, crc: int, code: str, taken: bool) -> None:
        """Start carrying out what the folded state has unfinished.

        Args:
            crc: the checksum of the last folded event.
            code: the hash of the code that drives from here.
            taken: whether this is a take-over, to be recorded.
        """
        self.open.crc = crc
        if taken:
            place = here()
            self._append(RunTaken(place.host, place.pid, self.row.epoch, code))
        self._carry_out(unfinished(self._state))

    def deliver(self, letter: Letter, value: Json) -> bool:
        """Turn a letter into an event; False if it has to wait for the question it answers."""
        if letter.kind == "cancel":
            self._spawn(self.cancel())
            return True
        waiting = self._answers.get(letter.name)
        if waiting is None:
            record = self._records.get(letter.name)
            return record is not None and record.state == "completed"
        codec, future = waiting
        try:
            codec.decode(value)
        except CrewError as error:
            self._append(ProgressMade(letter.name, f"answer refused: {error}"))
            return True
        if not future.done():
            self._answers.pop(letter.name)
            self._append(CallCompleted(letter.name, "ask", {"value": value}))
            future.set_result(value)
        return True

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
        self._over = True
        await self._stop_steps()
        if not self.ended.done():
            self.ended.set_result(None)

    def _learn(self, event: RunEvent) -> None:
        """Keep what later calls of the same path are answered from."""
        match event:
            case CallStarted(path=path, call=call, data=data):
                known = self._records.get(path)
                if known is None or known.state != "completed":
                    fingerprint = data.get("fingerprint", "")
                    self._records[path] = Record(call, fingerprint, "started", data)
                self._ledger.reserve(data.get("reserve", 0))
            case CallCompleted(path=path, call=call, data=data):
                self._close(path, call, "completed", data, None)
            case CallFailed(path=path, call=call, error=error):
                self._close(path, call, "failed", {}, error)
            case CallUnknown(path=path, call=call):
                self._close(path, call, "unknown", {}, None)
            case TextEmitted(path=path, text=text) | ProgressMade(path=path, text=text):
                self._emitted[path] = text
            case _:
                pass

    def _close(
        self, path: str, call: CallKind, state: Any, result: dict[str, Json], error: Failure | None
    ) -> None:
        known = self._records.get(path)
        data = known.data if known else {}
        fingerprint = known.fingerprint if known else result.get("fingerprint", "")
        self._records[path] = Record(call, fingerprint, state, data, result, error)
        # An agent's usage is that of its model calls, which were counted one by one.
        usage = result.get("usage", {}) if call in ("model", "child") else {}
        for name, count in usage.items():
            self._usage[name] = self._usage.get(name, 0) + count
        cost = sum(usage.get(name, 0) for name in ("input_tokens", "output_tokens"))
        self._ledger.settle(data.get("reserve", 0), cost)

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
        self._learn(event)
        self._carry_out(apply(self._wiring, self._state, event))

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
                    self._spawn(self._finish(RunCompleted(output, dict(self._usage)), "completed"))
                case Fail(error=error):
                    self._over = True
                    ended = RunEndedInFailure(error, dict(self._usage))
                    self._spawn(self._finish(ended, "failed"))
        if self._ready and not self._pumping:
            self._pumping = True
            self._pump()

    def _pump(self) -> None:
        """Start workers for what is ready; a worker goes on with the next step by itself."""
        wanted = len(self._ready) - self._going_on
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
        if held := self._held.get(step.node):
            self._ready.append(held.popleft())
            # The worker that leaves goes on with it, unless it is about to end.
            if not self._over and not self._pumping:
                self._pumping = True
                asyncio.get_running_loop().call_soon(self._pump)

    async def _run_step(self, step: RunStep) -> None:
        path = step.path if step.attempt == 1 else f"{step.path}~{step.attempt}"
        node = self._wiring.nodes[step.node]
        task = asyncio.current_task()
        assert task is not None
        self._step_tasks[step.path] = task
        try:
            if step.delay:
                await asyncio.sleep(step.delay)
            self._append(StepStarted(path))
            state = self._shared_state()
            context = Context(self, step.path, step.attempt, state)
            value = node.input.decode(step.value)
            result = await self._call_node(node, context, value)
            output = node.output.encode(result)
            node.output.decode(output)
        except asyncio.CancelledError:
            if self._over or step.path in self._state.steps:
                raise
            task.uncancel()  # the engine let go of this step; its worker goes on
        except (Fenced, StoreError) as error:
            self._lose(error)
        except Diverged as error:
            await self.park("diverged", str(error))
        except Exception as error:  # noqa: BLE001  a user's step may raise anything
            self._step_failed(step, path, node, error)
        else:
            self._step_completed(path, output, context)
        finally:
            self._step_tasks.pop(step.path, None)

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
        except (Fenced, StoreError):
            return
        finally:
            self._going_on = 0
        self._update_status()

    def _step_failed(self, step: RunStep, path: str, node: Node, error: Exception) -> None:
        final = not node.retry.allows(error, step.attempt)
        failure = failure_of(error, path)
        try:
            self._append(StepFailed(path, failure, step.attempt, final))
        except (Fenced, StoreError):
            return

    def _shared_state(self) -> BaseModel | None:
        model = self._workflow.state
        return None if model is None else model.model_validate(self._state.shared)

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
        try:
            await self._around.writer.durable(self.open)
        except (Fenced, StoreError) as error:
            self._lose(error)
        if not self.ended.done():
            self.ended.set_result(None)

    async def park(self, reason: str, detail: str) -> None:
        """Leave the run to a person: what it asks for is not what its journal holds."""
        if self._over:
            return
        self._over = self.is_parked = True
        self._append(RunParked(reason, detail), "waiting")
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
        self._over = True
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

    # What a context asks of its driver.

    async def begin(
        self, path: str, call: CallKind, fingerprint: str, data: dict[str, Json]
    ) -> Record | None:
        record = self._records.get(path)
        if record is not None:
            self._compare(path, record, call, fingerprint)
            if record.state != "started":
                self.served += 1
            return record
        if call in ("function", "value"):
            # Its body may be entered again, so its result alone is worth an event.
            self._records[path] = Record(call, fingerprint, "started", data)
            return None
        await self.restart(path, call, fingerprint, data)
        return None

    def _compare(self, path: str, record: Record, call: CallKind, fingerprint: str) -> None:
        recorded = f"{record.call} {record.fingerprint}"
        asked = f"{call} {fingerprint}"
        if recorded != asked and record.fingerprint:
            raise Diverged(run=self.run_id, path=path, recorded=recorded, asked=asked)

    async def restart(
        self, path: str, call: CallKind, fingerprint: str, data: dict[str, Json]
    ) -> None:
        if call == "model":
            self._check_budget(path, data.get("reserve", 0))
        self._append(CallStarted(path, call, {**data, "fingerprint": fingerprint}))
        if call in _LEAVES_PROCESS:
            await self._around.writer.durable(self.open)

    def _check_budget(self, path: str, needed: int) -> None:
        left = self._ledger.left()
        if left is not None and needed > left:
            raise BudgetExceeded(run=self.run_id, path=path, needed=needed, left=left)

    async def complete(self, path: str, call: CallKind, data: dict[str, Json]) -> None:
        if call in ("function", "value"):
            data = {**data, "fingerprint": self._records[path].fingerprint}
        self._append(CallCompleted(path, call, data))

    async def fail(self, path: str, call: CallKind, error: Failure) -> None:
        self._append(CallFailed(path, call, error))

    def mark_unknown(self, path: str, call: CallKind) -> None:
        self._append(CallUnknown(path, call))

    def thread(self) -> Thread:
        return self._around.read_thread(self.row)

    def emit(self, path: str, text: str) -> None:
        if path not in self._emitted:
            self._append(TextEmitted(path, text))

    def progress(self, path: str, text: str) -> None:
        if path not in self._emitted:
            self._append(ProgressMade(path, text))

    async def answer(self, path: str, codec: Codec) -> Json:
        future: asyncio.Future[Json] = asyncio.get_running_loop().create_future()
        self._answers[path] = (codec, future)
        with self._paused():
            return await future

    async def sleep_until(self, path: str, until: float) -> None:
        with self._paused():
            await asyncio.sleep(max(0.0, until - time.time()))
        self._append(CallCompleted(path, "timer", {}))

    async def perform(self, agent: Performer, task: AgentTask, fingerprint: str) -> dict[str, Json]:
        task = replace(task, epoch=self.row.epoch)
        data: dict[str, Json] = {"agent": agent.name, "input": task.text}
        record = self._records.get(task.path)
        if record is not None:
            self._compare(task.path, record, "agent", fingerprint)
            if record.error is not None or record.state == "completed":
                self.served += 1
                return outcome(record)
        self._busy_calls += 1
        try:
            result = await self._dispatch(agent, task, fingerprint, data)
        except (Fenced, StoreError, Diverged):
            raise
        except Exception as error:
            await self.fail(task.path, "agent", failure_of(error, task.path))
            raise
        finally:
            self._busy_calls -= 1
        await self.complete(task.path, "agent", result)
        return result

    async def _dispatch(
        self, agent: Performer, task: AgentTask, fingerprint: str, data: dict[str, Json]
    ) -> dict[str, Json]:
        while True:
            try:
                place = await self._around.hosts.place(agent, task)
                where = {"host": place.host, "pid": place.pid}
                await self.restart(task.path, "agent", fingerprint, {**data, **where})
                return await self._around.hosts.perform(agent, task, self)
            except HostLost as lost:
                self._append(ProgressMade(f"{task.path}/host", f"host lost: {lost}"))

    def share_of(self, budget: Budget | None) -> Budget | None:
        left = self._ledger.left()
        if left is None:
            return budget
        wanted = budget.tokens if budget else left
        if left < 1:
            raise BudgetExceeded(run=self.run_id, needed=wanted, left=left)
        return Budget(tokens=min(wanted, left))

    async def child(
        self, workflow: Workflow, value: object, path: str, budget: Budget | None
    ) -> dict[str, Json]:
        return await self._around.run_child(self.row, path, workflow, value, budget)

    def _paused(self) -> "_Pause":
        return _Pause(self._pause)

    def _pause(self, change: int) -> None:
        self._pauses += change
        self._update_status()

    def _update_status(self) -> None:
        """A run waits only when none of its branches is live."""
        if self._over:
            return
        idle = self._pauses > 0 and self._busy_calls == 0 and self._pauses >= len(self._step_tasks)
        status: RunStatus = "waiting" if idle and not self._ready else "running"
        if status != self._status:
            self._status = status
            self._around.writer.set_status(self.open, status)


class _Pause:
    """A block in which a branch waits for the world outside."""

    def __init__(self, change: Callable[[int], None]) -> None:
        self._change = change

    def __enter__(self) -> None:
        self._change(1)

    def __exit__(self, *exc: object) -> None:
        self._change(-1)


def is_poisoned(events: list[Event]) -> bool:
    """Return whether the last take-overs of a run brought no new event: it kills its workers."""
    last = events[-MAX_TAKES_WITHOUT_PROGRESS:]
    return len(last) == MAX_TAKES_WITHOUT_PROGRESS and all(e.kind == RunTaken.kind for e in last)
