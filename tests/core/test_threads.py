"""One thread, one order: whatever comes at once, nothing is lost and nothing interleaves."""

import asyncio

import pytest

from crew import Context, InputInvalid, RunCancelled, Runtime, ThreadBusy, workflow
from crew.message import Message

pytestmark = pytest.mark.parametrize("url", ["memory", "sqlite", "postgres"], indirect=True)

ROUNDS = 100


@workflow
async def reply(ctx: Context, text: str) -> str:
    said = [message.text for message in ctx.thread.messages]
    await ctx.run(pause)
    return f"{len(said)} before {text}"


async def pause() -> None:
    await asyncio.sleep(0.002)


async def three_at_once(runtime, thread, policy):
    starts = (
        runtime.start(reply, name, thread=thread, when_busy=policy) for name in ("a", "b", "c")
    )
    started = await asyncio.gather(*starts, return_exceptions=True)
    outputs = []
    for run in started:
        if isinstance(run, Exception):
            outputs.append(run)
            continue
        try:
            outputs.append(await asyncio.wait_for(run.result(), 30))
        except RunCancelled as error:
            outputs.append(error)
    return outputs, (await runtime.thread(thread)).messages


async def test_queued_turns_are_all_answered_in_their_order(url):
    async with Runtime(url) as runtime:
        for number in range(ROUNDS):
            outputs, messages = await three_at_once(runtime, f"t{number}", "queue")
            assert sorted(outputs) == sorted(m.text for m in messages if m.role == "assistant")
            answers = [message.text for message in messages[1::2]]
            questions = [message.text for message in messages[0::2]]
            assert answers == [f"{2 * n} before {q}" for n, q in enumerate(questions)]
            assert sorted(questions) == ["a", "b", "c"]


async def test_a_rejected_turn_is_told_so_and_leaves_nothing(url):
    async with Runtime(url) as runtime:
        for number in range(ROUNDS):
            outputs, messages = await three_at_once(runtime, f"t{number}", "reject")
            answered = [item for item in outputs if isinstance(item, str)]
            rejected = [item for item in outputs if isinstance(item, ThreadBusy)]
            assert len(answered) + len(rejected) == 3
            assert answered
            assert [m.text for m in messages if m.role == "assistant"] == answered


async def test_the_newest_turn_cancels_the_older_ones_which_keep_their_questions(url):
    async with Runtime(url) as runtime:
        for number in range(ROUNDS):
            outputs, messages = await three_at_once(runtime, f"t{number}", "cancel")
            answered = [item for item in outputs if isinstance(item, str)]
            cancelled = [item for item in outputs if isinstance(item, RunCancelled)]
            assert len(answered) + len(cancelled) == 3
            assert answered
            assert sorted(m.text for m in messages if m.role == "user") == ["a", "b", "c"]
            assert messages[-1].text == answered[-1] or messages[-1].text in answered
            marked = [m for m in messages if m.text.startswith("(not answered")]
            assert len(marked) == len(cancelled)


async def test_every_turn_sees_what_was_said_before_the_first(url):
    opening = [Message("user", "a"), Message("assistant", "b")]
    async with Runtime(url) as runtime:
        await runtime.open_thread("t", opening, metadata={"n": 1})
        outputs = [
            await (await runtime.start(reply, text, thread="t")).result() for text in ("c", "d")
        ]
        assert outputs == ["2 before c", "4 before d"]
        thread = await runtime.thread("t")
        assert thread.messages[: thread.opening] == tuple(opening)
        assert [message.text for message in thread.messages[2:]] == [
            "c",
            outputs[0],
            "d",
            outputs[1],
        ]


async def test_a_thread_is_begun_once_and_with_what_was_said(url):
    async with Runtime(url) as runtime:
        await (await runtime.start(reply, "c", thread="begun")).result()
        await runtime.open_thread("opened")
        for name in ("begun", "opened"):
            with pytest.raises(InputInvalid, match="begun before"):
                await runtime.open_thread(name, [Message("user", "a")])
        with pytest.raises(InputInvalid, match="cannot hold 'tool'"):
            await runtime.open_thread("new", [Message("tool", "a")])
        assert (await runtime.thread("new")).messages == ()
