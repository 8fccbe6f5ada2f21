"""Notes: written with the record of the call, found by later runs, forgotten."""

import asyncio
import contextlib
import secrets
from typing import Any

import pytest

from crew import (
    Agent,
    Context,
    Graph,
    GraphError,
    OutputInvalid,
    Retry,
    RunFailed,
    Runtime,
    StoreError,
    ToolCall,
    tool,
    workflow,
)
from crew.journal import Append
from crew.journal.again import Again
from crew.journal.memory import MemoryStore
from crew.journal.notes import Forget
from crew.journal.opening import open_store
from crew.journal.sqlite import SqliteStore
from crew.testing import CrashingStore, ScriptedModel, simulate
from crew.testing.store_suite import event, note
from tests.core.lives import SECONDS, result, stores
from tests.core.test_erasure import found

SCOPES = ("", "user:eva")


@tool
async def remember(ctx: Context, text: str) -> str:
    """Write something down."""
    await ctx.notes.write(text, scope="user:eva")
    return "noted"


@tool
async def recall(ctx: Context, words: str) -> str:
    """Look for what was written down."""
    return "; ".join(note.text for note in await ctx.notes.search(words, scope="user:eva"))


def clerk(calls: list[Any]) -> Agent[str]:
    def reply(request: Any) -> Any:
        done = sum(message.role == "tool" for message in request.messages)
        return calls[done] if done < len(calls) else request.messages[-1].text

    return Agent("clerk", model=ScriptedModel(reply), tools=[remember, recall])


@workflow
async def keep(ctx: Context, text: str) -> str:
    return await ctx.notes.write(text)


@workflow
async def look(ctx: Context, words: str) -> list[str]:
    return [note.text for note in await ctx.notes.search(words, limit=20)]


@workflow
async def family(ctx: Context, text: str) -> str:
    return await ctx.run(keep, text)


async def done(runtime: Runtime, flow: Any, value: Any, **options: Any) -> Any:
    return await result(await runtime.start(flow, value, **options))


async def test_what_one_run_wrote_another_finds_with_who_wrote_it(runtime):
    run = await runtime.start(keep, "Eva takes her tea green", thread="t")
    name = await result(run)

    @workflow(name="find")
    async def find(ctx: Context, words: str) -> list[Any]:
        (note,) = await ctx.notes.search(words)
        return [note.id, note.text, note.run, note.scope, note.thread, note.tenant]

    expected = [name, "Eva takes her tea green", run.id, "", "t", "default"]
    assert await done(runtime, find, "green teas") == expected


async def test_a_run_finds_what_it_has_just_written_itself(runtime):
    @workflow(name="both")
    async def both(ctx: Context, text: str) -> list[str]:
        await ctx.notes.write("one fish")
        await ctx.notes.write("two fish", scope="user:eva")
        return [note.text for note in await ctx.notes.search("fish", scope=SCOPES)]

    assert sorted(await done(runtime, both, "x")) == ["one fish", "two fish"]


async def test_tenants_and_scopes_see_nothing_of_each_other(runtime):
    await done(runtime, keep, "a secret of ours")
    assert await result(await runtime.of("other").start(look, "secret")) == []

    @workflow(name="elsewhere")
    async def elsewhere(ctx: Context, words: str) -> int:
        return len(await ctx.notes.search(words, scope="user:eva"))

    assert await done(runtime, elsewhere, "secret") == 0


async def test_tools_of_an_agent_write_and_find_notes(runtime):
    agent = clerk(
        [ToolCall("remember", {"text": "likes tea"}), ToolCall("recall", {"words": "tea"})]
    )

    @workflow(name="served")
    async def served(ctx: Context, text: str) -> str:
        return (await ctx.run(agent, text)).output

    assert await done(runtime, served, "x") == "likes tea"


async def test_notes_are_forgotten_by_id_scope_and_run(runtime):
    @workflow(name="forgets")
    async def forgets(ctx: Context, what: str) -> None:
        match what:
            case "id":
                await ctx.notes.forget((await ctx.notes.search("red"))[0].id)
            case "scope":
                await ctx.notes.forget(scope="user:eva")
            case run:
                await ctx.notes.forget(run=run)

    @workflow(name="writes")
    async def writes(ctx: Context, text: str) -> None:
        await ctx.notes.write("fish red")
        await ctx.notes.write("fish blue", scope="user:eva")
        await ctx.notes.write("fish grey")

    @workflow(name="every")
    async def every(ctx: Context, text: str) -> list[str]:
        notes = await ctx.notes.search("fish", scope=SCOPES, limit=20)
        return sorted(note.text.split()[1] for note in notes)

    first = await runtime.start(writes, "x")
    await result(first)
    await done(runtime, forgets, "id")
    assert await done(runtime, every, "") == ["blue", "grey"]
    await done(runtime, forgets, "scope")
    assert await done(runtime, every, "") == ["grey"]
    await done(runtime, writes, "x")
    await done(runtime, forgets, first.id)
    assert await done(runtime, every, "") == ["blue", "grey", "red"]


