"""Conversations that stand on a turn of another one."""

import asyncio
import contextlib
from pathlib import Path

import pytest

from crew import Context, Runtime, workflow
from crew.errors import InputInvalid, StoreError
from crew.journal.memory import MemoryStore
from crew.message import Message
from crew.testing import CrashingStore
from tests.core.lives import SECONDS, left_waiting, result, stores, until


@workflow
async def counting(ctx: Context, text: str) -> str:
    before = " ".join(message.text for message in ctx.thread.messages)
    ctx.thread.state["said"] = [*ctx.thread.state.get("said", []), text]
    return f"[{before}] {text}"


@workflow
async def asked(ctx: Context, text: str) -> str:
    if text == "wait":
        await ctx.ask(bool, "Go on?", key="go")
    return f"{len(ctx.thread.messages)} before"


async def say(runtime: Runtime, thread: str, *texts: str) -> str:
    return [await result(await runtime.start(counting, text, thread=thread)) for text in texts][-1]


@stores
async def test_branch_begins_with_what_was_said_and_kept_up_to_its_turn(url):
    async with Runtime(url, workflows=[counting]) as runtime:
        await say(runtime, "t", "a", "b", "c")
        await runtime.branch_thread("u", base="t", turn=2)
        await say(runtime, "t", "later")

        assert await say(runtime, "u", "d") == "[a [] a b [a [] a] b] d"
        branch, base = await runtime.thread("u"), await runtime.thread("t")
        assert [m.text for m in branch.messages if m.role == "user"] == ["a", "b", "d"]
        assert [m.text for m in base.messages if m.role == "user"] == ["a", "b", "c", "later"]
        assert dict(branch.state) == {"said": ["a", "b", "d"]}
        assert branch.opening == 4
        assert [item.id for item in await runtime.branches("u")] == ["t", "u"]
        assert [run.turn for run in await runtime.runs(thread="u")] == [3]


@stores
async def test_branch_of_a_branch_knows_what_both_stand_on(url):
    async with Runtime(url, workflows=[counting]) as runtime:
        await say(runtime, "t", "a", "b")
        await runtime.branch_thread("u", [Message("user", "x")], base="t", turn=1)
        await say(runtime, "u", "c", "d")
        await runtime.branch_thread("v", base="u", turn=2)
        await runtime.branch_thread("w", base="u", turn=0)
        await say(runtime, "v", "e")
        await say(runtime, "w", "f")

        said = {
            name: [m.text for m in (await runtime.thread(name)).messages if m.role == "user"]
            for name in "uvw"
        }
        assert said == {"u": ["a", "x", "c", "d"], "v": ["a", "x", "c", "e"], "w": ["f"]}
        assert [item.id for item in await runtime.branches("v")] == ["t", "u", "w", "v"]


@stores
async def test_turn_of_a_branch_sees_the_same_after_a_restart(url):
    async with Runtime(url, workflows=[asked]) as runtime:
        await result(await runtime.start(asked, "a", thread="t"))
        await result(await runtime.start(asked, "b", thread="t"))
        await runtime.branch_thread("u", base="t", turn=1)
    async with Runtime(url, workflows=[asked]) as runtime:
        run = await runtime.start(asked, "wait", thread="u")
        await until(run, "waiting")
    async with Runtime(url, workflows=[asked]) as runtime:
        run = await runtime.get(run.id)
        await run.answer("go", True)
        assert await result(run) == "2 before"
        assert (await runtime.replay(run.id)).id


async def test_branch_needs_turns_that_have_ended_and_a_name_of_its_own(tmp_path):
    url = f"sqlite:///{tmp_path}/runs.db"
    await left_waiting(url, asked, value="wait")
    async with Runtime(url, workflows=[counting, asked]) as runtime:
        await say(runtime, "t", "a")
        await runtime.start(asked, "wait", thread="t")
        for base, turn, name in (("t", 2, "u"), ("t", 3, "u"), ("none", 1, "u"), ("t", 1, "t")):
            with pytest.raises(InputInvalid):
                await runtime.branch_thread(name, base=base, turn=turn)
        with pytest.raises(InputInvalid):
            await runtime.branch_thread("u", [Message("tool", "x")], base="t", turn=1)
        assert [item.id for item in await runtime.branches("t")] == ["t"]


