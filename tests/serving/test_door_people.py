"""Branches of chats whose runs ask somebody else."""

import asyncio

import pytest

from crew import Context, workflow
from tests.serving.test_door_branches import WEB, FrontEnd, asked


@workflow
async def refund(ctx: Context, text: str) -> str:
    before = len(ctx.thread.messages)
    if "money" in text:
        agreed = await ctx.ask(bool, "Refund 7 euros?", key="refund", to="manager")
        return "refunded" if agreed else "kept"
    return f"{text} ({before} before)"


@workflow
async def named_refund(ctx: Context, text: str) -> str:
    if "money" not in text:
        return f"{text} ({len(ctx.thread.messages)} before)"
    name = await ctx.ask(str, "Your name?", key="name")
    agreed = await ctx.ask(bool, "Refund?", key="refund", to="manager")
    return f"{name}: {agreed}"


@workflow
async def both(ctx: Context, text: str) -> str:
    if "money" not in text:
        return f"{text} ({len(ctx.thread.messages)} before)"
    agreed, name = await asyncio.gather(
        ctx.ask(bool, "Refund?", key="refund", to="manager"), ctx.ask(str, "Your name?", key="name")
    )
    return f"{name}: {agreed}"


@workflow
async def telling_refund(ctx: Context, text: str) -> str:
    if "money" not in text:
        return f"{text} ({len(ctx.thread.messages)} before)"
    ctx.emit("Let me see.")
    agreed = await ctx.ask(bool, "Refund?", key="refund", to="manager")
    ctx.emit(" Done.")
    return f"{agreed}"


@pytest.fixture
async def shop(tmp_path, opening):
    flows = [refund, named_refund, both, telling_refund]
    async with opening(f"sqlite:///{tmp_path}/runs.db", more=flows) as opened:
        yield opened


async def approve(shop, thread: str = "c-1") -> None:
    """Answer as the manager, elsewhere; wait for the end."""
    (run,) = await shop.runtime.runs(thread=thread, status="waiting")
    await run.answer("refund", True, by="eva")
    await run.result()


WAYS = {
    "refund": ["my money back"],
    "named_refund": ["my money back", "Ada"],
    "both": ["my money back", "Ada"],
    "telling_refund": ["my money back"],
}


@pytest.mark.parametrize("flow", WAYS)
async def test_chat_goes_on_in_its_thread_once_somebody_else_has_answered(shop, flow):
    chat = FrontEnd(shop, flow)
    for text in WAYS[flow]:
        said = await chat.say(text)
    assert "waiting for manager" in said
    await approve(shop)

    assert await chat.say("thanks") == "thanks (2 before)"
    assert await chat.say("more") == "more (4 before)"
    assert chat.thread == "c-1"
    assert asked(await shop.runtime.thread("c-1")) == ["my money back", "thanks", "more"]
    assert await chat.again() == "more (4 before)"
    assert chat.thread != "c-1"


async def test_each_of_two_turns_that_waited_for_somebody_is_a_turn(shop):
    chat = FrontEnd(shop, "refund")
    for text in ("my money back", "more money"):
        assert await chat.say(text) == "waiting for manager"
        await approve(shop)
    assert await chat.say("thanks") == "thanks (4 before)"
    assert chat.thread == "c-1"


async def test_message_behind_one_that_waits_for_somebody_begins_no_branch(shop):
    chat = FrontEnd(shop, "refund")
    assert await chat.say("my money back") == "waiting for manager"
    later = asyncio.create_task(chat.say("hello?"))
    async with asyncio.timeout(30):
        while len(await shop.runtime.runs(thread="c-1")) < 2:
            await asyncio.sleep(0.01)
    await approve(shop)
    assert await later == "hello? (2 before)"
    assert await chat.say("thanks") == "thanks (4 before)"
    assert len(await shop.runtime.branches("c-1")) == 1


async def test_message_that_is_changed_while_somebody_is_asked_leaves_the_question_open(shop):
    chat = FrontEnd(shop, "refund")
    await chat.say("hello")
    assert await chat.say("my money back") == "waiting for manager"
    assert await chat.edit(1, "never mind") == "never mind (2 before)"
    assert chat.thread != "c-1"
    branch = chat.thread
    await approve(shop)
    assert [m.text for m in (await shop.runtime.thread("c-1")).messages][-1] == "refunded"
    assert asked(await shop.runtime.thread(branch)) == ["hello", "never mind"]
    assert await chat.say("thanks") == "thanks (4 before)"
    assert chat.thread == branch


async def test_question_for_somebody_on_a_branch_is_answered_there(shop):
    chat = FrontEnd(shop, "refund")
    await chat.say("hello")
    await chat.edit(0, "hello again")
    assert await chat.say("my money back") == "waiting for manager"
    assert len(await shop.runtime.questions(to=["manager"])) == 1
    await approve(shop, chat.thread)
    branch = chat.thread
    assert await chat.say("thanks") == "thanks (4 before)"
    assert chat.thread == branch != "c-1"


@pytest.mark.parametrize("edited", [False, True])
async def test_answer_that_is_sent_again_reaches_the_question_it_has_answered(shop, edited):
    chat = FrontEnd(shop, "asking")
    await chat.say("a refund")
    if edited:
        await chat.edit(0, "another refund")
    keyed = {"extra_headers": {**WEB, "Idempotency-Key": "k"}}
    before = len(await shop.runtime.runs())
    for _ in range(2):
        assert await chat.say("yes", **keyed) == "refunded"
        del chat.messages[-2:]
    assert len(await shop.runtime.runs()) == before
