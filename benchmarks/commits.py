"""Effects a second of eight processes on one store, beside another checkout of this repository.

The checkouts take turns, each with a database of its own. The ratio is how many times as many we
make: the median over the rounds, and the least and the most of them.

    python benchmarks/commits.py --base ../base [--rounds 5] [--urls BASE_URL OUR_URL]
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import race

PROCESSES = 8
SECONDS = 4.0
ROUNDS = 5
NO_WORSE = 0.95
"""Of as many: two rounds of the same code differ by more."""


def effects(checkout: Path, url: str) -> float:
    """Return how many effects a second all processes made together."""
    command = [sys.executable, str(race.FOLDER / "ours" / "commits.py"), url, str(SECONDS)]
    environment = race.environment() | {"PYTHONPATH": str(checkout)}
    workers = [
        subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        for _ in range(PROCESSES)
    ]
    for worker in workers:
        assert worker.stdout is not None
        worker.stdout.readline()
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write("\n")
        worker.stdin.flush()
    made = [worker.communicate()[0] for worker in workers]
    if any(worker.returncode for worker in workers):
        raise RuntimeError(f"a process of {checkout} failed on {url}; its error is above")
    return sum(map(int, made)) / SECONDS


def compare(base: Path, rounds: int, urls: Sequence[str]) -> bool:
    """Print what both make; return whether ours is no worse."""
    ratios = list[float]()
    for number in range(1, rounds + 1):
        with tempfile.TemporaryDirectory() as folder:
            theirs, ours = urls or [f"sqlite:///{folder}/{name}.db" for name in ("base", "ours")]
            before = effects(base, theirs)
            now = effects(race.FOLDER.parent, ours)
        ratios.append(now / before)
        print(f"… round {number} of {rounds}: base {before:.0f}/s, ours {now:.0f}/s", flush=True)
    ratio = statistics.median(ratios)
    reached = "" if ratio >= NO_WORSE else " NOT reached"
    print(f"{PROCESSES} processes: {ratio:.2f}x ({min(ratios):.2f} to {max(ratios):.2f}){reached}")
    return not reached


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--base", type=Path, required=True, help="another checkout")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--urls", nargs=2, default=(), help="empty databases instead of files")
    options = parser.parse_args()
    print(f"base: {options.base}; {race.machine()}")
    sys.exit(not compare(options.base.resolve(), options.rounds, options.urls))


if __name__ == "__main__":
    main()
