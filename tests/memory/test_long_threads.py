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


async def test_a_late_turn_reads_no_more_than_an_early_one(url):
    """Counted in the rows that it reads of the store, and in the bytes of its prompt."""
    chat, rows, sizes = Chat(window=4096), list[int](), list[tuple[int, int]]()
    async with Runtime(url) as runtime:
        read = runtime.store.turns

        def counted(*at, **options):
            rows.append(len(found := read(*at, **options)))
            return found

        runtime.store.turns = counted
        for number in range(80):
            await chat.turn(runtime, number)
            sizes.append((sum(rows), bound_by_bytes(chat.model.requests[-1])))
            rows.clear()
    assert {count for count, _ in sizes[1:]} == {2}  # the turn before, and this one
    assert max(size for _, size in sizes[40:]) <= max(size for _, size in sizes[:40])
