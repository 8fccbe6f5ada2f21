"""The calls of one run: recorded when they are made, and answered from their records."""

import asyncio
import hashlib
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Protocol

from crew.budget import Budget, Ledger
from crew.call import AgentTask, Performer, Record, failure_of, is_of_the_run, outcome
from crew.clock import wall_clock
from crew.errors import BudgetExceeded, CrewError, Diverged
from crew.event import (
    AgentDrifted,
    AnswerRefused,
    CallCompleted,
    CallFailed,
    CallKind,
    CallStarted,
    CallUnknown,
    Failure,
    ProgressMade,
    RunEvent,
    RunForked,
    RunTaken,
    StepCompleted,
    StepStarted,
    TextDiscarded,
    TextEmitted,
)
from crew.graph import Workflow
from crew.hosts import HostLost, Hosts
from crew.journal import RunRow
from crew.journal.writer import OpenRun, Writer
from crew.lineage import SCOPE
from crew.message import Json
from crew.run.records import Records, step_of
from crew.thread import Thread
from crew.value import Codec

logger = logging.getLogger(__name__)

_LEAVES_PROCESS: frozenset[CallKind] = frozenset({"model", "tool", "effect", "ask", "child"})


MOST_HOSTS_LOST = 8
"""After so many hosts in a row that died at one task, the task is taken to kill them."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What a run may do beside answering from records.

    `live`: make calls that have no record. `strict`: an offered record of another call is a
    divergence. `effects`: let new effects happen.
    """

    live: bool = True
    strict: bool = False
    effects: bool = True


class Surroundings(Protocol):
    """What a driver needs of its runtime."""

    writer: Writer
    hosts: Hosts

    def look(self) -> None:
        """Look for work and letters soon: something has changed."""
        ...

    def read_thread(self, row: RunRow) -> Thread: ...

    async def run_child(
        self, parent: RunRow, path: str, workflow: Workflow, value: object, budget: Budget | None
    ) -> dict[str, Json]:
        """Start a child, or find it as it was started before, and wait for its result."""
        ...

    async def cancel_child(self, parent: RunRow, path: str) -> None:
        """Cancel the child that a run has started at `path`, if it is open; wait for nothing."""
        ...


