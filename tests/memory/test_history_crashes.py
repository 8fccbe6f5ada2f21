"""A compaction is killed at every position: the same turns follow, and no call is made again."""

import asyncio
import contextlib
from typing import Any

import pytest

from crew import Runtime, StoreError
from crew.journal.memory import MemoryStore
from crew.journal.opening import open_store
from crew.testing import CrashingStore
from tests.core.lives import SECONDS, result
from tests.memory.chats import Chat, question

_KNOWN: list[Any] = []


async def undisturbed() -> tuple[int, list[Any]]:
    """Return the number of the turn that compacts, and what is asked up to the one after it."""
    if not _KNOWN:
        chat, number = Chat(summarise_with=True), -1
        async with Runtime(":memory:") as runtime:
            while not chat.summariser.requests:
                number += 1
                await chat.turn(runtime, number)
            await chat.turn(runtime, number + 1)
        _KNOWN.extend((number, chat.asked))
    return _KNOWN[0], _KNOWN[1]


async def crashed(kept: Any, after: int) -> None:
    chat = Chat(summarise_with=True)
    last, asked = await undisturbed()
    async with Runtime(kept) as runtime:
        for number in range(last):
            await chat.turn(runtime, number)
    assert not chat.summariser.requests
    store = CrashingStore(kept, after=after)
    async with Runtime(store, workflows=[chat.flow]) as runtime:
        with contextlib.suppress(StoreError):
            run = await runtime.start(chat.flow, question(last), key="last", thread="t")
            async with asyncio.timeout(SECONDS):
                while not store.is_down and await run.status() == "running":
                    await asyncio.sleep(0.002)
    if isinstance(kept, MemoryStore):
        kept.forget_owners()
    async with Runtime(kept, workflows=[chat.flow]) as runtime:
        run = await runtime.start(chat.flow, question(last), key="last", thread="t")
        assert await result(run) == f"answer to question {last}"
        kinds = [(event.kind, event.path) for event in await run.recorded()]
        made = len(chat.summariser.requests) + len(chat.model.requests) - last
        await chat.turn(runtime, last + 1)
    ended = [path for kind, path in kinds if kind == "model.completed"]
    assert ended == ["chat[0]/desk/:compaction.0", "chat[0]/desk/model.0"]
    # What was in flight is asked for again, and is on record as begun twice; nothing else is.
    assert made <= len([path for kind, path in kinds if kind == "model.started"]) <= 3
    assert len({request.messages for request in chat.summariser.requests}) == 1
    assert chat.asked[-1] == asked[-1]


@pytest.mark.parametrize("after", range(1, 15))
async def test_a_compaction_killed_anywhere_is_the_same(after):
    await crashed(MemoryStore(), after)


@pytest.mark.parametrize("url", ["sqlite", "postgres"], indirect=True)
@pytest.mark.parametrize("after", [5, 7, 8, 10])
async def test_so_is_one_on_disk(url, after):
    store = open_store(url)
    try:
        await crashed(store, after)
    finally:
        with contextlib.suppress(StoreError):
            store.close()
