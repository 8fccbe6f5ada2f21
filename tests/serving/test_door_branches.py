"""A front end that asks again, or changes an earlier message, goes on with a branch."""

import asyncio

import openai
import pytest

WEB = {"X-OpenWebUI-Chat-Id": "c-1"}


class FrontEnd:
    """A front end that keeps messages, and sends all of them with each request."""

    def __init__(self, endpoint, model: str = "echo", **options) -> None:
        self._endpoint, self._model = endpoint, model
        self._options = options or {"extra_headers": WEB}
        self.messages: list[dict[str, str]] = []

    async def say(self, text: str, **options) -> str:
        self.messages.append({"role": "user", "content": text})
        sent = {**self._options, **options}
        reply = await self._endpoint.ask(self._model, "", messages=self.messages, **sent)
        self.thread = reply.crew["thread_id"]
        answer = reply.choices[0].message.content
        self.messages.append({"role": "assistant", "content": answer})
        return answer

    async def again(self) -> str:
        """Ask for another answer to the last message."""
        return await self.edit(len(self.messages) // 2 - 1, self.messages[-2]["content"])

    async def edit(self, turn: int, text: str) -> str:
        del self.messages[2 * turn :]
        return await self.say(text)


def asked(thread) -> list[str]:
    return [message.text for message in thread.messages if message.role == "user"]


NAMED = {
    "front end": {"extra_headers": WEB},
    "header": {"extra_headers": {"X-Thread-Id": "t"}},
    "metadata": {"extra_body": {"metadata": {"thread_id": "t"}}},
    "conversation": {"extra_body": {"conversation": "t"}},
}


@pytest.mark.parametrize("named", NAMED)
async def test_answer_that_is_asked_for_again_is_a_turn_beside_the_first(endpoint, named):
    chat = FrontEnd(endpoint, **NAMED[named])
    await chat.say("one")
    first = await chat.say("two")
    begun = chat.thread

    assert await chat.again() == first == "two (2 before)"
    assert await chat.again() == first
    assert await chat.say("three") == "three (4 before)"
    assert asked(await endpoint.runtime.thread(chat.thread)) == ["one", "two", "three"]
    assert asked(await endpoint.runtime.thread(begun)) == ["one", "two"]


@pytest.mark.parametrize("named", NAMED)
async def test_changed_message_begins_a_branch_without_what_came_behind_it(endpoint, named):
    chat = FrontEnd(endpoint, **NAMED[named])
    for text in ("one", "two", "three"):
        await chat.say(text)

    assert await chat.edit(1, "other") == "other (2 before)"
    assert await chat.say("more") == "more (4 before)"
    assert asked(await endpoint.runtime.thread(chat.thread)) == ["one", "other", "more"]


async def test_first_message_of_a_front_end_may_be_asked_again_or_changed(endpoint):
    chat = FrontEnd(endpoint)
    assert await chat.say("q1") == "q1 (0 before)"
    assert await chat.again() == "q1 (0 before)"
    assert await chat.edit(0, "q1 edited") == "q1 edited (0 before)"
    assert await chat.say("q2") == "q2 (2 before)"
    assert asked(await endpoint.runtime.thread(chat.thread)) == ["q1 edited", "q2"]


async def test_front_end_may_go_back_to_the_branch_that_it_left(endpoint):
    chat = FrontEnd(endpoint)
    await chat.say("one")
    await chat.say("two")
    left, thread = [*chat.messages], chat.thread
    await chat.edit(1, "other")

    chat.messages = left
    assert await chat.say("three") == "three (4 before)"
    assert chat.thread == thread
    assert asked(await endpoint.runtime.thread(thread)) == ["one", "two", "three"]


async def test_branch_of_a_branch_has_the_turns_of_both(endpoint):
    chat = FrontEnd(endpoint)
    for text in ("a", "b", "c"):
        await chat.say(text)
    await chat.edit(1, "B")
    await chat.say("C")
    await chat.edit(2, "D")

    assert await chat.say("E") == "E (6 before)"
    assert asked(await endpoint.runtime.thread(chat.thread)) == ["a", "B", "D", "E"]


async def test_answer_that_its_reader_changed_is_what_the_branch_has(endpoint):
    chat = FrontEnd(endpoint)
    await chat.say("one")
    await chat.say("two")
    chat.messages[1]["content"] = "as I want it"

    assert await chat.say("three") == "three (4 before)"
    said = [message.text for message in (await endpoint.runtime.thread(chat.thread)).messages]
    assert said[:3] == ["one", "as I want it", "two"]


async def test_conversation_that_was_begun_elsewhere_goes_on_here(endpoint):
    chat = FrontEnd(endpoint)
    chat.messages = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]

    assert await chat.say("c") == "c (2 before)"
    assert await chat.say("d") == "d (4 before)"
    assert chat.thread == "c-1"
    assert await chat.edit(0, "new") == "new (0 before)"


