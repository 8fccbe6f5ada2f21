"""A look at a long run costs what it shows, not the whole."""

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


async def test_the_tail_of_a_long_run_is_read_alone(long_run):
    _, store, run = long_run
    last = await run.offset()
    assert last > EVENTS
    assert [event.offset for event in await run.page(after=last - 5, limit=10)] == [
        last - 4,
        last - 3,
        last - 2,
        last - 1,
        last,
    ]
    assert len(await run.recorded(after=last - 5)) == 5
    async for event in run.events(after=last - 5):
        if event.offset == last:
            break
    assert store.read < FEW


async def test_how_a_long_run_stands_is_told_by_its_ends(long_run):
    runtime, store, run = long_run
    assert await run.status() == "waiting"
    assert (await run.origin()).input == EVENTS
    assert (await run.ending()).kind == "open"
    assert [item.id for item in await runtime.runs()] == [run.id]
    assert store.read < FEW


async def test_a_second_look_at_what_a_long_run_asks_reads_what_is_new(long_run):
    _, store, run = long_run
    (question,) = await run.questions()
    store.read = 0
    assert await run.questions() == [question]
    assert store.read < FEW


async def test_an_answer_to_a_long_run_and_the_same_again_read_its_tail(long_run):
    _, store, run = long_run
    await run.questions()
    store.read = 0
    for _ in range(2):
        await run.answer("go", True, idempotency_key="k")
    assert store.read < FEW  # nobody drives it: the question stays open
