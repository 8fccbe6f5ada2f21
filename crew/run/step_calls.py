"""The calls of one attempt of a step: what its context and its agents ask of the run."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NoReturn, TypeVar

from crew.budget import Allowance, Amount, Budget, BudgetLeft
from crew.call.attempt import Attempt
from crew.call.gate import Order, overdue
from crew.call.invoke import on_loop
from crew.call.record import AgentTask, Performer
from crew.call.thread_view import ThreadView
from crew.clock import wait_until, wall_clock
from crew.errors import Diverged, Fenced, RuntimeLeft, StoreError
from crew.event import CallCompleted, CallKind, Failure
from crew.fold.calls import Record
from crew.graph import Workflow
from crew.journal import Busy
from crew.journal.notes import Forget, Note
from crew.message import Json, Message
from crew.run.calls import GIVES, RunCalls
from crew.run.deadline import AGAIN_SECONDS, Deadline
from crew.run.dispatch import Dispatch
from crew.run.thread_views import view_of
from crew.thread import Thread
from crew.value import Codec, is_big
from crew.value.changes import joined

T = TypeVar("T")

_ENDS_RUN = (Diverged, Fenced, RuntimeLeft, StoreError)
"""Errors of a call that are of its run: see `StepCalls`."""


class StepCalls:
    """Lets one attempt of a step call, as long as neither it nor the run is over.

    What ends the run, such as a divergence, is not raised into the user's code, which might catch
    it and go on: the run is stopped, and with it whoever called.

    Args:
        run: the run's calls.
        dispatch: has agents' work done.
        attempt: whose calls these are.
        stop: stops the run for an error, which cancels the attempt.
        depth: how many tools that hold the run are around the code that calls.
    """

    def __init__(
        self,
        run: RunCalls,
        dispatch: Dispatch,
        attempt: Attempt,
        stop: Callable[[Exception], None],
        depth: int = 0,
    ) -> None:
        self.run_id = run.run_id
        self.thread_id = run.row.thread
        self.tenant = run.row.tenant
        self.epoch = run.row.epoch
        self.attempt = attempt
        self._run = run
        self._dispatch = dispatch
        self._stop = stop
        self._depth = depth

    async def begin(
        self, path: str, call: CallKind, fingerprint: str, data: dict[str, Json]
    ) -> Record | None:
        if self.is_stopping:
            await self.attempt.until_closed()
        try:
            return await self._run.begin(path, call, fingerprint, data)
        except _ENDS_RUN as error:
            await self._stopped(error)

    def begin_at_once(self, path: str, call: CallKind, fingerprint: str) -> Record | None:
        if self.is_stopping or self.attempt.forgotten:
            return None
        return self._run.begin_at_once(path, call, fingerprint)

    async def restart(
        self, path: str, call: CallKind, fingerprint: str, data: dict[str, Json]
    ) -> None:
        await self._require_running()
        await self._or_stop(self._run.restart(path, call, fingerprint, data))

    async def allowance(self, path: str, needed: Amount) -> Allowance | None:
        await self._require_running()
        return await self._run.allowance(path, needed)

    async def is_due(self, path: str) -> bool:
        await self._require_running()
        return await self._run.is_due(path)

    async def complete(self, path: str, call: CallKind, data: dict[str, Json]) -> None:
        self._require_open()
        if call in GIVES and is_big(data.get(GIVES[call])):
            await self._or_stop(self._run.write_end_down(call, data))
            self._require_open()
        self._run.record_result(path, call, data)

    async def passed_on(self, codec: Codec, value: object) -> tuple[Json, Any]:
        return await self._or_stop(self._run.passed_on(codec, value))

    async def encoded(self, codec: Codec, value: object) -> Json:
        return await self._or_stop(self._run.encoded(codec, value))

    async def fail(
        self,
        path: str,
        call: CallKind,
        error: Failure,
        usage: dict[str, int] | None = None,
        swallowed: int | None = None,
    ) -> None:
        self._require_open()
        await self._or_stop(self._run.fail(path, call, error, usage, swallowed))

    async def mark_unknown(self, path: str, call: CallKind) -> None:
        self._require_open()
        await self._or_stop(self._run.mark_unknown(path, call))

    async def emit_text(self, path: str, text: str) -> None:
        await self._require_running()
        await self._or_stop(self._run.emit_text(path, text))

    async def discard_text(self, path: str) -> None:
        await self._require_running()
        await self._or_stop(self._run.discard_text(path))

    async def note_progress(self, path: str, text: str) -> None:
        await self._require_running()
        await self._or_stop(self._run.note_progress(path, text))

    def order_of(self, path: str) -> Order:
        """Return the order in which what came of the call at `path` is handed out."""
        return self._run.lookup.order_of(path)

    async def turn(self, path: str) -> None:
        """Return when what came of the call at `path` may be handed to the step's code."""
        await self.attempt.turn(self.order_of(path))

    async def cancelled(self, path: str, call: CallKind) -> None:
        """Record that the step's code cancelled a call, and return when its end is handed out.

        An end of the run in this process alone is no end of the call: it will be made again.
        """
        self._require_open()
        end = self._run.end
        if end is None or end.is_final:
            self._run.cancelled(path, call)
            await self.turn(path)

    async def until_cancelled(self, path: str) -> NoReturn:
        """Wait for the cancel that is on record of the call at `path`, until its turn."""
        run, recorded = self.run_id, "a call that the code cancelled"
        error = Diverged(run=run, path=path, recorded=recorded, asked="no cancel of it")
        try:
            await self._run.waits.until_cancelled(path, error, self.attempt)
        except asyncio.CancelledError:
            await self.turn(path)
            raise

    def has_streamed(self, path: str) -> bool:
        return self._run.records.has_streamed(path)

    def confirm(self) -> None:
        self._run.confirm()

    @property
    def deps(self) -> Any:
        return self._run.deps

    def thread(self) -> Thread:
        return on_loop(self._run.loop, self._run.thread)

    def spoken(self, run: int, agent: str) -> tuple[Message, ...]:
        return on_loop(self._run.loop, lambda: self._run.around.read_spoken(run, agent))

    def thread_view(self) -> ThreadView:
        if self.attempt.thread is not None:
            return self.attempt.thread
        return on_loop(self._run.loop, lambda: view_of(self._run, self.attempt))

    async def write_note(self, path: str, name: str, text: str, scope: str) -> None:
        await self._require_running()
        change = self._run.note(name, text, scope)
        await self._or_stop(self._run.change_notes(path, name, change))

    async def forget_notes(
        self, path: str, *, note: str | None, scope: str | None, run: str | None
    ) -> None:
        await self._require_running()
        change = Forget(self.tenant, note, scope, run)
        await self._or_stop(self._run.change_notes(path, None, change))

    async def find_notes(
        self, path: str, scopes: Sequence[str], words: str, limit: int
    ) -> list[Note]:
        await self._require_running()
        return await self._or_stop(self._run.find_notes(path, scopes, words, limit))

    def is_function(self, path: str) -> bool:
        record = self._run.records.get(path)
        return record is not None and record.call == "function"

    def metadata(self) -> dict[str, Json]:
        run = self._run
        return on_loop(run.loop, lambda: run.around.read_metadata(run.row))

    def emit(self, path: str, text: str) -> None:
        if not self.is_stopping:
            on_loop(self._run.loop, lambda: self._run.emit(path, text))

    def progress(self, path: str, text: str) -> None:
        if not self.is_stopping:
            on_loop(self._run.loop, lambda: self._run.progress(path, text))

    async def answer(self, path: str, codec: Codec) -> Json:
        await self._require_running()
        return await self._run.answer(path, codec)

    async def approval(self, path: str) -> Json:
        await self._require_running()
        return await self._run.approval(path)

    async def rests(self, path: str, calls: Sequence[str]) -> None:
        await self._run.rests(path, calls)

    async def sleep_until(self, path: str, until: float) -> None:
        await self._require_running()
        with self._run.waits.waiting(path, until, self.attempt):
            if self.attempt.is_reentered and until < wall_clock():
                await self.attempt.gate.turn(overdue(until))
            else:
                await wait_until(until)
            await self._after_letters(until)
        self._require_open()
        self._run.append(CallCompleted(path, "timer", {}))

    async def _after_letters(self, until: float) -> None:
        """Return once what was posted by a time that has come has been taken."""
        came = True
        while came:
            try:
                came = self._run.hand_out(before=until)
            except (StoreError, Busy):
                await wait_until(wall_clock() + AGAIN_SECONDS)
            else:
                if came:
                    await self.attempt.gate.turn(overdue(until))

    async def deadline(
        self, path: str, seconds: float, strike: Callable[[], None], *, driven: bool
    ) -> Callable[[], None]:
        await self._require_running()
        deadline = Deadline(self._run, self.attempt, path, strike)
        try:
            deadline.begin(seconds, driven=driven)
        except (Diverged, Fenced, StoreError) as error:
            await self._stopped(error)
        return deadline.end

    def standing_in(self, agent: Performer) -> Performer:
        return self._dispatch.standing_in(agent)

    def performer_at(self, path: str) -> str | None:
        record = self._run.lookup.recorded_at(path)
        return None if record is None else record.data.get("agent")

    async def agent(self, agent: Performer, path: str, fingerprint: str) -> Record | None:
        if self.is_stopping:
            await self.attempt.until_closed()
        try:
            return await self._dispatch.recorded(agent, path, fingerprint)
        except _ENDS_RUN as error:
            await self._stopped(error)

    async def perform(self, agent: Performer, task: AgentTask, fingerprint: str) -> dict[str, Json]:
        if self.is_stopping:
            await self.attempt.until_closed()
        self.attempt.performs(task.path)
        try:
            if getattr(agent, "holds_run", False):
                result = await self._holding(agent, task, fingerprint)
            else:
                result = await self._dispatch.perform(agent, task, fingerprint, self)
            await self._run.write_end_down("agent", result)
            return result
        except _ENDS_RUN as error:
            await self._stopped(error)
        except BaseException:
            self._withdraw_questions(task.path)
            raise
        finally:
            self.attempt.performed(task.path)

    def _withdraw_questions(self, path: str) -> None:
        """Close what the agent at `path` asks, whose task has ended without an answer.

        Where the run is only let go, its questions stay: whoever goes on with it asks them, too.
        """
        end = self._run.end
        if not self.attempt.is_over and (end is None or end.is_final):
            for question in self._run.records.asked_within(path):
                self._run.cancelled(question, "ask")

    async def _holding(
        self, agent: Performer, task: AgentTask, fingerprint: str
    ) -> dict[str, Json]:
        """Have a task done by an agent of which some tools hold the run."""
        from crew.run.entering import EnteredTools  # most agents need none

        attempt, path = self.attempt, task.path
        tools = EnteredTools(agent, attempt, self._run.attempts, self._inside, self._depth)
        self._run.entered[path] = attempt.entered[path] = tools
        try:
            result = await self._dispatch.perform(agent, task, fingerprint, self)
            changes = joined(self._run.thread_changes.within(path), result.get("thread", {}))
            return {**result, "thread": changes} if changes else result
        finally:
            try:
                await tools.leave()
            finally:
                del attempt.entered[path], self._run.entered[path]

    def _inside(self, attempt: Attempt) -> "StepCalls":
        return StepCalls(self._run, self._dispatch, attempt, self._stop, self._depth + 1)

    async def enter(self, path: str, tool: str, arguments: dict[str, Json]) -> dict[str, Json]:
        await self._require_running()
        return await self._run.enter(path, tool, arguments)

    async def child(self, workflow: Workflow, value: object, path: str) -> dict[str, Json]:
        await self._require_running()
        run = self._run
        above = await self._or_stop(run.around_child(path))
        until = run.accounts.ledgers.until(path)
        children = run.around.children
        try:
            child = await self._or_stop(
                children.start(run.row, path, workflow, value, above=above, until=until)
            )
            run.children[path] = child
            result = await self._or_stop(children.result(child))
            await self._or_stop(run.write_end_down("child", result))
            return result
        except asyncio.CancelledError:
            # Whoever goes on with a run that is let go needs its children, too.
            if run.end is None or run.end.is_final:
                await self._or_stop(run.around.children.cancel(run.row, path))
            raise

    def budget_left(self, path: str) -> BudgetLeft:
        return self._run.spending.budget_left(path)

    def limits_amounts(self, path: str) -> bool:
        return self._run.accounts.ledgers.limits_amounts(path)

    def give(self, path: str, budget: Budget) -> None:
        """Let what is called at `path` and beneath it spend so much at most."""
        if not self.is_stopping:
            self._run.give(path, budget)

    def diverge(self, error: Diverged) -> None:
        """Stop the run, since its code is not that of its journal."""
        self._stop(error)

    @property
    def is_stopping(self) -> bool:
        """Whether nothing new may begin: the attempt is over, or the run is about to end here."""
        return self.attempt.is_over or self._run.end is not None

    async def _require_running(self) -> None:
        """Let nothing new begin in what is over, or about to be.

        The cancel that is on its way to the caller arrives here; one that the code ignored before
        is raised again at the end of the attempt.
        """
        if self.is_stopping:
            await self.attempt.until_closed()

    def _require_open(self) -> None:
        if self.attempt.is_over:
            raise asyncio.CancelledError

    async def _or_stop(self, work: Awaitable[T]) -> T:
        try:
            return await work
        except _ENDS_RUN as error:
            await self._stopped(error)

    async def _stopped(self, error: Exception) -> NoReturn:
        self._stop(error)
        # The cancel that follows arrives here, if the task was not cancelled before.
        await self.attempt.until_closed()
