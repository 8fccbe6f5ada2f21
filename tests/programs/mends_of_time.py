"""Mends of time as data: rule 10."""

from typing import Any

import crew.run.letters
from crew.clock import wall_clock
from crew.fold.deadlines import Deadlines
from crew.journal import Letter
from crew.run.deadline import Deadline
from tests.programs.mends import Patch, mend


@mend(10, "a deadline begins anew where its run is taken")
def _begins_anew(patch: Patch) -> None:
    until = Deadlines.until

    def anew(self: Deadlines, path: str) -> float:
        return max(until(self, path), wall_clock() + 1000.0)

    patch.setattr(Deadlines, "until", anew)


@mend(10, "that a deadline has passed is not on record")
def _not_recorded(patch: Patch) -> None:
    def passes(self: Any) -> None:
        self._run.waits.over(self._path)
        self._strike()

    patch.setattr(Deadline, "_pass", passes)


@mend(10, "an answer counts from when it is taken")
def _judged_when_taken(patch: Patch) -> None:
    def is_later(letter: Letter, before: float | None) -> bool:
        return before is not None and letter.kind != "cancel" and wall_clock() > before

    patch.setattr(crew.run.letters, "_is_later", is_later)


@mend(10, "an answer counts whenever it was posted")
def _never_too_late(patch: Patch) -> None:
    patch.setattr(crew.run.letters, "_is_later", lambda letter, before: False)
