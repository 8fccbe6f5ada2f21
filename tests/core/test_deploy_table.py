"""Changed code under a run that waits, was killed, was left, or was acting when it was killed.

It goes on to its right end, or is parked. Nothing fails for a deploy, nothing acts twice, and what
is parked says what the journal holds and what the code has instead; the old code finishes it.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest

from crew import Runtime
from crew.errors import AskError
from crew.journal.memory import MemoryStore
from crew.journal.opening import open_store
from crew.testing import CrashingStore
from tests.core.conftest import address
from tests.core.releases import CHANGES, Change, Order, Receipt, World

EVERYTHING = 1 << 30
SETTLE_SECONDS = 5.0
ENDS = ("completed", "failed", "cancelled")
ON_POSTGRES = ("field renamed, edge", "node in flight renamed", "effect renamed")


class Deploy:
    """One cell of the table: a run of the old release, met by the new one."""

    def __init__(self, change: Change, how: str, store: CrashingStore) -> None:
        self.change, self.how, self.store = change, how, store
        self.world = World(how)
        self.run_id = ""
        self.is_answered = False

    def runtime(self, *, new: bool) -> Runtime:
        return Runtime(self.store, workflows=[self.change.make(new, self.world)])

    async def begin(self) -> None:
        """Start the run with the old code, and leave it where it pauses."""
        async with self.runtime(new=False) as runtime, asyncio.timeout(SETTLE_SECONDS):
            run = await runtime.start(self.change.make(False, self.world), Order(n=5))
            self.run_id = run.id
            while not await self._pauses(run):
                await asyncio.sleep(0.01)
            if self.how in ("killed", "acting"):
                self.store.is_down = True
                self.world.open.set()
        if self.store.is_down:
            self.store.restart(after=EVERYTHING)
            if self.store.url == ":memory:":
                self.store.forget_owners()  # of the others a dead owner's lock is free
        self.world.open.set()

    async def _pauses(self, run: Any) -> bool:
        """Return whether the run pauses, and what it did before is on disk."""
        if self.how == "waiting":
            return await run.status() == "waiting"
        if self.how == "acting":
            return self.world.pausing.is_set()
        is_charged = any(event.kind == "effect.completed" for event in await run.recorded())
        return is_charged and self.world.pausing.is_set()

    async def meet_new_code(self) -> Any:
        """Return the run's last event, once it has ended or is parked."""
        async with self.runtime(new=True) as runtime:
            run = await runtime.get(self.run_id)
            async with asyncio.timeout(SETTLE_SECONDS), self._answering(run):
                while True:
                    last = (await run.recorded())[-1]
                    if last.kind == "run.parked" or await run.status() in ENDS:
                        return last
                    await asyncio.sleep(0.01)

    async def finish_with_old_code(self) -> Any:
        async with self.runtime(new=False) as runtime, asyncio.timeout(SETTLE_SECONDS):
            run = await runtime.resume(self.run_id)
            async with self._answering(run):
                return await run.result()

    @contextlib.asynccontextmanager
    async def _answering(self, run: Any) -> AsyncIterator[None]:
        """Answer the question if there is one, once: an answer that was stored is not lost."""
        if self.how != "waiting" or self.is_answered:
            yield
            return
        answering = asyncio.ensure_future(run.answer("go", True))
        try:
            yield
        finally:
            # It waits until the answer is recorded, which a parked run does not do.
            answering.cancel()
            (outcome,) = await asyncio.gather(answering, return_exceptions=True)
            self.is_answered = not isinstance(outcome, AskError)


@pytest.fixture
def store(request, tmp_path):
    """A store that can go down, as its process does."""
    if request.param == "memory":
        yield CrashingStore(MemoryStore(), after=EVERYTHING)
        return
    opened = open_store(address(request.param, request, tmp_path))
    yield CrashingStore(opened, after=EVERYTHING)
    opened.close()


def stores(change: Change) -> list[str]:
    return ["memory", "sqlite", *["postgres"] * (change.name in ON_POSTGRES)]


CELLS = [
    pytest.param(change, how, name, id=f"{change.name}-{how}-{name}")
    for change in CHANGES
    for how in ("waiting", "killed", "left", "acting")
    for name in stores(change)
]


@pytest.mark.parametrize(("change", "how", "store"), CELLS, indirect=["store"])
async def test_new_code_goes_on_or_parks_and_old_code_can_finish(change, how, store):
    deploy = Deploy(change, how, store)
    await deploy.begin()
    assert deploy.world.acts == {"charge": 1}
    last = await deploy.meet_new_code()
    assert last.kind in ("run.completed", "run.parked"), last
    assert max(deploy.world.acts.values()) == 1, deploy.world.acts
    if last.kind == "run.parked":
        assert_both_sides_are_named(change, last.data)
        assert await deploy.finish_with_old_code() == Receipt(text="shipped")
    else:
        assert last.data["output"] == {"text": "shipped"}
    assert deploy.world.acts == {"charge": 1, "ship": 1}


def assert_both_sides_are_named(change: Change, parked: dict[str, Any]) -> None:
    detail = parked["detail"]
    assert not change.fits, detail
    assert parked["reason"] in ("diverged", "unreadable")
    assert any(word in detail for word in change.held), detail
    assert any(word in detail for word in change.asked), detail