class RunCalls:
    """Answers the calls of a run from its journal, or carries them out and records them.

    Args:
        around: what the run's driver has around it.
        row: the run.
        open_run: where its events are appended.
        append: appends one event, and carries out what follows from it.
        changed: called when a branch starts or stops waiting for the world outside.
        substitute: what stands in for an agent, as in a fork with another one.
    """

    def __init__(
        self,
        around: Surroundings,
        row: RunRow,
        open_run: OpenRun,
        *,
        append: Callable[[RunEvent], None],
        changed: Callable[[], None],
        substitute: Callable[[Performer], Performer],
    ) -> None:
        self.run_id = row.id
        self.thread_id = row.thread
        self.tenant = row.tenant
        self.ledger = Ledger()
        self.usage: dict[str, int] = {}
        self.served = 0
        """How many calls were answered from the journal."""
        self.reused: dict[str, int] = {}
        """What a fork did not have to pay, since its base's records answered."""
        self.records = Records()
        self.offered = Records()
        """Records of another run, or of this one as it was, that may answer equal calls."""
        self.rules = Rules()
        self.waits: dict[str, float | None] = {}
        """What waits for the world outside, by path, and until when if that is known."""
        self.resuming = 0
        """How many branches have their answer, and are about to go on."""
        self.keeps_children = False
        """Whether the run goes on elsewhere, or later: its children are left as they are."""
        self._around = around
        self._row = row
        self._open = open_run
        self._append = append
        self._changed = changed
        self._substitute = substitute
        self._answers: dict[str, tuple[Codec, asyncio.Future[Json]]] = {}

    def learn(self, event: RunEvent) -> None:
        """Keep what later calls of the same path are answered from."""
        match event:
            # The two that come with every step are asked for first.
            case StepStarted():
                return
            case StepCompleted(path=path):
                self.records.drop(step_of(path))
            case CallStarted(call=call, data=data):
                self.records.learn(event)
                calls = 1 if call == "model" else data.get("reserve_calls", 0)
                self.ledger.reserve(data.get("reserve", 0), calls)
            case CallCompleted(call=call, data=data):
                record = self.records.learn(event)
                self._settle(record, call, data)
            case CallFailed(call=call):
                self._settle(self.records.learn(event), call, {})
            case CallUnknown():
                self.records.learn(event)
            case RunTaken(proven=False):
                self.records.doubt()
            case RunForked():
                self.records.doubt()
                _add(self.reused, self.usage)
                self.usage = dict[str, int]()
                self.ledger = Ledger()
            case _:
                self.records.learn(event)

    def to_data(self) -> dict[str, Json]:
        """Return what was learnt as JSON, for a snapshot."""
        return {
            **self.records.to_data(),
            "usage": self.usage,
            "reused": self.reused,
            "spent": self.ledger.spent,
            "reserved": self.ledger.reserved,
            "calls": self.ledger.calls,
        }

    def load(self, data: dict[str, Json]) -> None:
        """Know what `to_data` gave."""
        self.records.load(data)
        self.usage, self.reused = data["usage"], data["reused"]
        self.ledger.spent, self.ledger.reserved = data["spent"], data["reserved"]
        self.ledger.calls = data["calls"]

    def _settle(self, record: Record | None, call: CallKind, result: dict[str, Json]) -> None:
        # An agent's usage is that of its model calls, which were counted one by one.
        usage: dict[str, int] = result.get("usage", {}) if call in ("model", "child") else {}
        if result.get("reused"):
            _add(self.reused, usage)
            usage = dict[str, int]()
        _add(self.usage, usage)
        cost = sum(usage.get(name, 0) for name in ("input_tokens", "output_tokens"))
        asked = record.data if record else {}
        self.ledger.settle(asked.get("reserve", 0), cost)
        if call == "child":
            self.ledger.settle_calls(asked.get("reserve_calls", 0), usage.get("calls", 0))

    def problem_of(self, path: str, value: Json) -> str:
        """Return why `value` does not answer the question that is open at `path`, or nothing."""
        waiting = self._answers.get(path)
        if waiting is None:
            return ""
        try:
            waiting[0].decode(value)
        except CrewError as error:
            return str(error)
        return ""

    def answered(self, path: str, value: Json) -> bool | None:
        """Record a person's answer.

        Returns:
            True if it is the answer; None if it is not of the question's type; False if the
            question at `path` is not asked yet.
        """
        waiting = self._answers.get(path)
        if waiting is None:
            record = self.records.get(path)
            return record is not None and record.state == "completed"
        _, future = waiting
        if problem := self.problem_of(path, value):
            self._append(AnswerRefused(path, problem))
            return None
        del self._answers[path]
        self._append(CallCompleted(path, "ask", {"value": value}))
        if not future.done():  # else whoever asked was cancelled, as by a timeout of its own
            future.set_result(value)
            self.resuming += 1
            self._changed()
        return True

    async def begin(
        self, path: str, call: CallKind, fingerprint: str, data: dict[str, Json]
    ) -> Record | None:
        record = self._recorded(path, call, fingerprint)
        if record is not None and record.state != "started":
            self.served += 1
            return record
        if not self.rules.live:
            raise self._not_recorded(path, f"{call} {fingerprint}")
        if record is not None:
            said = self.records.said(path) if call == "model" else ""
            return replace(record, said=said) if said else record
        if call in ("function", "value"):
            # Its body may be entered again, so its result alone is worth an event.
            self.records.put(path, Record(call, fingerprint, "started", data))
            return None
        await self.restart(path, call, fingerprint, data)
        return None

    def _recorded(
        self, path: str, call: CallKind, fingerprint: str, definition: str = ""
    ) -> Record | None:
        """Return what is recorded at `path`: by this run, or by one that it may reuse."""
        record = self.records.get(path)
        if record is not None:
            self._compare(path, record, call, fingerprint)
            return record
        offered = self.offered.get(path)
        if offered is None:
            return None
        if self.rules.strict:
            self._compare(path, offered, call, fingerprint)
            return offered
        equal = (offered.call, offered.fingerprint) == (call, fingerprint)
        if definition and (not equal or offered.data.get("definition", "") != definition):
            # Another prompt or another task: no answer of the model stands, though tools' may.
            self.offered.drop_beneath(path, "model")
            return None
        if not equal or offered.state != "completed":
            return None
        self._reuse(path, offered)
        return self.records.get(path)

    def _reuse(self, path: str, record: Record) -> None:
        """Make a record of another run one of this run's; with an agent's go its calls."""
        if record.call == "agent":
            for inner, beneath in self.offered.beneath(step_of(path)).items():
                if inner.startswith(f"{path}/") and beneath.state == "completed":
                    self._append(_reused(inner, beneath))
        self._append(_reused(path, record))

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
        # A child is a run of its own, which may do whatever it likes.
        acts = call in ("effect", "child") or (call == "tool" and data.get("effect") == "once")
        if acts and not self.rules.effects:
            raise self._not_recorded(path, f"{call} {fingerprint}, and new effects are not allowed")
        self._append(CallStarted(path, call, {**data, "fingerprint": fingerprint}))
        if call in _LEAVES_PROCESS:
            await self._around.writer.durable(self._open)

    def _check_budget(self, path: str, needed: int) -> None:
        place = {"run": self.run_id, "path": path}
        if (left := self.ledger.left()) is not None and needed > left:
            raise BudgetExceeded(**place, needed=needed, left=left)
        if (calls := self.ledger.left_calls()) is not None and calls < 1:
            raise BudgetExceeded(**place, needed=1, left=calls, unit="calls")

    async def complete(self, path: str, call: CallKind, data: dict[str, Json]) -> None:
        if call in ("function", "value"):
            record = self.records.get(path)
            data = {**data, "fingerprint": record.fingerprint if record else ""}
        self._append(CallCompleted(path, call, data))

    async def fail(self, path: str, call: CallKind, error: Failure) -> None:
        self._append(CallFailed(path, call, error))

    async def mark_unknown(self, path: str, call: CallKind) -> None:
        self._append(CallUnknown(path, call))

    async def say(self, path: str, text: str) -> None:
        is_first = not self.records.has_said(path)
        self._append(TextEmitted(path, text, streamed=True))
        if is_first:
            self._around.writer.hasten()  # somebody waits for the first word

    async def unsay(self, path: str) -> None:
        self._append(TextDiscarded(path))

    def has_said(self, path: str) -> bool:
        return self.records.has_said(path)

    def confirm(self) -> None:
        self._around.writer.confirm(self._open)

    def thread(self) -> Thread:
        return self._around.read_thread(self._row)

    def emit(self, path: str, text: str) -> None:
        if not self.records.is_emitted(path):
            self._append(TextEmitted(path, text))

    def progress(self, path: str, text: str) -> None:
        if not self.records.is_emitted(path):
            self._append(ProgressMade(path, text))

    async def answer(self, path: str, codec: Codec) -> Json:
        future: asyncio.Future[Json] = asyncio.get_running_loop().create_future()
        self._answers[path] = (codec, future)
        self._around.look()  # the answer may have come already: that is why a run was taken
        with self.waiting(path, None):
            try:
                return await future
            finally:
                self.resuming -= future.done() and not future.cancelled()

    async def sleep_until(self, path: str, until: float) -> None:
        with self.waiting(path, until):
            await asyncio.sleep(max(0.0, until - wall_clock()))
        self._append(CallCompleted(path, "timer", {}))

    async def perform(self, agent: Performer, task: AgentTask, fingerprint: str) -> dict[str, Json]:
        agent = self._substitute(agent)
        task = replace(task, epoch=self._row.epoch)
        definition = _definition_hash(agent)
        data: dict[str, Json] = {
            "agent": agent.name,
            "input": task.text,
            "definition": definition,
        }
        record = self._recorded(task.path, "agent", fingerprint, definition)
        if record is not None:
            self._note_drift(task.path, record, definition)
            if record.error is not None or record.state == "completed":
                self.served += 1
                return outcome(record)
        if not self.rules.live:
            raise self._not_recorded(task.path, f"agent {fingerprint}")
        try:
            result = await self._dispatch(agent, task, fingerprint, data)
        except Exception as error:
            if not is_of_the_run(error):
                await self.fail(task.path, "agent", failure_of(error, task.path))
            raise
        await self.complete(task.path, "agent", result)
        return result

    def _note_drift(self, path: str, record: Record, definition: str) -> None:
        recorded = record.data.get("definition", definition)
        if recorded != definition and not self.rules.strict:
            drift = f"{path}/drift"
            if not self.records.is_emitted(drift):
                self._append(AgentDrifted(drift, recorded, definition))

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
                facts = {"run": self.run_id, "path": task.path, "agent": agent.name}
                logger.warning("host.lost", extra={**facts, "error": str(lost)})
                self._append(ProgressMade(f"{task.path}/host", f"host lost: {lost}"))
        raise CrewError(
            message=f"{MOST_HOSTS_LOST} hosts of agent {agent.name!r} died one after the other at "
            f"{task.path}; does its work kill them (memory, native code)?"
        )

    def share_of(self, budget: Budget | None) -> Budget | None:
        if self.ledger.limit is None:
            return budget
        left = {"tokens": self.ledger.left(), "calls": self.ledger.left_calls()}
        for unit, count in left.items():
            if count is not None and count < 1:
                raise BudgetExceeded(run=self.run_id, needed=1, left=count, unit=unit)
        seconds = self.seconds_left()
        # One whose time is up is ended by its driver, not here.
        shortest = None if seconds is None else max(seconds, 0.001)
        return Budget(**left, seconds=shortest).within(budget)

    def seconds_left(self) -> float | None:
        """Return how long the run may still take, or None without a limit."""
        limit = self.ledger.limit
        if limit is None or limit.seconds is None:
            return None
        return self._row.created_at + limit.seconds - wall_clock()

    async def child(
        self, workflow: Workflow, value: object, path: str, budget: Budget | None
    ) -> dict[str, Json]:
        try:
            return await self._around.run_child(self._row, path, workflow, value, budget)
        except asyncio.CancelledError:
            if not self.keeps_children:
                await self._around.cancel_child(self._row, path)
            raise

    @contextmanager
    def waiting(self, path: str, until: float | None) -> Iterator[None]:
        """A block in which the branch at `path` waits for the world outside."""
        scope = SCOPE.get()
        self.waits[path] = until
        with nullcontext() if scope is None else scope.branches.waiting():
            self._changed()
            try:
                yield
            finally:
                self.waits.pop(path, None)
        self._changed()

    def due(self) -> float | None:
        """Return when the first of the waits ends by itself, in unix seconds."""
        times = [until for until in self.waits.values() if until is not None]
        return min(times, default=None)


def _reused(path: str, record: Record) -> CallCompleted:
    extra = {"fingerprint": record.fingerprint, "reused": True}
    return CallCompleted(path, record.call, {**record.result, **extra})


def _add(total: dict[str, int], more: dict[str, int]) -> None:
    for name, count in more.items():
        total[name] = total.get(name, 0) + count


def _definition_hash(agent: Performer) -> str:
    return hashlib.sha256(agent.definition().encode("utf-8", "surrogatepass")).hexdigest()[:12]
