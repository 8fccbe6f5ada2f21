"""Runs started in one process and driven in another, beside another checkout of this repository.

The time from `runtime.start` to `run.result()`, one run at a time: of a client and a worker on one
machine, and of a program and its host on Ray; on SQLite, and on a PostgreSQL server that is started
for it. The checkouts take turns, each with a store of its own.

    python benchmarks/elsewhere.py --base ../base [--rounds 3] [--runs 50] [--only "sqlite, Ray"]
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import race

sys.path.insert(0, str(race.FOLDER.parent))

from tests.postgres import Server

ROUNDS = 3
RUNS = 50
WANTED_MS = {"sqlite": 5.0, "postgres": 10.0}


@contextmanager
def addresses(kind: str) -> Iterator[tuple[str, str]]:
    """Yield the addresses of two empty stores."""
    if kind == "sqlite":
        with tempfile.TemporaryDirectory() as folder:
            yield f"sqlite:///{folder}/base.db", f"sqlite:///{folder}/ours.db"
    else:
        server = Server()
        server.start()
        try:
            yield server.new_database(), server.new_database()
        finally:
            server.stop()


def milliseconds(checkout: Path, url: str, runs: int, *, ray: bool) -> list[float]:
    """Return what each of some runs took."""
    command = [sys.executable, str(race.FOLDER / "ours" / "elsewhere.py"), url, str(runs)]
    done = subprocess.run(
        [*command, *(["--ray"] if ray else [])],
        env=race.environment() | {"PYTHONPATH": str(checkout)},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    found: list[float] = json.loads(done.stdout)
    return found


def compare(kind: str, base: Path, rounds: int, runs: int, *, ray: bool) -> bool:
    """Print what both take; return whether ours is as fast as it should be."""
    taken: tuple[list[float], list[float]] = [], []
    for _ in range(rounds):
        with addresses(kind) as urls:
            for found, checkout, url in zip(taken, (base, race.FOLDER.parent), urls, strict=True):
                found.extend(milliseconds(checkout, url, runs, ray=ray))
    reached = statistics.median(taken[1]) <= WANTED_MS[kind]
    before, now = (f"{statistics.median(found):.1f} ms (p90 {_p90(found):.1f})" for found in taken)
    wanted = f"at most {WANTED_MS[kind]:.0f} ms" + ("" if reached else " NOT reached")
    print(f"{_name(kind, ray=ray)}: base {before}, ours {now}; {wanted}", flush=True)
    return reached


def _name(kind: str, *, ray: bool) -> str:
    return f"{kind}, {'Ray' if ray else 'two processes'}"


def _p90(found: list[float]) -> float:
    return statistics.quantiles(found, n=10)[-1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--base", type=Path, required=True, help="another checkout")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--runs", type=int, default=RUNS)
    parser.add_argument("--only", default="", help="one line, such as `sqlite, Ray`")
    options = parser.parse_args()
    print(f"base: {options.base}; {race.machine()}")
    reached = [
        compare(kind, options.base.resolve(), options.rounds, options.runs, ray=ray)
        for kind in WANTED_MS
        for ray in (False, True)
        if options.only in ("", _name(kind, ray=ray))
    ]
    sys.exit(not all(reached))


if __name__ == "__main__":
    main()
