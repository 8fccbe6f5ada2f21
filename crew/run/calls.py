"""The calls of one run: recorded when they are made, and answered from their records."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NoReturn, Protocol

from crew.attempt import Attempt
from crew.budget import Budget, Ledger
from crew.call import Record
from crew.errors import BudgetExceeded, Diverged
from crew.event import (
    AgentDrifted,
    AnswerRefused,
    CallCancelled,
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
from crew.gate import LAST, Order, offered, own
from crew.graph import Workflow
from crew.hosts import Hosts
from crew.journal import RunRow
from crew.journal.writer import OpenRun, Writer
from crew.message import Json
from crew.run.ending import End
from crew.run.records import Records, is_act, step_of
from crew.run.waits import Waits
from crew.thread import Thread

_LEAVES_PROCESS: frozenset[CallKind] = frozenset({"model", "tool", "effect", "ask", "child"})
_OF_AGENTS: frozenset[CallKind] = frozenset({"model", "tool"})
"""Calls that no code of a step waits for, but an agent within one of its calls."""
_OF_EACH_ATTEMPT: frozenset[CallKind] = frozenset({"effect", "ask"})
"""Calls that further attempts of a step find again, at a path without their number."""
FORGOTTEN_SECONDS = 1.0
"""How long a new act waits for an older one that the code may still ask for."""
_LOOK_SECONDS = 0.01


@dataclass(frozen=True, slots=True)
class Rules:
    """What a run may do beside answering from records.

    `live`: make calls that have no record. `strict`: an offered record of another call is a
    divergence. `effects`: let new effects happen.
    """

    live: bool = True
    strict: bool = False
    effects: bool = True


class Children(Protocol):
    """The runs that a run starts."""

    async def run(
        self, parent: RunRow, path: str, workflow: Workflow, value: object, budget: Budget | None
    ) -> dict[str, Json]:
        """Start a child, or find it as it was started before, and wait for its result."""
        ...

    async def cancel(self, parent: RunRow, path: str) -> None:
        """Cancel the child that a run has started at `path`, if it is open; wait for nothing."""
        ...


class Surroundings(Protocol):
    """What a driver needs of its runtime."""

    writer: Writer
    hosts: Hosts
    children: Children

    def look(self) -> None:
        """Look for work and letters soon: something has changed."""
        ...

    def read_thread(self, row: RunRow) -> Thread: ...


class RunCalls:
    """Answers the calls of a run from its journal, or records them as they are made.

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
        self.row = row
        self.around = around
        self.append = append
        self.ledger = Ledger()
        self.usage: dict[str, int] = {}
        self.served = 0
        """How many calls were answered from the journal."""
        self.reused: dict[str, int] = {}
        """What a fork did not have to pay, since its base's records answered."""
        self.records = Records()
        self.offered = Records()
        """Records of another run, or of this one as it was, that may answer equal calls."""
        self.ends = Records()
        """What acts came to, in the run that this one is a fork of, that were under way there."""
        self.rules = Rules()
        self.waits = Waits(changed)
        self.goes_on = False
        """Whether it goes on with what other code may have written."""
        self.end: End | None = None
        """Why the run ends or is let go, from when that is known: no new call begins then."""
        self._open = open_run
        self._attempts: dict[str, Attempt] = {}

    def enter(self, attempt: Attempt) -> None:
        """Take the calls of an attempt that begins now, in the place of an earlier one."""
        step = attempt.step
        self._attempts[step] = attempt
        attempt.is_reentered = bool(self.records.beneath(step) or self.offered.beneath(step))
        attempt.forgotten = self.records.acts(step, attempt.path)

    def leave(self, attempt: Attempt) -> None:
        """Take no more calls of an attempt; acts that are under way are unknown from here on."""
        attempt.close()
        if self._attempts.get(attempt.step) is attempt:
            del self._attempts[attempt.step]
        for path in attempt.acting:
            record = self.records.get(path)
            if record is not None and record.state == "started":
                self.append(CallUnknown(path, record.call))

    def learn(self, event: RunEvent, offset: int) -> None:
        """Keep what later calls of the same path are answered from."""
        match event:
            # The two that come with every step are asked for first.
            case StepStarted():
                return
            case StepCompleted(path=path):
                self.records.drop(step_of(path))
            case CallStarted(call=call, data=data):
                self.records.learn(event, offset)
                calls = 1 if call == "model" else data.get("reserve_calls", 0)
                self.ledger.reserve(data.get("reserve", 0), calls)
            case CallCompleted(call=call, data=data):
                record = self.records.learn(event, offset)
                self._settle(record, call, data)
            case CallFailed(call=call):
                self._settle(self.records.learn(event, offset), call, {})
            case RunTaken(proven=False):
                self.records.doubt()
            case RunForked():
                self.records.doubt()
                _add(self.reused, self.usage)
                self.usage = dict[str, int]()
                self.ledger = Ledger()
            case _:
                self.records.learn(event, offset)

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

    def answered(self, path: str, value: Json) -> bool | None:
        """Record a person's answer.

        Returns:
            True if it is the answer; None if it is not of the question's type; False if the
            question at `path` is not asked yet.
        """
        problem = self.waits.problem_of(path, value)
        if problem is None:
            record = self.records.get(path)
            return record is not None and record.is_ended
        if problem:
            self.append(AnswerRefused(path, problem))
            return None
        self.append(CallCompleted(path, "ask", {"value": value}))
        self.waits.answered(path, value)
        return True

    async def begin(
        self, path: str, call: CallKind, fingerprint: str, data: dict[str, Json]
    ) -> Record | None:
        attempt = self._attempt_of(path, call)
        record = await self.recorded(path, call, fingerprint)
        attempt.forgotten.pop(path, None)
        if record is not None and record.state != "started":
            self.served += 1
            return record
        if not self.rules.live:
            await self.refuse(path, call, fingerprint)
        if record is not None:
            said = self.records.said(path) if call == "model" else ""
            return replace(record, said=said) if said else record
        if call in ("function", "value"):
            # Its body may be entered again, so its result alone is worth an event.
            self.records.put(path, Record(call, fingerprint, "started", data))
            return None
        if attempt.forgotten and is_act(call, data):
            await self._after_forgotten(attempt, path, f"{call} {fingerprint}")
        await self.restart(path, call, fingerprint, data)
        return None

    def _attempt_of(self, path: str, call: CallKind) -> Attempt:
        """Return the attempt that a call is of.

        Raises:
            CancelledError: it is over.
        """
        attempt = self._attempts.get(step_of(path))
        if attempt is None or (
            call not in _OF_EACH_ATTEMPT and path.partition("/")[0] != attempt.path
        ):
            raise asyncio.CancelledError
        return attempt

    async def _after_forgotten(self, attempt: Attempt, path: str, asked: str) -> None:
        """Return when each act on record was asked for, so that a new one stands behind them.

        Raises:
            Diverged: the code has nothing left to do that could lead to one of them.
        """
        loop = asyncio.get_running_loop()
        until = loop.time() + FORGOTTEN_SECONDS
        while True:
            await attempt.last_turn(LAST)
            left = [known for known in attempt.forgotten if not known.startswith(f"{path}/")]
            if not left:
                return
            if attempt.others_wait() or loop.time() >= until:
                raise Diverged(
                    run=self.run_id,
                    path=left[0],
                    recorded=attempt.forgotten[left[0]],
                    asked=f"{asked} at {path} instead",
                )
            await asyncio.sleep(_LOOK_SECONDS)

    async def recorded(
        self, path: str, call: CallKind, fingerprint: str, definition: str = ""
    ) -> Record | None:
        """Return what is recorded at `path`: by this run, or by one that it may reuse.

        Raises:
            Diverged: it is another call.
        """
        record = self.records.get(path)
        if record is not None:
            self._compare(path, record, call, fingerprint)
            return await self._ended_meanwhile(path, record)
        found = self.offered.get(path)
        if found is None:
            return None
        if self.rules.strict:
            self._compare(path, found, call, fingerprint)
            return found
        equal = (found.call, found.fingerprint) == (call, fingerprint)
        if definition and (not equal or found.data.get("definition", "") != definition):
            # Another prompt or another task: no answer of the model stands, though tools' may.
            self.offered.drop_beneath(path, "model")
            return None
        if not equal or found.state != "completed":
            return None
        if call not in _OF_AGENTS:
            # Its record gets its place in this journal only when it is handed out.
            await self._attempt_of(path, call).turn(offered(found.offset))
        self._reuse(path, found)
        return self.records.get(path)

    async def _ended_meanwhile(self, path: str, record: Record) -> Record:
        """Return what an act came to that was under way where this run was forked off."""
        end = self.ends.get(path) if record.state == "started" else None
        if end is None:
            return record
        if end.call not in _OF_AGENTS:
            await self._attempt_of(path, end.call).turn(offered(end.offset))
        if end.error is not None:
            self.append(CallFailed(path, end.call, end.error))
        else:
            self.append(CallCompleted(path, end.call, end.result))
        return self.records.get(path) or record

    def _reuse(self, path: str, record: Record) -> None:
        """Make a record of another run one of this run's; with an agent's go its calls."""
        if record.call == "agent":
            for inner, beneath in self.offered.beneath(step_of(path)).items():
                if inner.startswith(f"{path}/") and beneath.state == "completed":
                    self.append(_reused(inner, beneath))
        self.append(_reused(path, record))

    def _compare(self, path: str, record: Record, call: CallKind, fingerprint: str) -> None:
        recorded = f"{record.call} {record.fingerprint}"
        asked = f"{call} {fingerprint}"
        if recorded != asked and record.fingerprint:
            raise Diverged(run=self.run_id, path=path, recorded=recorded, asked=asked)

    async def refuse(self, path: str, call: CallKind, fingerprint: str) -> NoReturn:
        """Refuse a call that has no record, once nothing that is on record could end it before.

        Raises:
            Diverged: always, unless the caller is cancelled first.
        """
        if call not in _OF_AGENTS:
            await self._attempt_of(path, call).last_turn(LAST)
        raise self._not_recorded(path, f"{call} {fingerprint}")

    def _not_recorded(self, path: str, asked: str) -> Diverged:
        return Diverged(run=self.run_id, path=path, recorded="no result of a call", asked=asked)

    async def restart(
        self, path: str, call: CallKind, fingerprint: str, data: dict[str, Json]
    ) -> None:
        attempt = self._attempt_of(path, call)
        if call == "model":
            self._check_budget(path, data.get("reserve", 0))
        if is_act(call, data) and not self.rules.effects:
            raise self._not_recorded(path, f"{call} {fingerprint}, and new effects are not allowed")
        self.append(CallStarted(path, call, {**data, "fingerprint": fingerprint}))
        if call != "child" and is_act(call, data):
            attempt.acting.add(path)
        if call in _LEAVES_PROCESS:
            await self.around.writer.durable(self._open)

    def _check_budget(self, path: str, needed: int) -> None:
        place = {"run": self.run_id, "path": path}
        if (left := self.ledger.left()) is not None and needed > left:
            raise BudgetExceeded(**place, needed=needed, left=left)
        if (calls := self.ledger.left_calls()) is not None and calls < 1:
            raise BudgetExceeded(**place, needed=1, left=calls, unit="calls")

    async def complete(self, path: str, call: CallKind, data: dict[str, Json]) -> None:
        self._attempt_of(path, call)
        if call in ("function", "value"):
            record = self.records.get(path)
            data = {**data, "fingerprint": record.fingerprint if record else ""}
        self.append(CallCompleted(path, call, data))

    async def fail(self, path: str, call: CallKind, error: Failure) -> None:
        self._attempt_of(path, call)
        self.append(CallFailed(path, call, error))

    async def mark_unknown(self, path: str, call: CallKind) -> None:
        self._attempt_of(path, call)
        self.append(CallUnknown(path, call))

    async def say(self, path: str, text: str) -> None:
        self._attempt_of(path, "model")
        is_first = not self.records.has_said(path)
        self.append(TextEmitted(path, text, streamed=True))
        if is_first:
            self.around.writer.hasten()  # somebody waits for the first word

    async def unsay(self, path: str) -> None:
        self.append(TextDiscarded(path))

    def cancelled(self, path: str, call: CallKind) -> None:
        """Record that the code of the run cancelled a call, and that it has ended."""
        record = self.records.get(path)
        if record is None or not record.is_ended:
            self.append(CallCancelled(path, call))

    def order_of(self, path: str) -> Order:
        """Return the order in which what came of a call is handed out."""
        if (record := self.records.get(path)) is not None:
            return own(record.offset)
        found = self.offered.get(path)
        return LAST if found is None else offered(found.offset)

    def emit(self, path: str, text: str) -> None:
        if not self.records.is_emitted(path):
            self.append(TextEmitted(path, text))

    def progress(self, path: str, text: str) -> None:
        if not self.records.is_emitted(path):
            self.append(ProgressMade(path, text))

    def drifted(self, path: str, recorded: str, now: str) -> None:
        """Note that the agent at `path` is not defined as it was when its call was recorded."""
        drift = f"{path}/drift"
        if not self.records.is_emitted(drift):
            self.append(AgentDrifted(drift, recorded, now))

    def confirm(self) -> None:
        self.around.writer.confirm(self._open)

    def thread(self) -> Thread:
        return self.around.read_thread(self.row)


def _reused(path: str, record: Record) -> CallCompleted:
    extra = {"fingerprint": record.fingerprint, "reused": True}
    return CallCompleted(path, record.call, {**record.result, **extra})


def _add(total: dict[str, int], more: dict[str, int]) -> None:
    for name, count in more.items():
        total[name] = total.get(name, 0) + count