@stores
async def test_erasing_a_conversation_erases_its_branches(url, tmp_path: Path):
    async with Runtime(url, workflows=[counting]) as runtime:
        await say(runtime, "t", "a", "b")
        await runtime.branch_thread("u", base="t", turn=1)
        await runtime.branch_thread("v", [Message("user", "c")], base="u", turn=1)
        await say(runtime, "u", "d")
        await say(runtime, "other", "e")

        await runtime.erase(thread="t")

        assert [run.thread for run in await runtime.runs()] == ["other"]
        for name in "tuv":
            assert (await runtime.thread(name)).messages == ()


@stores
async def test_erasing_a_branch_leaves_its_base(url):
    async with Runtime(url, workflows=[counting]) as runtime:
        await say(runtime, "t", "a", "b")
        await runtime.branch_thread("u", base="t", turn=1)
        await say(runtime, "u", "d")

        assert (await runtime.erase(thread="u")).runs == 1
        assert [item.id for item in await runtime.branches("t")] == ["t"]
        assert len((await runtime.thread("t")).messages) == 4


async def test_old_conversation_stays_while_a_branch_is_kept(tmp_path):
    async with Runtime(f"sqlite:///{tmp_path}/runs.db", workflows=[counting]) as runtime:
        await say(runtime, "t", "a")
        await runtime.branch_thread("u", base="t", turn=1)
        await say(runtime, "u", "b")

        kept = await runtime.prune(keep=1)
        assert (kept.runs, len(kept.kept_for_forks)) == (0, 1)
        assert len((await runtime.thread("u")).messages) == 4
        assert (await runtime.prune(keep=0)).runs == 2


async def test_text_of_an_answer_that_was_cancelled_stays_in_the_conversation(tmp_path):
    @workflow
    async def slow(ctx: Context, text: str) -> str:
        ctx.emit("Once upon ")
        ctx.emit("a time")
        await ctx.ask(bool, "Go on?", key="go")
        return "never"

    async with Runtime(f"sqlite:///{tmp_path}/runs.db", workflows=[slow]) as runtime:
        run = await runtime.start(slow, "tell", thread="t")
        await until(run, "waiting")
        await run.cancel()
        with pytest.raises(Exception, match="cancelled"):
            await result(run)
        assert [m.text for m in (await runtime.thread("t")).messages] == [
            "tell",
            "Once upon a time",
        ]


@workflow
async def stepping(ctx: Context, text: str) -> str:
    first = await ctx.run(shout, text)
    ctx.thread.state["said"] = [*ctx.thread.state.get("said", []), first]
    second = await ctx.run(shout, f"{len(ctx.thread.messages)} before")
    return f"{first} {second}"


async def shout(text: str) -> str:
    return text.upper()


async def test_turn_of_a_branch_is_the_same_wherever_its_process_dies():
    for after in range(1, 12):
        kept = MemoryStore()
        async with Runtime(kept, workflows=[stepping]) as runtime:
            for text in ("a", "b"):
                await result(await runtime.start(stepping, text, thread="t"))
            await runtime.branch_thread("u", [Message("user", "x")], base="t", turn=1)
        down = CrashingStore(kept, after=after)
        with contextlib.suppress(StoreError):
            async with asyncio.timeout(SECONDS), Runtime(down, workflows=[stepping]) as runtime:
                run = await runtime.start(stepping, "c", thread="u", key="k")
                while not down.is_down and await run.status() in ("running", "waiting"):
                    await asyncio.sleep(0)
        kept.forget_owners()
        async with Runtime(kept, workflows=[stepping]) as runtime:
            await result(await runtime.start(stepping, "later", thread="t"))
            run = await runtime.start(stepping, "c", thread="u", key="k")
            assert await result(run) == "C 3 BEFORE", after
            assert dict((await runtime.thread("u")).state) == {"said": ["A", "C"]}
            assert len(await runtime.runs(thread="u")) == 1
