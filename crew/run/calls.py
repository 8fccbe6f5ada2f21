"""The calls of one run: recorded when they are made, and answered from their records."""

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Protocol

from crew.budget import Budget, Ledger
from crew.call import AgentTask, Performer, Record, failure_of, outcome
from crew.errors import BudgetExceeded, CrewError, Diverged, Fenced, StoreError
from crew.event import (
    CallCompleted,
    CallFailed,
    CallKind,
    CallStarted,
    CallUnknown,
    Failure,
    ProgressMade,
    RunEvent,
    TextEmitted,
)
from crew.graph import Workflow
from crew.hosts import HostLost, Hosts
from crew.journal import RunRow
from crew.journal.writer import OpenRun, Writer
from crew.message import Json
from crew.thread import Thread
from crew.value import Codec

_LEAVES_PROCESS: frozenset[CallKind] = frozenset({"model", "tool", "effect", "ask", "child"})


MOST_HOSTS_LOST = 8
"""After so many hosts in a row that died at one task, the task is taken to kill them."""


class Surroundings(Protocol):
    """What a driver needs of its runtime."""

    writer: Writer
    hosts: Hosts

    def read_thread(self, row: RunRow) -> Thread: ...

    async def run_child(
        self, parent: RunRow, path: str, workflow: Workflow, value: object, budget: Budget | None
    ) -> dict[str, Json]: ...


class RunCalls:
    """Answers the calls of a run from its journal, or carries them out and records them.

    Args:
        around: what the run's driver has around it.
        row: the run.
        open_run: where its events are appended.
        append: appends one event, and carries out what follows from it.
        changed: called when a branch starts or stops waiting for the world outside.
    """

    def __init__(
        self,
        around: Surroundings,
        row: RunRow,
        open_run: OpenRun,
        *,
        append: Callable[[RunEvent], None],
        changed: Callable[[], None],
    ) -> None:
        self.run_id = row.id
        self.thread_id = row.thread
        self.ledger = Ledger()
        self.usage: dict[str, int] = {}
        self.served = 0
        """How many calls were answered from the journal."""
        self.waiting = 0
        """How many branches wait for the world outside."""
        self.busy = 0
        """How many agents are at work."""
        self.records_only = False
        """Whether a call without a recorded result is a divergence, as in a replay."""
        self._around = around
        self._row = row
        self._open = open_run
        self._append = append
        self._changed = changed
        self._records: dict[str, Record] = {}
        self._emitted: dict[str, str] = {}
        self._answers: dict[str, tuple[Codec, asyncio.Future[Json]]] = {}

    def learn(self, event: RunEvent) -> None:
        """Keep what later calls of the same path are answered from."""
        match event:
            case CallStarted(path=path, call=call, data=data):
                known = self._records.get(path)
                if known is None or known.state != "completed":
                    fingerprint = data.get("fingerprint", "")
                    self._records[path] = Record(call, fingerprint, "started", data)
                self.ledger.reserve(data.get("reserve", 0))
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
            self.usage[name] = self.usage.get(name, 0) + count
        cost = sum(usage.get(name, 0) for name in ("input_tokens", "output_tokens"))
        self.ledger.settle(data.get("reserve", 0), cost)

    def answered(self, path: str, value: Json) -> bool:
        """Record a person's answer; False if the question at `path` is not asked yet."""
        waiting = self._answers.get(path)
        if waiting is None:
            record = self._records.get(path)
            return record is not None and record.state == "completed"
        codec, future = waiting
        try:
            codec.decode(value)
        except CrewError as error:
            self._append(ProgressMade(path, f"answer refused: {error}"))
            return True
        if not future.done():
            self._answers.pop(path)
            self._append(CallCompleted(path, "ask", {"value": value}))
            future.set_result(value)
        return True

    async def begin(
        self, path: str, call: CallKind, fingerprint: str, data: dict[str, Json]
    ) -> Record | None:
        record = self._records.get(path)
        if record is not None:
            self._compare(path, record, call, fingerprint)
            if record.state != "started":
                self.served += 1
                return record
        if self.records_only:
            raise self._not_recorded(path, f"{call} {fingerprint}")
        if record is not None:
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

    def _not_recorded(self, path: str, asked: str) -> Diverged:
        return Diverged(run=self.run_id, path=path, recorded="no result of a call", asked=asked)

    async def restart(
        self, path: str, call: CallKind, fingerprint: str, data: dict[str, Json]
    ) -> None:
        if call == "model":
            self._check_budget(path, data.get("reserve", 0))
        self._append(CallStarted(path, call, {**data, "fingerprint": fingerprint}))
        if call in _LEAVES_PROCESS:
            await self._around.writer.durable(self._open)

    def _check_budget(self, path: str, needed: int) -> None:
        left = self.ledger.left()
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
        return self._around.read_thread(self._row)

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
        task = replace(task, epoch=self._row.epoch)
        data: dict[str, Json] = {"agent": agent.name, "input": task.text}
        record = self._records.get(task.path)
        if record is not None:
            self._compare(task.path, record, "agent", fingerprint)
            if record.error is not None or record.state == "completed":
                self.served += 1
                return outcome(record)
        if self.records_only:
            raise self._not_recorded(task.path, f"agent {fingerprint}")
        self.busy += 1
        try:
            result = await self._dispatch(agent, task, fingerprint, data)
        except (Fenced, StoreError, Diverged):
            raise
        except Exception as error:
            await self.fail(task.path, "agent", failure_of(error, task.path))
            raise
        finally:
            self.busy -= 1
        await self.complete(task.path, "agent", result)
        return result

    async def _dispatch(
        self, agent: Performer, task: AgentTask, fingerprint: str, data: dict[str, Json]
    ) -> dict[str, Json]:
        for _ in range(MOST_HOSTS_LOST):
            try:
                place = await self._around.hosts.place(agent, task)
                where = {"host": place.host, "pid": place.pid}
                await self.restart(task.path, "agent", fingerprint, {**data, **where})
                return await self._around.hosts.perform(agent, task, self)
            except HostLost as lost:
                self._append(ProgressMade(f"{task.path}/host", f"host lost: {lost}"))
        raise CrewError(
            message=f"{MOST_HOSTS_LOST} hosts of agent {agent.name!r} died one after the other at "
            f"{task.path}; does its work kill them (memory, native code)?"
        )

    def share_of(self, budget: Budget | None) -> Budget | None:
        left = self.ledger.left()
        if left is None:
            return budget
        wanted = budget.tokens if budget else left
        if left < 1:
            raise BudgetExceeded(run=self.run_id, needed=wanted, left=left)
        return Budget(tokens=min(wanted, left))

    async def child(
        self, workflow: Workflow, value: object, path: str, budget: Budget | None
    ) -> dict[str, Json]:
        return await self._around.run_child(self._row, path, workflow, value, budget)

    @contextmanager
    def _paused(self) -> Iterator[None]:
        """A block in which a branch waits for the world outside."""
        self._pause(1)
        try:
            yield
        finally:
            self._pause(-1)

    def _pause(self, change: int) -> None:
        self.waiting += change
        self._changed()
