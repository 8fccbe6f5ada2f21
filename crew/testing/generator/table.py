"""Many points, counted: how many were right, what was wrong, and what the programs had in them."""

from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from crew.testing.generator import tree_of
from crew.testing.generator.points import Point, Stores, Subject, Wrong

SIGHTS = (
    "two branches in flight",
    "an act in flight",
    "a child in flight",
    "a retry",
    "a race on first completion",
    "a timeout that strikes",
    "a timeout that does not",
    "a journalled sleep",
    "a question in time",
    "a question too late",
    "a late letter",
    "a failing commit",
    "a budget",
    "a budget that is exhausted",
    "a tool that holds the run",
    "an agent that asks an agent",
)


@dataclass(slots=True)
class Table:
    """Counts of programs and points; two of them may be added up."""

    programs: int = 0
    points: int = 0
    wrong: Counter[str] = field(default_factory=Counter)
    saw: Counter[str] = field(default_factory=Counter)
    examples: dict[str, Wrong] = field(default_factory=dict)

    def add(self, points: Iterable[Point]) -> Iterator[Wrong]:
        """Count the points of one program, and yield what was wrong at them."""
        self.programs += 1
        saw = set[str]()
        for point in points:
            self.points += 1
            self.saw.update(point.saw - saw)
            saw |= point.saw
            if point.wrong is not None:
                self.wrong[point.wrong.kind] += 1
                self.examples.setdefault(point.wrong.kind, point.wrong)
                yield point.wrong

    def merge(self, other: "Table") -> None:
        self.programs += other.programs
        self.points += other.points
        self.wrong += other.wrong
        self.saw += other.saw
        self.examples = other.examples | self.examples

    def __str__(self) -> str:
        bad = self.wrong.total()
        lines = [
            f"{self.points} points of {self.programs} programs: {self.points - bad} right, "
            f"{bad} wrong ({bad / max(1, self.points):.1%})"
        ]
        lines += [f"  {count:6} {kind}" for kind, count in self.wrong.most_common()]
        lines += [
            f"  {self.saw[s] / max(1, self.programs):6.1%} of the programs: {s}" for s in SIGHTS
        ]
        for kind, wrong in self.examples.items():
            how = f" --how {wrong.how}" if wrong.how else ""
            place = f"--seed {wrong.seed} --event {wrong.event}{how}"
            lines.append(f"  {kind}, as at {place}: {wrong.detail:.200}")
        return "\n".join(lines)


def count(seeds: Iterable[int], stores: Callable[[int], Stores]) -> Table:
    """Count the points of the programs that are grown from these seeds."""
    table = Table()
    for seed in seeds:
        subject = Subject(tree_of(seed), seed, stores=stores(seed))
        deque(table.add(subject.points()), maxlen=0)
    return table