async def test_a_further_attempt_of_a_step_writes_no_second_note(runtime):
    tries = []
    flow = Graph("retried", input=str, output=int)

    @flow.node(retry=Retry(attempts=3, first_delay=0.01))
    async def write(ctx: Context, text: str) -> int:
        await ctx.notes.write(f"fish of attempt {len(tries)}")
        tries.append(1)
        if len(tries) < 3:
            raise ValueError("once more")
        return len(await ctx.notes.search("fish"))

    assert await done(runtime, flow, "x") == 1
    assert await done(runtime, look, "fish") == ["fish of attempt 2"]


async def test_a_note_stays_though_its_run_fails(runtime):
    @workflow(name="fails")
    async def fails(ctx: Context, text: str) -> None:
        await ctx.notes.write(text)
        raise ValueError("no")

    with pytest.raises(RunFailed):
        await done(runtime, fails, "a lesson")
    assert await done(runtime, look, "lesson") == ["a lesson"]


async def test_a_replay_finds_what_the_run_found_and_writes_nothing(runtime):
    await done(runtime, keep, "old fish")
    run = await runtime.start(look, "fish")
    assert await result(run) == ["old fish"]
    written = await runtime.start(keep, "new fish")
    await result(written)
    assert await result(await runtime.replay(run.id)) == ["old fish"]
    assert await result(await runtime.replay(written.id)) == await result(written)
    assert await done(runtime, look, "fish") == ["new fish", "old fish"]


async def test_a_fork_without_effects_writes_no_note(runtime):
    run = await runtime.start(keep, "a fish")
    await result(run)
    fork = await runtime.fork(run.id, at=1, effects=False)
    async with asyncio.timeout(SECONDS):
        while await fork.status() == "running":
            await asyncio.sleep(0.01)
    assert await fork.status() == "waiting"
    assert await done(runtime, look, "fish") == ["a fish"]
    await result(await runtime.fork(run.id, at=1))
    assert await done(runtime, look, "fish") == ["a fish", "a fish"]


@pytest.mark.parametrize("text", ["nul \0 in it", "\ud800", "x" * 8001, 7, None])
async def test_what_no_store_takes_is_refused(memory, text):
    @workflow(name="bad")
    async def bad(ctx: Context, nothing: str) -> str:
        for write in (lambda: ctx.notes.write(text), lambda: ctx.notes.write("x", scope=text)):
            with contextlib.suppress(OutputInvalid):
                await write()
                return "taken"
        return "refused"

    assert await done(memory, bad, "x") == "refused"


async def test_calls_that_mean_nothing_are_refused(memory):
    @workflow(name="none")
    async def none(ctx: Context, text: str) -> None:
        for call in (ctx.notes.forget(), ctx.notes.search("x", limit=0)):
            with pytest.raises(GraphError, match="say which|1 to 100"):
                await call

    await done(memory, none, "x")


async def test_outside_a_run_there_are_none():
    agent = clerk([ToolCall("remember", {"text": "x"})])
    with pytest.raises(GraphError, match="ctx.notes needs a run"):
        await agent.run("x")


# Crashes


@workflow(name="diary")
async def diary(ctx: Context, text: str) -> list[str]:
    await ctx.notes.write(f"first {text}")
    name = await ctx.notes.write(f"second {text}", scope="user:eva")
    before = await ctx.notes.search(text, scope=SCOPES)
    await ctx.notes.forget(name)
    after = await ctx.notes.search(text, scope=SCOPES)
    await ctx.run(clerk([ToolCall("remember", {"text": f"third {text}"})]), text)
    last = await ctx.notes.search(text, scope=SCOPES)
    return [str(len(notes)) for notes in (before, after, last)]


