"""How soon random programs notice that one of the core's mends is gone.

Each entry of the table takes out one thing that a rule of the core asks for, as a change of the
loaded code alone, and its programs are gone through until the first point that is wrong.

python -m tests.programs.without 3 6 --points 2000
"""

import argparse
import asyncio
import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

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
from crew.testing.programs import tree_of
from crew.testing.programs.points import Point, Subject
from crew.value import Codec

Patch = pytest.MonkeyPatch
POINTS = 2000
"""Within so many points each must be noticed."""


@dataclass(frozen=True, slots=True)
class Mend:
    """One thing that the core does; `rule` is its number in the issue."""

    rule: int
    what: str
    """What happens once it is gone."""
    take_out: Callable[[Patch], None]

    def __str__(self) -> str:
        return f"{self.rule}: {self.what}"


MENDS: list[Mend] = []


def _mend(rule: int, what: str) -> Callable[[Callable[[Patch], None]], Callable[[Patch], None]]:
    def add(take_out: Callable[[Patch], None]) -> Callable[[Patch], None]:
        MENDS.append(Mend(rule, what, take_out))
        return take_out

    return add


@contextmanager
def without(mend: Mend) -> Iterator[None]:
    """A block in which one mend is gone."""
    with Patch.context() as patch:
        mend.take_out(patch)
        yield


@_mend(1, "what came is handed out at once")
def _no_order(patch: Patch) -> None:
    async def turn(self: Gate, order: Any, swallows: int = 0) -> None:
        """Nobody waits."""

    patch.setattr(Gate, "turn", turn)


@_mend(1, "what came is handed out in the order in which it was asked for")
def _arrival_order(patch: Patch) -> None:
    turn = Gate.turn

    async def in_arrival(self: Gate, order: Any, swallows: int = 0) -> None:
        await turn(self, order if order >= LAST else 0, swallows)

    patch.setattr(Gate, "turn", in_arrival)


@_mend(1, "a cancel that a call swallowed is raised on replay")
def _raise_swallowed(patch: Patch) -> None:
    turn = Gate.turn

    async def raising(self: Gate, order: Any, swallows: int = 0) -> None:
        await turn(self, order)

    patch.setattr(Gate, "turn", raising)


@_mend(2, "tasks of the library are numbered with those of the step")
def _library_in_scope(patch: Patch) -> None:
    for module in (crew.call.context, crew.call.effect):
        patch.setattr(module, "Inside", lambda what: SCOPE.get())
    patch.setattr(crew.call.lineage, "_name_of", lambda coroutine: "task")


@_mend(2, "keys and positions share their names")
def _one_namespace(patch: Patch) -> None:
    patch.setattr(crew.call.context, "as_key", as_part)


@_mend(3, "an act that was forgotten stops no new one")
def _no_check_of_forgotten(patch: Patch) -> None:
    async def after_forgotten(self: Attempts, attempt: Attempt, path: str, asked: str) -> None:
        await attempt.gate.turn(LAST)

    patch.setattr(Attempts, "after_forgotten", after_forgotten)


def _keep_leftovers(patch: Patch) -> None:
    async def end(self: StepRun) -> None:
        self.attempt.leave_root()

    patch.setattr(StepRun, "_end", end)


@_mend(4, "tasks that a step leaves go on")
def _leftovers(patch: Patch) -> None:
    _keep_leftovers(patch)


@_mend(4, "they do, and nothing refuses what they write behind the run's end")
def _behind_the_end(patch: Patch) -> None:
    _keep_leftovers(patch)
    append = Writer.append

    def append_anyhow(self: Writer, run: OpenRun, event: Any, status: Any = None) -> int:
        run.is_ended = False
        return append(self, run, event, status)

    patch.setattr(Writer, "append", append_anyhow)
    patch.setattr(rules, "OPEN", ("running", "waiting", "completed", "failed"))


@_mend(5, "a run that is let go cancels its children")
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


