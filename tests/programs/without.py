"""How soon random programs notice that one of the core's mends is gone.

The programs are gone through without it until the first point that is wrong.

python -m tests.programs.without 3 6 --points 2000
"""

import argparse
import itertools
from dataclasses import dataclass

import tests.programs.mends_of_accounts
import tests.programs.mends_of_order
import tests.programs.mends_of_stores
import tests.programs.mends_of_time  # noqa: F401  they are in the table from then on
from crew.testing.generator import tree_of
from crew.testing.generator.points import Point, Subject
from tests.programs.mends import MENDS, Mend, without

POINTS = 2000
"""Within so many points each must be noticed."""


@dataclass(frozen=True, slots=True)
class Found:
    """After how many points a mend was missed; `point` is the wrong one, or None."""

    points: int
    point: Point | None


def points_until_red(mend: Mend, *, most: int = POINTS, first: int | None = None) -> Found:
    """Go through random programs without a mend, until a point is wrong."""
    with without(mend):
        points = (
            point
            for seed in itertools.count(mend.first if first is None else first)
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
    parser.add_argument("--first", type=int, help="the first program's seed")
    options = parser.parse_args()
    print(f"{'rule':>4} {'points':>6}  {'kind':8} {'--seed --event --how':22} without it")
    unseen = 0
    for mend in sorted(MENDS, key=lambda mend: mend.rule):
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
