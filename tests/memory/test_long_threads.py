"""A thread of a thousand turns answers at a window of 4,096 tokens."""

import pytest

from crew import Runtime
from crew.llm.cost import bound_by_bytes
from tests.memory.chats import Chat, question, stands_for


async def talked(url: str, turns: int, **options) -> Chat:
    chat = Chat(window=4096, **options)
    async with Runtime(url) as runtime:
        for number in range(turns):
            assert await chat.turn(runtime, number) == f"answer to question {number}"
        messages = (await runtime.thread("t")).messages
        assert [each.text for each in messages[::2]] == [question(n) for n in range(turns)]
    return chat


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, {"summarise_with": True}])
async def test_a_thousand_turns(tmp_path, options):
    chat = await talked(f"sqlite:///{tmp_path}/runs.db", 1000, **options)
    assert stands_for(chat.asked[-1])
    assert max(map(bound_by_bytes, chat.model.requests)) <= 2.5 * 4096
    assert len(chat.summariser.requests) < 150


async def test_the_last_of_many_turns_does_no_more_than_an_early_one(memory):
    """Counted in what is read: the store's rows, and the bytes of the prompts."""
    chat, sizes = Chat(window=4096), []
    read = memory.store.turns
    rows = []
    memory.store.turns = lambda *at, **options: rows.append(found := read(*at, **options)) or found
    for number in range(120):
        await chat.turn(memory, number)
        sizes.append((sum(map(len, rows)), bound_by_bytes(chat.model.requests[-1])))
        rows.clear()
    assert {count for count, _ in sizes[1:]} == {2}  # the turn before, and this one
    assert max(size for _, size in sizes[60:]) <= max(size for _, size in sizes[:60])
