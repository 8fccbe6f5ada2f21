"""Programs that race: each a process of its own, in interleaved rounds, compared pair by pair."""

import argparse
import json
import os
import platform
import sqlite3
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent
ROUNDS = 3
SECONDS_EACH = 900

Figures = dict[str, list[dict[str, Any]]]


@dataclass(frozen=True, slots=True)
class Options:
    """What a bench run was asked for: the peers' Python, how many rounds, all or the short form.

    Args:
        base: another checkout of this repository, to compare with.
    """

    peer_python: str
    rounds: int = ROUNDS
    full: bool = False
    topics: tuple[str, ...] = ()
    base: Path | None = None


@dataclass(frozen=True, slots=True)
class Program:
    """A file of `ours/` or `peers/` and its arguments; the first it gets is an empty folder.

    Args:
        of_base: whether it imports `crew` of the other checkout.
    """

    file: str
    arguments: tuple[str, ...] = ()
    of_base: bool = False

    def command(self, options: Options, folder: str) -> list[str]:
        python = sys.executable if self.file.startswith("ours/") else options.peer_python
        return [python, str(FOLDER / self.file), folder, *self.arguments]


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table; a figure without a peer or a goal leaves it out."""

    work: str
    ours: Sequence[float]
    unit: str
    peer: str = ""
    theirs: Sequence[float] = ()
    wanted: str = ""
    reached: bool | None = None

    @property
    def ratio(self) -> float | None:
        """How many times more the peer takes: the median over the rounds, pair by pair."""
        if not self.theirs or not self.ours or not min(self.ours):
            return None
        pairs = zip(self.theirs, self.ours, strict=False)
        return statistics.median(theirs / ours for theirs, ours in pairs)


def times(
    work: str,
    unit: str,
    ours: Sequence[float],
    peer: str,
    theirs: Sequence[float],
    at_least: float | None = None,
) -> Row:
    """Return a row whose goal is a ratio: the peer takes at least that many times more."""
    row = Row(work, ours, unit, peer, theirs)
    if at_least is None or row.ratio is None:
        return row
    return Row(work, ours, unit, peer, theirs, f">= {at_least:g}x", row.ratio >= at_least)


def bound(work: str, unit: str, ours: Sequence[float], at_most: float) -> Row:
    """Return a row whose goal is an absolute bound on the median."""
    return Row(
        work, ours, unit, wanted=f"<= {at_most:g}", reached=statistics.median(ours) <= at_most
    )


def race(programs: Mapping[str, Program], options: Options, rounds: int | None = None) -> Figures:
    """Run every program once a round, one after another, and return what each printed."""
    figures: Figures = {name: [] for name in programs}
    for _ in range(rounds or options.rounds):
        for name, program in programs.items():
            with tempfile.TemporaryDirectory() as folder:
                figures[name].append(run(program, options, folder))
    return figures


def run(program: Program, options: Options, folder: str) -> dict[str, Any]:
    """Run a program to its end; its last line is a JSON object."""
    done = subprocess.run(
        program.command(options, folder),
        check=False,
        timeout=SECONDS_EACH,
        capture_output=True,
        text=True,
        env=environment(options.base if program.of_base else None),
    )
    if done.returncode:
        raise RuntimeError(f"{program.file} {program.arguments} failed:\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def environment(checkout: Path | None = None) -> dict[str, str]:
    """Return what programs see: a checkout's `crew`, compiled code kept, nothing sent home."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("CREW_")}
    clean.pop("PYTHONDONTWRITEBYTECODE", None)
    return clean | {"PYTHONPATH": str(checkout or FOLDER.parent), "LANGSMITH_TRACING": "false"}


def machine() -> str:
    """Return what the figures were measured on."""
    return (
        f"{platform.platform()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; "
        f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}"
    )


def column(figures: Figures, name: str, key: str) -> list[float]:
    return [figure[key] for figure in figures[name]]


def show(rows: Sequence[Row]) -> bool:
    """Print the table; return whether every goal is reached."""
    print(
        f"{'work':<52} {'crew min':>9} {'median':>9} {'peer':<22} {'min':>9} {'median':>9} "
        f"{'ratio':>7}  {'unit':<8} wanted"
    )
    for row in rows:
        ratio = "" if row.ratio is None else f"{row.ratio:.{0 if row.ratio >= 10 else 2}f}x"
        verdict = "" if row.reached is None else ("reached" if row.reached else "NOT reached")
        print(
            f"{row.work:<52} {_two(row.ours)} {row.peer:<22} {_two(row.theirs)} {ratio:>7}  "
            f"{row.unit:<8} {row.wanted} {verdict}",
            flush=True,
        )
    return all(row.reached is not False for row in rows)


def _two(values: Sequence[float]) -> str:
    if not values:
        return f"{'':>9} {'':>9}"
    return f"{_short(min(values)):>9} {_short(statistics.median(values)):>9}"


def _short(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def main(description: str, rows: Callable[[Options], list[Row]]) -> None:
    """Be the command of one topic."""
    sys.exit(not show(rows(options_from(description))))


def options_from(description: str, topics: Sequence[str] = ()) -> Options:
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--peer-python", default=sys.executable, help="a Python that has the peers")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--full", action="store_true", help="also what takes many minutes")
    parser.add_argument("--base", type=Path, help="another checkout, to compare with")
    if topics:
        parser.add_argument("topics", nargs="*", help=f"which of {', '.join(topics)}; else all")
    given = parser.parse_args()
    # Not resolved: a virtual environment's Python is a link whose place says what it imports.
    python = str(Path(given.peer_python).absolute())
    chosen = tuple(getattr(given, "topics", ()))
    base = given.base.resolve() if given.base else None
    return Options(python, given.rounds, given.full, chosen, base)
