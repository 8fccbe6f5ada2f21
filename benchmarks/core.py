"""The speed of the core beside that of another checkout of this repository, in one run.

A process of each checkout lives at the same time; they take turns at every piece of work, so that
each figure has its partner moments later. The first turn of a process warms it up and is not
counted. Each round has new processes, with one hash seed for both: how a process's memory happens
to be laid out is worth some percent all its life. A ratio is how many times as long we take: the
median over the pairs, and the least and the most of them. Processor time stands beside wall time,
for busy machines.

    git worktree add ../base b3b91aa
    make bench-core BASE=../base
    python benchmarks/core.py --base ../base [--rounds 8] [--turns 2] [step call …]
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import race

WORKS = ("step", "call", "tasks", "gather", "map", "fan_out", "import", "agent", "value")
ROUNDS = 8
TURNS = 2
ONE_TASK = 1.05
SEVERAL_TASKS = 1.3
MORE_OF_A_VALUE = 1.0
"""Microseconds that a value of two fields may take more than in the other checkout."""
FLAT = 1.15
CLOCKS = ("wall", "cpu")

Figures = dict[str, tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Pair:
    """What one piece of work took in both checkouts, moments apart: wall and processor time."""

    base: tuple[float, float]
    ours: tuple[float, float]

    def ratio(self, clock: int) -> float:
        return self.ours[clock] / self.base[clock]


class Worker:
    """A process of one checkout, which does a piece of work when it is asked to."""

    def __init__(self, checkout: Path, folder: str, seed: int) -> None:
        program = race.FOLDER / "ours" / "core.py"
        self._process = subprocess.Popen(
            [sys.executable, str(program), folder, str(checkout)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=race.environment() | {"PYTHONPATH": str(checkout), "PYTHONHASHSEED": str(seed)},
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.communicate()

    def do(self, work: str) -> Figures:
        """Return what it measured, by name.

        Raises:
            RuntimeError: the process failed; its error stands on stderr.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{work}\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{work} failed")
        return json.loads(line)


def compared(
    base: Path, ours: Path, works: Sequence[str], rounds: int, turns: int
) -> dict[str, list[Pair]]:
    """Return the pairs of every figure, in the order of the works."""
    pairs: dict[str, list[Pair]] = defaultdict(list)
    for number in range(rounds):
        print(f"… round {number + 1} of {rounds}", file=sys.stderr, flush=True)
        with ExitStack() as stack:
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            workers = [
                stack.enter_context(Worker(checkout, folder, number)) for checkout in (base, ours)
            ]
            for work in works:
                for turn in range(turns + 1):
                    # Whoever begins changes, so that a disturbance that fades favours nobody.
                    order = (0, 1) if turn % 2 else (1, 0)
                    done = {worker: workers[worker].do(work) for worker in order}
                    for name, figure in done[0].items() if turn else ():
                        pairs[name].append(Pair(figure, done[1][name]))
    return pairs


def show(pairs: dict[str, list[Pair]]) -> bool:
    """Print the table; return whether every goal is reached."""
    print(
        f"{'microseconds':<38} {'base':>8} {'ours':>8}  {'wall: median (least to most)':<29} "
        f"{'cpu: median (least to most)':<29} wanted"
    )
    reached = True
    for name, found in pairs.items():
        base, ours = (statistics.median(side) for side in _walls(found))
        wanted, missed = _verdict(name, found)
        reached &= not missed
        verdict = f" NOT reached by {' and '.join(missed)}" if missed else ""
        print(
            f"{name:<38} {base:>8.4g} {ours:>8.4g}  {_ratios(found, 0):<29} "
            f"{_ratios(found, 1):<29} {wanted}{verdict}",
            flush=True,
        )
    return _is_flat(pairs) and reached


def _walls(found: Sequence[Pair]) -> tuple[list[float], list[float]]:
    return [pair.base[0] for pair in found], [pair.ours[0] for pair in found]


def _ratios(found: Sequence[Pair], clock: int) -> str:
    ratios = [pair.ratio(clock) for pair in found]
    return f"{statistics.median(ratios):.3f}x ({min(ratios):.2f} to {max(ratios):.2f})"


def _verdict(name: str, found: Sequence[Pair]) -> tuple[str, list[str]]:
    """Return what is wanted, and by which clocks it is missed.

    By wall time alone it is missed where the machine is busy, or where we wait for nothing.
    """
    if name.startswith("a value"):
        more = [
            statistics.median(pair.ours[clock] - pair.base[clock] for pair in found)
            for clock in range(len(CLOCKS))
        ]
        return f"<= +{MORE_OF_A_VALUE:g} us", _missed(more, MORE_OF_A_VALUE)
    several = any(word in name for word in ("two tasks", "gather", "map", "at once"))
    most = SEVERAL_TASKS if several else ONE_TASK
    ratios = [
        statistics.median(pair.ratio(clock) for pair in found) for clock in range(len(CLOCKS))
    ]
    return f"<= {most:g}x", _missed(ratios, most)


def _missed(figures: Sequence[float], most: float) -> list[str]:
    return [clock for clock, figure in zip(CLOCKS, figures, strict=True) if figure > most]


def _is_flat(pairs: dict[str, list[Pair]]) -> bool:
    """Print how a branch's time grows with their number; return whether it hardly does."""
    branches = [found for name, found in pairs.items() if name.startswith("a branch")]
    if len(branches) < 2:
        return True
    few, many = (statistics.median(_walls(found)[1]) for found in branches)
    flat = many / few <= FLAT
    verdict = "" if flat else "NOT reached"
    print(f"a branch of many beside one of few: {many / few:.3f}x; wanted <= {FLAT:g}x {verdict}")
    return flat


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--base", required=True, type=Path, help="the other checkout")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="new processes in each")
    parser.add_argument("--turns", type=int, default=TURNS, help="pairs of a round")
    parser.add_argument("works", nargs="*", help=f"which of {', '.join(WORKS)}; else all")
    given = parser.parse_args()
    if unknown := set(given.works) - set(WORKS):
        parser.error(f"no such work: {', '.join(sorted(unknown))}; there are {', '.join(WORKS)}")
    base, ours = given.base.resolve(), race.FOLDER.parent
    if not (base / "crew" / "__init__.py").is_file():
        parser.error(f"{base} is no checkout of this repository")
    print(f"ours: {ours}, base: {base}; {race.machine()}", flush=True)
    pairs = compared(base, ours, given.works or WORKS, given.rounds, given.turns)
    sys.exit(not show(pairs))


if __name__ == "__main__":
    main()
