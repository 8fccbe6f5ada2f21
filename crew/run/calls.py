"""The calls of one run: recorded when they are made, and answered from their records."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, NoReturn

from crew.budget import Account, Allowance, Amount, Budget, limits_of
from crew.call import approval
from crew.call.attempt import Attempt
from crew.call.gate import LAST
from crew.clock import wall_clock
from crew.event import (
    AgentDrifted,
    AnswerRefused,
    BudgetGiven,
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
from crew.fold.accounts import Accounts
from crew.fold.calls import Record, Records, is_act
from crew.fold.deadlines import Deadlines
from crew.fold.past import Past
from crew.fold.paths import step_of
from crew.fold.thread_changes import ThreadChanges
from crew.journal import Drawn, RunRow
from crew.journal.notes import Note, NoteChange
from crew.journal.writer import OpenRun
from crew.message import Json
from crew.run.attempts import Attempts
from crew.run.ending import End
from crew.run.lookup import OF_AGENTS, Lookup
from crew.run.sharing import SharedAccounts
from crew.run.spending import Spending
from crew.run.surroundings import Surroundings
from crew.run.waits import Waits
from crew.thread import Thread
from crew.value import Codec, is_big

if TYPE_CHECKING:
    from crew.run.entering import EnteredTools

_LEAVES_PROCESS: frozenset[CallKind] = frozenset({"model", "tool", "effect", "ask", "child"})
_SPENDS: frozenset[CallKind] = frozenset({"model", "child"})
GIVES: dict[CallKind, str] = {
    "model": "text",
    "tool": "result",
    "agent": "output",
    "child": "output",
}
"""Where the data of an end hold what came of a call, which may be big."""
_NO_DATA: dict[str, Json] = {}
"""One for all calls that have no more to say; nobody changes it."""


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
        self.loop = asyncio.get_running_loop()
        self.around = around
        self.append = append
        self.accounts = Accounts(row.created_at)
        self.spending = Spending(self.accounts)
        self.shared: SharedAccounts | None = None
        """The accounts that it draws on together with other runs, while it is driven here."""
        self.children: dict[str, str] = {}
        """The ids of the children that are waited for, by the paths of their calls."""
        self.entered: dict[str, EnteredTools] = {}
        """The tools that hold the run of agents at work, by the paths of the agents' calls."""
        self.deps: Any = None
        """What the workflow's code depends on, once that is open."""
        self.served = 0
        """How many calls were answered from the journal."""
        self.records, offered = Records(), Records()
        self.deadlines = Deadlines()
        self.thread_changes = ThreadChanges()
        """What the run has changed of its thread's state."""
        self.attempts = Attempts(row.id, self.records, offered, append)
        self.lookup = Lookup(row.id, self.records, offered, self.attempts, append)
        self.waits = Waits(changed)
        self.past: Past | None = None
        """Of a replay: how the run went."""
        self.goes_on = False
        """Whether it goes on with what other code may have written."""
        self.end: End | None = None
        """Why the run ends or is let go, from when that is known: no new call begins then."""
        self._open = open_run
        self._thread: Thread | None = None

    def time_is_up_at(self) -> float | None:
        """Return when the seconds of the run's budget are over, in unix seconds, if it has some."""
        return self.accounts.ledgers.run.until()

    def due(self) -> float | None:
        """Return when a run of which all waits goes on by itself, in unix seconds."""
        times = (self.waits.due(), self.time_is_up_at())
        return min((time for time in times if time is not None), default=None)

    def fold(self, event: RunEvent, offset: int) -> None:
        """Keep what later calls of the same path are answered from."""
        match event:
            # Those that come with every step and call are asked for first.
            case StepStarted():
                return
            case StepCompleted(path=path):
                if event.thread is not None:
                    self.thread_changes.apply(event)
                self.drop(step_of(path))
            case CallCompleted(call=call):
                self.records.apply(event, offset)
                if self.entered and call in OF_AGENTS:
                    self._of_agent(event.path, is_over=True)
                if call == "agent":
                    self.spending.left(event.path)
                elif call in _SPENDS:
                    self.spending.apply(event)
                elif call == "tool":
                    self.thread_changes.apply(event)
                elif call == "deadline":
                    self.deadlines.apply(event)
            case CallStarted(call=call):
                self.records.apply(event, offset)
                if self.entered and call in OF_AGENTS:
                    self._of_agent(event.path, is_over=False)
                if call == "agent":
                    self.spending.left(event.path)  # anew, in another host
                elif call in _SPENDS:
                    self.spending.apply(event)
                elif call == "deadline":
                    self.deadlines.apply(event)
            case CallFailed():
                self.records.apply(event, offset)
                self.spending.apply(event)
                self._of_agent(event.path, is_over=True)
            case BudgetGiven():
                self.spending.apply(event)
            case CallCancelled(path=path, call=call, by_end=True):
                # A run that ended goes on as a fork alone, which calls again, and asks anew.
                if call == "ask":
                    self.records.remove(path)
            case CallCancelled():
                self.records.apply(event, offset)
                self.deadlines.apply(event)
                self.spending.apply(event)
            case RunTaken(proven=proven):
                self.deadlines.apply(event)
                if not proven:
                    self.records.doubt()
            case RunForked():
                self.records.doubt()
                for path in self.deadlines:
                    self.records.remove(path)
                self.deadlines.apply(event)
                self.spending.apply(event)
            case _:
                self.records.apply(event, offset)

    def _of_agent(self, path: str, *, is_over: bool) -> None:
        """Let the tools that an agent has entered know of its other calls."""
        tools = self.entered.get(path.rpartition("/")[0])
        if tools is None:
            return
        if is_over:
            tools.ended(path)
        else:
            tools.begun(path)

    def drop(self, step: str) -> None:
        """Forget the calls of a step that is over: nobody asks for them any more."""
        self.records.drop(step)
        self.deadlines.drop(step)
        self.spending.drop(step)
        self.thread_changes.drop(step)

    def to_data(self) -> dict[str, Json]:
        """Return what was folded as JSON, for a snapshot."""
        others = {
            "deadlines": self.deadlines.to_data(),
            "thread_changes": self.thread_changes.to_data(),
        }
        return {**self.records.to_data(), **self.accounts.to_data(), **others}

    def load(self, data: dict[str, Json]) -> None:
        """Know what `to_data` gave."""
        self.records.load(data)
        self.accounts.load(data)
        self.deadlines.load(data["deadlines"])
        self.thread_changes.load(data["thread_changes"])

    def hand_out(self, before: float) -> bool:
        """Hand out what was posted by a time that has come; return whether something is to go on.

        Raises:
            StoreError, Busy: nobody knows.
        """
        waits = self.waits
        if waits.resuming:
            return True
        return waits.is_asking and self.around.hand_out(self.row.number, before)

    def answered(self, path: str, value: Json, by: str | None = None) -> bool | None:
        """Record a person's answer, and `by` whom it is, if that is known.

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
        author: dict[str, Json] = {} if by is None else {"by": by}
        self.append(CallCompleted(path, "ask", {"value": value, **author}))
        self.waits.answered(path, value)
        return True

    async def answer(self, path: str, codec: Codec) -> Json:
        """Wait for an answer that validates to the question at `path`, until it is recorded."""
        attempt = self.attempts.around(path, "ask")
        if attempt.is_reentered:
            # Behind what is on record, and beside what else it waits for: that may have come first.
            await attempt.turn(LAST)
        self.around.look()  # the answer may have come already: that is why a run was taken
        return await self.waits.answer(path, codec, attempt)

    async def approval(self, path: str) -> Json:
        return await self.answer(path, approval.codec())

    async def rests(self, path: str, calls: Sequence[str]) -> None:
        self.attempts.around(path, "agent").rest(path, calls)
        self.waits.review()

    async def begin(
        self, path: str, call: CallKind, fingerprint: str, data: dict[str, Json]
    ) -> Record | None:
        attempt = self.attempts.of(path, call)
        record = await self.lookup.find(path, call, fingerprint)
        attempt.forgotten.pop(path, None)
        if record is not None and record.state != "started":
            self.served += 1
            return record
        if not self.lookup.rules.live:
            await self.refuse(path, call, fingerprint)
        if record is not None:
            streamed = self.records.streamed(path) if call == "model" else ""
            return record._replace(streamed=streamed) if streamed else record
        if attempt.forgotten:
            await self.behind_acts(attempt, path, call, data)
        if call in ("function", "value"):
            # Its body may be entered again, so its result alone is worth an event.
            self.records.put(path, Record(call, fingerprint, "started", data))
            return None
        if attempt.forgotten and is_act(call, data):
            instead = f"{call} {fingerprint} at {path} instead"
            await self.attempts.after_forgotten(attempt, path, instead)
        await self.restart(path, call, fingerprint, data)
        return None

    async def behind_acts(
        self, attempt: Attempt, path: str, call: CallKind, data: dict[str, Json]
    ) -> None:
        """Return when a call that is new may begin beside acts that were not asked for.

        One that is no act waits for those that are.
        A new act parks the run first: what is recorded beside it, old code cannot go on from.
        """
        if self._is_beside(attempt.forgotten, path, call, data):
            await self.attempts.after_new_acts(attempt)
            if attempt.cut_off:
                await self.attempts.after_forgotten(attempt, path, attempt.cut_off)

    async def refuse(self, path: str, call: CallKind, fingerprint: str) -> NoReturn:
        """Refuse a call that has no record, once nothing that is on record could end it before.

        Raises:
            Diverged: always, unless the caller is cancelled first.
        """
        attempt = self.attempts.of(path, call)
        await attempt.gate.turn(LAST)
        error = self.lookup.not_recorded(path, f"{call} {fingerprint}")
        if self.past is not None and attempt.step not in self.past.ended:
            # Another step, or the end of the run's time, cut this one off.
            await self.waits.until_cancelled(path, error, attempt)
        raise error

    def _is_beside(
        self, acts: Iterable[str], path: str, call: CallKind, data: dict[str, Json]
    ) -> bool:
        """Return whether a new call is no act, and none of those on record is made within it."""
        if is_act(call, data) or call in OF_AGENTS:
            return False
        return not any(f"{self.records.place_of(act)}/".startswith(f"{path}/") for act in acts)

    def begin_at_once(self, path: str, call: CallKind, fingerprint: str) -> Record | None:
        """Begin a call that needs no intent; see `crew.call.driven.Driven`."""
        record = self.lookup.known(path)
        if record is None and self.lookup.rules.live:
            record = Record(call, fingerprint, "started", _NO_DATA)
            self.records.put(path, record)
            return record
        if record is None or not self.lookup.answers(path, record, call, fingerprint):
            return None
        self.served += 1
        return record

    async def restart(
        self, path: str, call: CallKind, fingerprint: str, data: dict[str, Json]
    ) -> None:
        attempt = self.attempts.of(path, call)
        if call == "model":
            self.spending.check(self.run_id, path, data)
            if self.shared is not None:
                await self._draw(self.shared, path, data)
        elif call == "child":
            data = {**data, "shared": True} if await self.around_child(path) else data
        if is_act(call, data) and not self.lookup.rules.effects:
            asked = f"{call} {fingerprint}"
            raise self.lookup.not_recorded(path, asked, effects_refused=True)
        if self.end is not None:
            await attempt.until_closed()  # the end came while this was on its way
        self.append(CallStarted(path, call, {**data, "fingerprint": fingerprint}))
        if call == "model":
            self.spending.begun(path)
        if call != "child" and is_act(call, data):
            attempt.acting.add(path)
        if call in _LEAVES_PROCESS:
            await self.around.writer.durable(self._open)

    async def allowance(self, path: str, needed: Amount) -> Allowance | None:
        """Return what a model call at `path` may spend; see `crew.call.record.Calls`."""
        if not self.accounts.ledgers.limits_amounts(path) or not self.lookup.is_due(path):
            return None
        self.spending.rest(path)
        await self.spending.until_free(path, needed)
        if self.shared is not None:
            return await self.shared.allowance(path, needed)
        return self.spending.allowance(path)

    async def is_due(self, path: str) -> bool:
        """Return whether the model call at `path` is to be made."""
        return self.lookup.is_due(path)

    async def _draw(self, shared: SharedAccounts, path: str, data: dict[str, Json]) -> None:
        """Draw for a model call on what is left of all that is around it.

        Raises:
            BudgetExceeded: too little is.
        """
        amount = self.spending.amount(path, data)
        await shared.draw(path, amount)
        try:
            self.attempts.of(path, "model")
        except asyncio.CancelledError:
            shared.change(path, Drawn() - amount)
            raise

    def share(self) -> None:
        """Draw on rows of the store from now on."""
        self.accounts.is_shared = True
        self.shared = SharedAccounts(self.row, self.spending, self.around.accounts, self._open.lost)
        self.spending.shared = self.shared
        self.shared.open()
        self.spending.wake()

    async def around_child(self, path: str) -> tuple[Account, ...]:
        """Return what a child at `path` draws on beside its own, once each has a row.

        Raises:
            Fenced, StoreError: one has none.
        """
        if not self.accounts.ledgers.limits_children(path):
            return ()
        if self.shared is None:
            self.share()
        assert self.shared is not None
        return await self.shared.around_child(path)

    def give(self, path: str, budget: Budget) -> None:
        """Open an account for what is called at `path` and beneath it, unless there is one."""
        if path in self.accounts.ledgers.of_calls or not self.lookup.rules.live:
            return
        self.append(BudgetGiven(path, wall_clock(), *limits_of(budget)))

    async def enter(self, path: str, tool: str, arguments: dict[str, Json]) -> dict[str, Json]:
        tools = self.entered.get(path.rpartition("/")[0])
        if tools is None:
            raise asyncio.CancelledError  # the agent's call is over
        return await tools.enter(path, tool, arguments)

    async def complete(self, path: str, call: CallKind, data: dict[str, Json]) -> None:
        await self.write_end_down(call, data)
        self.attempts.of(path, call)
        self.record_result(path, call, data)

    async def write_end_down(self, call: CallKind, data: dict[str, Json]) -> None:
        """Write down what is big of a call's end, so that the event loop is not held to record it.

        Raises:
            StoreError: the store failed.
        """
        if call in GIVES and is_big(part := data.get(GIVES[call])):
            await self.write_down(part)

    async def write_down(self, part: Json) -> None:
        """Write down a big part of an event that is about to be appended."""
        await self.around.writer.write_down(self._open, part)

    async def passed_on(self, codec: Codec, value: object) -> tuple[Json, Any]:
        """Return a big value as an event is to hold it, and the copy that goes on in its place.

        Raises:
            OutputInvalid: it cannot be stored.
            StoreError: the store failed.
        """
        return await self.around.writer.passed_on(self._open, codec, value)

    async def encoded(self, codec: Codec, value: object) -> Json:
        """Return the same without the copy."""
        return await self.around.writer.encoded(self._open, codec, value)

    def record_result(self, path: str, call: CallKind, data: dict[str, Json]) -> None:
        """Record what came of a call."""
        if call in ("function", "value"):
            record = self.records.get(path)
            data = {**data, "fingerprint": record.fingerprint if record else ""}
        self.append(CallCompleted(path, call, data))

    async def fail(
        self,
        path: str,
        call: CallKind,
        error: Failure,
        usage: dict[str, int] | None = None,
        swallowed: int | None = None,
    ) -> None:
        self.attempts.of(path, call)
        if call == "child" and (child := self.children.pop(path, None)) is not None:
            usage = self.around.children.usage(child)
        self.append(CallFailed(path, call, error, usage, swallowed))

    async def mark_unknown(self, path: str, call: CallKind) -> None:
        self.attempts.of(path, call)
        self.append(CallUnknown(path, call))

    async def emit_text(self, path: str, text: str) -> None:
        self.attempts.of(path, "model")
        is_first = not self.records.has_streamed(path)
        self.append(TextEmitted(path, text, streamed=True))
        if is_first:
            self.around.writer.hasten()  # somebody waits for the first word

    async def discard_text(self, path: str) -> None:
        if self.records.has_streamed(path):
            self.append(TextDiscarded(path))

    async def note_progress(self, path: str, text: str) -> None:
        self.progress(path, text)

    def cancelled(self, path: str, call: CallKind) -> None:
        """Record that the code of the run, or its end, cancelled a call, and that it has ended."""
        record = self.records.get(path)
        if record is None or not record.is_ended:
            self.append(CallCancelled(path, call, by_end=self.end is not None))

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

    def note(self, name: str, text: str, scope: str) -> Note:
        """Return a note of this run's, as it is written now."""
        thread = self.around.conversation_of(self.row)
        return Note(name, self.row.tenant, scope, text, self.run_id, thread, wall_clock())

    async def change_notes(self, path: str, value: Json, change: NoteChange) -> None:
        """Change notes in the commit of the end of the call at `path`.

        Raises:
            Diverged: nothing outside may be changed here.
            Fenced, StoreError: the run is not driven here any more.
        """
        attempt = self.attempts.of(path, "value")
        if not self.lookup.rules.effects:
            asked = type(change).__name__.lower()
            raise self.lookup.not_recorded(
                path, f"a change of notes: {asked}", effects_refused=True
            )
        if self.end is not None:
            await attempt.until_closed()
        self.around.writer.change_notes(self._open, change)
        self.record_result(path, "value", {"value": value})

    async def find_notes(
        self, path: str, scopes: Sequence[str], words: str, limit: int
    ) -> list[Note]:
        """Find notes, also those that this run has written, and record them.

        Raises:
            Fenced, StoreError: the run is not driven here any more.
        """
        await self.around.writer.durable(self._open)
        found = self.around.read_notes(self.row.tenant, scopes, words, limit)
        self.attempts.of(path, "value")
        self.record_result(path, "value", {"value": [asdict(note) for note in found]})
        return found

    def thread(self) -> Thread:
        """Return the conversation before this turn; nothing in it changes while the run goes on."""
        if self._thread is None:
            self._thread = self.around.read_thread(self.row)
        return self._thread