@_mend(5, "calls of a run that is let go are recorded as cancelled")
def _leaving_is_a_cancel(patch: Patch) -> None:
    async def cancelled(self: StepCalls, path: str, call: Any) -> None:
        record = self._run.records.get(path)
        if record is None or not record.is_ended:
            self._run.append(CallCancelled(path, call))
        await self.turn(path)

    patch.setattr(StepCalls, "cancelled", cancelled)


@_mend(6, "an owner that left counts as one that died")
def _leaving_is_dying(patch: Patch) -> None:
    def has_died(row: Any, *, proven: bool, me: str) -> bool:
        return proven and row.status == "running"

    patch.setattr(crew.run.suspects, "has_died", has_died)
    patch.setattr(crew.run.taking, "has_died", has_died)


@_mend(6, "a run that ends its owners is never parked")
def _never_parked(patch: Patch) -> None:
    patch.setattr(crew.run.suspects, "deaths_of", lambda store, row, *, died: 0)


@_mend(7, "an error on record comes back as RunFailed")
def _errors_by_name(patch: Patch) -> None:
    def error_of(failure: Any, *near: object) -> BaseException:
        kind, said = failure.type, failure.message
        return RunFailed(path=failure.path, cause_type=kind, cause_message=said)

    patch.setattr(crew.call.record, "error_of", error_of)


@_mend(8, "an effect whose result cannot be stored has failed, and is made again")
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


@_mend(9, "calls get their arguments themselves, not copies")
def _arguments_shared(patch: Patch) -> None:
    for module in (crew.call.context, crew.call.effect):
        patch.setattr(
            module, "with_own_arguments", lambda function, arguments: (function, arguments)
        )


@_mend(9, "the original of a result goes on, not the copy of what was stored")
def _originals(patch: Patch) -> None:
    passed_on = Codec.passed_on
    patch.setattr(Codec, "passed_on", lambda self, value: (passed_on(self, value)[0], value))


@_mend(9, "a result is not compared with what would come back")
def _not_compared(patch: Patch) -> None:
    def passed_on(self: Codec, value: object) -> tuple[Any, Any]:
        stored = self.encode(value)
        return stored, value

    patch.setattr(Codec, "passed_on", passed_on)


@dataclass(frozen=True, slots=True)
class Found:
    """After how many points a mend was missed; `point` is the wrong one, or None."""

    points: int
    point: Point | None


def points_until_red(mend: Mend, *, most: int = POINTS, first: int = 0) -> Found:
    """Go through random programs without a mend, until a point is wrong."""
    with without(mend):
        points = (
            point
            for seed in itertools.count(first)
            for point in Subject(tree_of(seed), seed).points()
        )
        for number, point in enumerate(itertools.islice(points, most), 1):
            if point.wrong is not None:
                return Found(number, point)
    return Found(most, None)


def main() -> int:
    """Print a line for each mend; return 0 if all were missed, else 1."""
    parser = argparse.ArgumentParser(prog="python -m tests.programs.without", description=__doc__)
    parser.add_argument("rules", type=int, nargs="*", metavar="RULE", help="all by default")
    parser.add_argument("--points", type=int, default=POINTS, help="at most, for each")
    parser.add_argument("--first", type=int, default=0, help="the first program's seed")
    options = parser.parse_args()
    print(f"{'rule':>4} {'points':>6}  {'kind':8} {'--seed --event --how':22} without it")
    unseen = 0
    for mend in MENDS:
        if not options.rules or mend.rule in options.rules:
            found = points_until_red(mend, most=options.points, first=options.first)
            unseen += found.point is None
            print(_line(mend, found), flush=True)
    return 1 if unseen else 0


def _line(mend: Mend, found: Found) -> str:
    point = found.point
    if point is None or point.wrong is None:
        return f"{mend.rule:4} {found.points:6}  unseen   {'':22} {mend.what}"
    place = f"{point.seed} {point.event} {point.how or ''}"
    return f"{mend.rule:4} {found.points:6}  {point.wrong.kind:8} {place:22} {mend.what}"


if __name__ == "__main__":
    raise SystemExit(main())
