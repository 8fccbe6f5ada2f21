"""A run of 100,000 events that waits for a person, and a store that counts what is read of it."""

import asyncio
from typing import Any

import pytest

from crew import Context, Runtime, workflow
from crew.journal.memory import MemoryStore
from crew.journal.sqlite import SqliteStore
from tests.core.lives import until

EVENTS = 100_000
FEW = 300
"""Events that any look may read: SQLite deflates up to 64 of one run at once."""


@workflow
async def chatty(ctx: Context, lines: int) -> str:
    for number in range(lines):
        ctx.progress(f"line {number}")
    await ctx.ask(bool, "Go on?", key="go")
    return "done"


class CountingStore:
    """A store that counts the events that are read from it."""

    def __init__(self, store: Any) -> None:
        self._store = store
        self.read = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def events(self, number: int, *, after: int = 0, limit: int = 1024) -> Any:
        found = self._store.events(number, after=after, limit=limit)
        self.read += len(found)
        return found


@pytest.fixture(scope="module", params=["memory", "sqlite"])
def kept(request, tmp_path_factory):
    """A store with a long run that waits for a person."""
    folder = tmp_path_factory.mktemp("long")
    store = MemoryStore() if request.param == "memory" else SqliteStore(folder / "runs.db")
    asyncio.run(_live(store))
    yield store
    store.close()


async def _live(store: Any) -> None:
    async with Runtime(store, workflows=[chatty]) as runtime:
        await until(await runtime.start(chatty, EVENTS), "waiting")


@pytest.fixture
async def long_run(kept):
    """A runtime that drives nothing, the store that counts its reading, and the long run."""
    store = CountingStore(kept)
    async with Runtime(store, worker=False) as runtime:
        (run,) = await runtime.runs()
        yield runtime, store, run
