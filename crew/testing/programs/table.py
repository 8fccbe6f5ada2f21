"""Many points, counted: how many were right, what was wrong, and what the programs had in them."""

import logging
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from crew.testing.programs import tree_of
from crew.testing.programs.points import Point, Subject, Wrong

PROGRAMS_A_TASK = 20
SIGHTS = (
    "two branches in flight",
    "an act in flight",
    "a child in flight",
    "a retry",
    "a race on first completion",
)


@dataclass(slots=True)
class Table:
    """Counts of programs and points; two of them may be added up."""

    programs: int = 0
    points: int = 0
    wrong: Counter[str] = field(default_factory=Counter)
    saw: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[Wrong]] = field(default_factory=dict)

    def add(self, points: Iterable[Point]) -> None:
        """Count the points of one program."""
        saw = set[str]()
        self.programs += 1
        for point in points:
            self.points += 1
            saw |= point.saw
            if point.wrong is not None:
                self.wrong[point.wrong.kind] += 1
                self.examples.setdefault(point.wrong.kind, []).append(point.wrong)
        self.saw.update(saw)

    def merge(self, other: "Table") -> None:
        self.programs += other.programs
        self.points += other.points
        self.wrong += other.wrong
        self.saw += other.saw
        for kind, wrongs in other.examples.items():
            self.examples.setdefault(kind, []).extend(wrongs)

    def __str__(self) -> str:
        bad = self.wrong.total()
        lines = [
            f"{self.points} points of {self.programs} programs: {self.points - bad} right, "
            f"{bad} wrong ({bad / max(1, self.points):.1%})"
        ]
        lines += [f"  {count:6} {kind}" for kind, count in self.wrong.most_common()]
        lines += [f"  {self.saw[s] / max(1, self.programs):6.1%} of the programs: {s}" for s in SIGHTS]
        for kind, wrongs in self.examples.items():
            first = wrongs[0]
            lines.append(
                f"  {kind}: --seed {first.seed} --event {first.event}"
                f"{f' --how {first.how}' if first.how else ''}: {first.detail:.200}"
            )
        return "\n".join(lines)


def count(first: int) -> Table:
    """Count the points of the programs from seed `first` on, `PROGRAMS_A_TASK` of them."""
    logging.disable(logging.CRITICAL)
    table = Table()
    for seed in range(first, first + PROGRAMS_A_TASK):
        table.add(Subject(tree_of(seed), seed).points())
    return table
