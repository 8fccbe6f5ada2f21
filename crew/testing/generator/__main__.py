"""Look at random programs: many, as a table, or one that broke, in full.

python -m crew.testing.generator --points 2000
python -m crew.testing.generator --seed 123 --event 7 --how kill
"""

import argparse
import itertools
import sys
import time
from typing import get_args

from crew.journal import Store
from crew.journal.memory import MemoryStore
from crew.journal.reading import JournalReader
from crew.testing.generator import tree_of
from crew.testing.generator.points import How, Point, Subject
from crew.testing.generator.table import Table, count
from crew.testing.generator.text import text_of


def main() -> int:
    """Print what was asked for; return 0 if all was right, else 1."""
    options = _options()
    if options.seed is not None:
        return _show(options.seed, options.event, options.how)
    began, table = time.monotonic(), Table()
    for seed in itertools.count(options.first):
        table.merge(count([seed], lambda seed: MemoryStore))
        if table.points >= options.points:
            break
    seconds = time.monotonic() - began
    _print(f"{table}\n  {1000 * seconds / table.points:.1f} ms a point")
    return 1 if table.wrong else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m crew.testing.generator", description=__doc__)
    parser.add_argument("--points", type=int, default=1000, help="how many, about")
    parser.add_argument("--first", type=int, default=0, help="the first program's seed")
    parser.add_argument("--seed", type=int, help="one program, in full")
    parser.add_argument("--event", type=int, default=0, help="stop it after this event")
    parser.add_argument("--how", choices=get_args(How), default="kill")
    return parser.parse_args()


def _show(seed: int, event: int, how: How) -> int:
    stores = list[MemoryStore]()

    def make() -> Store:
        stores.append(MemoryStore())
        return stores[-1]

    tree = tree_of(seed)
    subject = Subject(tree, seed, stores=make)
    _print(text_of(tree))
    points = subject.points()
    point: Point = next(points)
    if event:
        at = len(stores)
        point = subject.point(event, how)
        stores[:] = stores[at:]
    _print_journals(stores[0])
    _print("outcomes of undisturbed schedules:", *sorted(subject.outcomes), sep="\n  ")
    _print("right" if point.wrong is None else f"wrong: {point.wrong.kind}: {point.wrong.detail}")
    return 0 if point.wrong is None else 1


def _print_journals(store: Store) -> None:
    for row in reversed(store.runs()):
        _print(f"run {row.id} of {row.workflow}: {row.status}")
        for event in JournalReader(store, row).every():
            _print(f"  {event.offset:3} {event.kind:18} {event.path}  {event.data!r:.160}")


def _print(*parts: str, sep: str = " ") -> None:
    sys.stdout.write(sep.join(parts) + "\n")


if __name__ == "__main__":
    sys.exit(main())
