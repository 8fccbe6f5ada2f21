"""A run that a newer release wrote to, at workers of this one: it is let go, and shown."""

import asyncio
import logging

import pytest

from crew import Context, Runtime, StoreError, workflow
from crew.errors import NewerEvent
from crew.journal import Release
from crew.journal.memory import MemoryStore
from tests.newer import KIND, write_newer_event

FLOW = [("patient", "1")]


@workflow
async def patient(ctx: Context, text: str) -> str:
    if text == "never":
        await asyncio.Event().wait()
    return text


@pytest.fixture
async def left(url):
    """The id of a run that was let go under way, and the store's address."""
    async with Runtime(url) as runtime:
        run = await runtime.start(patient, "never")
        async for event in run.events():
            if event.kind == "step.started":
                break
        return run.id


@pytest.fixture
async def newer(url, left):
    """The same, once a newer release has written a kind of event that this one does not know."""
    write_newer_event(url, left, "patient[0]")
    return left


async def looked(runtime, *, until=lambda: True) -> None:
    """Let a runtime look for work several times, and as often as it needs."""
    async with asyncio.timeout(10):
        for _ in range(5):
            runtime.look()
            await asyncio.sleep(0.02)
        while not until():
            runtime.look()
            await asyncio.sleep(0.02)


on_both = pytest.mark.parametrize("url", ["sqlite", "postgres"], indirect=True)


@on_both
async def test_a_run_with_an_unknown_event_is_let_go_and_said_so_once(url, newer, caplog):
    async with Runtime(url, workflows=[patient]) as runtime:
        await looked(runtime, until=lambda: "run.unreadable" in caplog.text)
        await looked(runtime, until=lambda: runtime.store.run(newer).owner is None)
        assert [found.id for found in runtime.store.takeable(FLOW, [], 0.0)] == [newer]
    (said,) = [record for record in caplog.records if record.message == "run.unreadable"]
    assert (said.run, said.kind, said.levelno) == (newer, KIND, logging.WARNING)


@on_both
async def test_other_runs_are_driven_beside_it(url, newer):
    async with Runtime(url, workflows=[patient]) as runtime:
        await looked(runtime)
        assert await (await runtime.start(patient, "later")).result() == "later"


@on_both
async def test_whoever_asks_for_it_is_told_what_to_do(url, newer):
    async with Runtime(url, workflows=[patient]) as runtime:
        for _ in range(2):
            with pytest.raises(NewerEvent, match=f"{newer} .* '{KIND}'.*update crew"):
                await runtime.resume(newer)
            await looked(runtime)


@on_both
async def test_it_can_be_cancelled(url, newer):
    async with Runtime(url, workflows=[patient]) as runtime:
        await looked(runtime)
        run = await runtime.get(newer)
        await run.cancel()
        assert await run.status() == "cancelled"


@on_both
async def test_a_fork_that_stands_on_it_is_let_go_too(url, newer):
    async with Runtime(url, workflows=[patient]) as runtime:
        with pytest.raises(NewerEvent):
            await runtime.fork(newer)
        await looked(runtime, until=lambda: {run.owner for run in runtime.store.runs()} == {None})


class Faulty(MemoryStore):
    """Cannot write the first time that a run is let go by this release."""

    is_faulty = False

    def commit(self, operations):
        if self.is_faulty and any(isinstance(item, Release) for item in operations):
            self.is_faulty = False
            raise StoreError(message="gone")
        return super().commit(operations)


async def test_what_could_not_be_let_go_is_let_go_later(caplog):
    store = Faulty()
    async with Runtime(store, worker=False) as starting:
        run = await starting.start(patient, "never")
    write_newer_event(store, run.id, "")
    store.is_faulty = True
    async with Runtime(store, workflows=[patient]) as runtime:
        await looked(runtime, until=lambda: not store.is_faulty)
        await looked(runtime, until=lambda: store.run(run.id).owner is None)
    assert [record.message for record in caplog.records].count("run.unreadable") == 2