async def crashed(kept: Any, after: int) -> None:
    store = CrashingStore(kept, after=after)
    async with Runtime(store, workflows=[diary]) as runtime:
        with contextlib.suppress(StoreError):
            run = await runtime.start(diary, "fish", key="one")
            async with asyncio.timeout(SECONDS):
                while not store.is_down and await run.status() == "running":
                    await asyncio.sleep(0.002)
    if isinstance(kept, MemoryStore):
        kept.forget_owners()
    async with Runtime(kept, workflows=[diary]) as runtime:
        run = await runtime.start(diary, "fish", key="one")
        assert await result(run) == ["2", "1", "2"]
        notes = runtime.store.notes("default", SCOPES, "fish", 9)
        assert sorted(note.text for note in notes) == ["first fish", "third fish"]
        assert await result(await runtime.replay(run.id)) == ["2", "1", "2"]


@pytest.mark.parametrize("after", range(1, 19))
async def test_a_crash_anywhere_neither_loses_nor_doubles_a_note(after):
    await crashed(MemoryStore(), after)


@pytest.mark.parametrize("url", ["sqlite", "postgres"], indirect=True)
@pytest.mark.parametrize("after", [3, 4, 6, 8, 11])
async def test_nor_does_one_on_disk(url, after):
    store = open_store(url)
    try:
        await crashed(store, after)
    finally:
        with contextlib.suppress(StoreError):
            store.close()


def test_notes_survive_a_simulation():
    assert simulate(diary, "fish", seeds=25).output == ["2", "1", "2"]


def test_a_commit_that_went_through_changes_no_note_again_when_it_is_tried_with_more():
    again, first = Again(), note("1", "tea")
    forget, last = Forget("default", note="1"), note("2", "milk")
    again.note([Append(1, 1, (event(2),), notes=(first,))], [None])
    longer = Append(1, 1, (event(2), event(3)), notes=(first, forget))
    assert again.left([longer]) == [Append(1, 1, (event(3),), notes=(forget,))]
    again.note(again.left([longer]), [None])
    longest = Append(1, 1, (event(2), event(3), event(4)), notes=(first, forget, last))
    assert again.left([longer, longest]) == [Append(1, 1, (event(4),), notes=(last,))]


# Retention


@stores
async def test_notes_outlive_a_prune_and_go_with_their_thread(url):
    async with Runtime(url) as runtime:
        await done(runtime, keep, "a fish of the thread", thread="t")
        await done(runtime, family, "a fish of a child", thread="t")
        await done(runtime, keep, "a fish of another", thread="u")
        await runtime.prune(keep=0)
        assert len(await done(runtime, look, "fish")) == 3
        await done(runtime, keep, "a fish of later", thread="t")
        await runtime.erase(thread="t")
        assert await done(runtime, look, "fish") == ["a fish of another"]
        await runtime.erase()
        assert await done(runtime, look, "fish") == []


@pytest.mark.parametrize("is_child", [False, True])
async def test_no_byte_of_an_erased_note_is_in_any_file(is_child, tmp_path):
    store, secret = SqliteStore(tmp_path / "runs.db"), secrets.token_hex(12)
    async with Runtime(store) as runtime:
        for number in range(20):
            await done(runtime, keep, f"number {number} of the others", thread="others")
        for number in range(20):
            text = f"{secret}{number} is a word and {secret}"
            await done(runtime, family if is_child else keep, text, thread="secret")
        assert found(tmp_path, secret)
        await runtime.erase(thread="secret")
        assert not found(tmp_path, secret)
        assert len(await done(runtime, look, "others")) == 20
    store.close()
    assert not found(tmp_path, secret)


async def test_no_byte_of_an_erased_summary_is_in_any_file(tmp_path):
    from tests.memory.chats import Chat

    store, secret = SqliteStore(tmp_path / "runs.db"), secrets.token_hex(12)
    chat = Chat(summarise_with=True)
    chat.summariser._always = lambda request: f"they spoke of {secret}"
    async with Runtime(store) as runtime:
        for number in range(12):
            run = await runtime.start(chat.flow, f"{secret} {number} {'words ' * 30}", thread="t")
            await result(run)
        fork = await runtime.fork(run.id, at=1)
        await result(fork)
        assert found(tmp_path, secret)
        await runtime.erase(thread="t")
        assert not found(tmp_path, secret)
        assert (await runtime.thread("t")).messages == ()
    store.close()


async def test_a_forgotten_note_is_gone_from_the_index_once_it_is_scrubbed(tmp_path):
    store, secret = SqliteStore(tmp_path / "runs.db"), secrets.token_hex(12)

    @workflow(name="passing")
    async def passing(ctx: Context, text: str) -> None:
        await ctx.notes.forget(await ctx.notes.write(secret))

    async with Runtime(store) as runtime:
        await done(runtime, passing, "x")
        assert await done(runtime, look, secret[:10]) == []
        await runtime.erase(thread="nobody's")
    store.close()
    assert not found(tmp_path, secret)