async def test_client_that_forgets_the_beginning_goes_on_with_the_whole(endpoint):
    chat = FrontEnd(endpoint)
    for text in ("a", "b", "c"):
        await chat.say(text)
    del chat.messages[:2]
    assert await chat.say("d") == "d (6 before)"
    del chat.messages[:3]  # in the middle of a turn
    assert await chat.say("e") == "e (8 before)"


async def test_what_was_streamed_is_what_the_client_has_of_an_answer(endpoint):
    chat = FrontEnd(endpoint, "telling")
    await chat.say("one")
    chat.messages[-1]["content"] = "one two thrée"  # the output is another one
    await chat.say("two")
    chat.messages[-1]["content"] = "one tw"  # it left before the end
    await chat.say("three")
    assert chat.thread == "c-1"
    assert len((await endpoint.runtime.thread("c-1")).messages) == 6


async def test_answer_to_a_question_reaches_the_branch_in_which_it_was_asked(endpoint):
    chat = FrontEnd(endpoint, "asking")
    assert await chat.say("a refund") == "Refund?"
    assert await chat.again() == "Refund?"
    assert await chat.say("yes") == "refunded"
    assert await chat.say("a second") == "Refund?"
    assert await chat.say("no") == "kept"

    turns = (await endpoint.runtime.thread(chat.thread)).messages
    assert [turn.text for turn in turns] == ["a refund", "refunded", "a second", "kept"]
    assert len(await endpoint.runtime.runs(thread="c-1", status="waiting")) == 1


async def test_turn_that_failed_is_not_in_the_way_of_the_next_try(endpoint):
    chat = FrontEnd(endpoint)
    await chat.say("one")
    with pytest.raises(Exception, match="cannot do"):
        await FrontEnd(endpoint, "failing").say("x")  # another client of the same chat
    assert await chat.say("two") == "two (2 before)"
    assert asked(await endpoint.runtime.thread(chat.thread)) == ["one", "two"]


async def test_same_message_to_two_models_at_once_is_two_branches(endpoint, gate, request):
    text, chat = request.node.name, FrontEnd(endpoint)
    await chat.say("one")
    chats = [FrontEnd(endpoint) for _ in range(3)]
    for each in chats:
        each.messages = [*chat.messages]
    waiting = [asyncio.create_task(each.say(text)) for each in chats]
    while len(await endpoint.runtime.runs(status="running")) < 3:
        await asyncio.sleep(0.01)
    gate.set()

    assert await asyncio.gather(*waiting) == [f"{text} (2 before)"] * 3
    assert len({each.thread for each in chats}) == 3


async def test_request_that_is_sent_again_is_the_same_run_of_the_same_branch(endpoint):
    chat = FrontEnd(endpoint)
    await chat.say("one")
    await chat.say("two")
    del chat.messages[2:]
    keyed, threads = {"extra_headers": {**WEB, "Idempotency-Key": "k"}}, set()
    for _ in range(2):
        del chat.messages[2:]
        assert await chat.say("other", **keyed) == "other (2 before)"
        threads.add(chat.thread)
    assert len(threads) == 1
    assert len(await endpoint.runtime.runs()) == 3


async def test_erasing_a_conversation_erases_the_branches_of_its_front_end(endpoint):
    chat = FrontEnd(endpoint)
    await chat.say("one")
    await chat.again()
    await chat.edit(0, "other")
    await endpoint.client.conversations.delete("c-1")
    assert await endpoint.runtime.runs() == []


async def test_conversation_with_a_branch_at_work_is_not_erased(endpoint, gate, request):
    chat = FrontEnd(endpoint)
    first = await endpoint.client.responses.create(
        model="echo", input="one", extra_headers={"X-Thread-Id": "c-1"}
    )
    waiting = asyncio.create_task(chat.say(request.node.name))  # another first message
    async with asyncio.timeout(20):
        while not await endpoint.runtime.runs(status="running"):
            await asyncio.sleep(0.01)
    with pytest.raises(openai.ConflictError, match="has not ended"):
        await endpoint.client.conversations.delete("c-1")
    gate.set()
    await waiting
    with pytest.raises(openai.ConflictError):  # it would take the branch with it
        await endpoint.client.responses.delete(first.id)
    await endpoint.client.conversations.delete(chat.thread)
    await endpoint.client.responses.delete(first.id)
    assert await endpoint.runtime.runs() == []


async def test_conversation_of_many_changes_stays_readable(endpoint):
    chat = FrontEnd(endpoint)
    for number in range(20):
        await chat.say(f"q{number}")
        chat.messages[-1]["content"] += " changed"
    assert await chat.say("last") == "last (40 before)"
