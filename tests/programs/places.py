"""Where random programs run in tests: mostly in memory, and on the two real databases."""

import random
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from crew.journal import Store
from crew.journal.memory import MemoryStore
from crew.journal.postgres import PostgresStore
from crew.journal.sqlite import SqliteStore
from crew.testing.generator.table import Table, count

SHARES = {"memory": 85, "sqlite": 12, "postgres": 3}
"""How many of a hundred points run on each store."""


class Places:
    """Makes a store for each life of a program that begins anew, by the shares above.

    Args:
        folder: for SQLite's file.
        url: an empty database of PostgreSQL.
    """

    def __init__(self, folder: Path, url: str) -> None:
        self._sqlite = SqliteStore(folder / "runs.db")
        self._postgres = PostgresStore(url)
        self.counts = dict.fromkeys(SHARES, 0)

    def of(self, seed: int) -> Callable[[], Store]:
        """Return what makes the stores of one program, the same ones for the same seed."""
        chance = random.Random(seed)

        def make() -> Store:
            (kind,) = chance.choices(list(SHARES), list(SHARES.values()))
            self.counts[kind] += 1
            if kind == "sqlite":
                return self._sqlite
            return self._postgres if kind == "postgres" else MemoryStore()

        return make

    def close(self) -> None:
        self._sqlite.close()
        self._postgres.close()


@contextmanager
def places(url: str) -> Iterator[Places]:
    """Open the stores, SQLite's in memory where the machine has a file system for that."""
    shared = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(prefix="crew-", dir=shared if shared.is_dir() else None))
    opened = Places(folder, url)
    try:
        yield opened
    finally:
        opened.close()
        shutil.rmtree(folder)


def count_on_all_stores(seeds: range, url: str) -> Table:
    """Count the points of the programs that are grown from these seeds."""
    with places(url) as stores:
        return count(seeds, stores.of)
