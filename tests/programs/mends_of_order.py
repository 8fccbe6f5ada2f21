"""Mends of order, places, acts, tasks, ends, deaths, errors and values: rules 1 to 9."""

import asyncio
from typing import Any

import crew.call.context
import crew.call.effect
import crew.call.lineage
import crew.call.record
import crew.run.suspects
import crew.run.taking
from crew.call.attempt import Attempt
from crew.call.gate import LAST, Gate
from crew.call.lineage import SCOPE, as_part
from crew.errors import RunFailed
from crew.event import CallCancelled
from crew.failure import failure_of
from crew.journal import rules
from crew.journal.writer import OpenRun, Writer
from crew.run.attempts import Attempts
from crew.run.step_calls import StepCalls
from crew.run.step_run import StepRun
from crew.value import Codec
from tests.programs.mends import Patch, mend


@mend(1, "what came is handed out at once")
def _no_order(patch: Patch) -> None:
    async def turn(self: Gate, order: Any, swallows: int = 0) -> None:
        """Nobody waits."""

    patch.setattr(Gate, "turn", turn)


@mend(1, "what came is handed out in the order in which it was asked for")
def _arrival_order(patch: Patch) -> None:
    turn = Gate.turn

    async def in_arrival(self: Gate, order: Any, swallows: int = 0) -> None:
        await turn(self, order if order >= LAST else 0, swallows)

    patch.setattr(Gate, "turn", in_arrival)


@mend(1, "a cancel that a call swallowed is raised on replay")
def _raise_swallowed(patch: Patch) -> None:
    turn = Gate.turn

    async def raising(self: Gate, order: Any, swallows: int = 0) -> None:
        await turn(self, order)

    patch.setattr(Gate, "turn", raising)


@mend(2, "tasks of the library are numbered with those of the step")
def _library_in_scope(patch: Patch) -> None:
    for module in (crew.call.context, crew.call.effect):
        patch.setattr(module, "Inside", lambda what: SCOPE.get())
    patch.setattr(crew.call.lineage, "_name_of", lambda coroutine: "task")


@mend(2, "keys and positions share their names", first=60)
def _one_namespace(patch: Patch) -> None:
    patch.setattr(crew.call.context, "as_key", as_part)


@mend(3, "an act that was forgotten stops no new one")
def _no_check_of_forgotten(patch: Patch) -> None:
    async def after_forgotten(self: Attempts, attempt: Attempt, path: str, asked: str) -> None:
        await attempt.gate.turn(LAST)

    patch.setattr(Attempts, "after_forgotten", after_forgotten)


def _keep_leftovers(patch: Patch) -> None:
    async def end(self: StepRun) -> None:
        self.attempt.leave_root()

    patch.setattr(StepRun, "_end", end)


@mend(4, "tasks that a step leaves go on")
def _leftovers(patch: Patch) -> None:
    _keep_leftovers(patch)


@mend(4, "they do, and nothing refuses what they write behind the run's end")
def _behind_the_end(patch: Patch) -> None:
    _keep_leftovers(patch)
    append = Writer.append

    def append_anyhow(self: Writer, run: OpenRun, event: Any, status: Any = None) -> int:
        run.is_ended = False
        return append(self, run, event, status)

    patch.setattr(Writer, "append", append_anyhow)
    patch.setattr(rules, "OPEN", ("running", "waiting", "completed", "failed"))


@mend(5, "a run that is let go cancels its children")
def _cancels_children(patch: Patch) -> None:
    child = StepCalls.child

    async def cancelling(self: StepCalls, workflow: Any, value: object, path: str) -> Any:
        try:
            return await child(self, workflow, value, path)
        except asyncio.CancelledError:
            children: Any = self._run.around.children
            await children._cancel(self._run.row, path)
            raise

    patch.setattr(StepCalls, "child", cancelling)


@mend(5, "calls of a run that is let go are recorded as cancelled")
def _leaving_is_a_cancel(patch: Patch) -> None:
    async def cancelled(self: StepCalls, path: str, call: Any) -> None:
        record = self._run.records.get(path)
        if record is None or not record.is_ended:
            self._run.append(CallCancelled(path, call))
        await self.turn(path)

    patch.setattr(StepCalls, "cancelled", cancelled)


@mend(6, "an owner that left counts as one that died")
def _leaving_is_dying(patch: Patch) -> None:
    def has_died(row: Any, *, proven: bool, me: str) -> bool:
        return proven and row.status == "running"

    patch.setattr(crew.run.suspects, "has_died", has_died)
    patch.setattr(crew.run.taking, "has_died", has_died)


@mend(6, "a run that ends its owners is never parked")
def _never_parked(patch: Patch) -> None:
    patch.setattr(crew.run.suspects, "deaths_of", lambda store, row, *, died: 0)


@mend(7, "an error on record comes back as RunFailed")
def _errors_by_name(patch: Patch) -> None:
    def error_of(failure: Any, *near: object) -> BaseException:
        kind, said = failure.type, failure.message
        return RunFailed(path=failure.path, cause_type=kind, cause_message=said)

    patch.setattr(crew.call.record, "error_of", error_of)


@mend(8, "an effect whose result cannot be stored has failed, and is made again")
def _unstorable_is_failed(patch: Patch) -> None:
    record = crew.call.effect.Effect._record

    async def recorded(self: crew.call.effect.Effect, acting: "asyncio.Future[Any]") -> Any:
        if acting.exception() is None:
            try:
                self._codec.passed_on(acting.result())
            except Exception as error:
                failure = failure_of(error, self._path)
                await self._driver.fail(self._path, "effect", failure)
                raise
        return await record(self, acting)

    patch.setattr(crew.call.effect.Effect, "_record", recorded)


@mend(9, "calls get their arguments themselves, not copies")
def _arguments_shared(patch: Patch) -> None:
    for module in (crew.call.context, crew.call.effect):
        patch.setattr(
            module, "with_own_arguments", lambda function, arguments: (function, arguments)
        )


@mend(9, "the original of a result goes on, not the copy of what was stored")
def _originals(patch: Patch) -> None:
    passed_on = Codec.passed_on
    patch.setattr(Codec, "passed_on", lambda self, value: (passed_on(self, value)[0], value))


@mend(9, "a result is not compared with what would come back")
def _not_compared(patch: Patch) -> None:
    def passed_on(self: Codec, value: object) -> tuple[Any, Any]:
        stored = self.encode(value)
        return stored, value

    patch.setattr(Codec, "passed_on", passed_on)
