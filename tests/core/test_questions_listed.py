"""What all runs ask of people, as one list."""

import asyncio
import sqlite3
from contextlib import closing

import pytest

from crew import Agent, Context, Event, Runtime, ToolCall, tool, workflow
from crew.errors import InputInvalid, RunNotFound
from crew.fold import Transcripts, folded, readable
from crew.testing import ScriptedModel
from tests.core.lives import SECONDS, result, stores, until


@workflow
async def both(ctx: Context, name: str) -> bool:
    async with ctx.timeout(3600):
        mine = await ctx.ask(bool, f"Is it you, {name}?", key="me")
    return mine and await ctx.ask(bool, f"Refund {name}?", key="refund", to="manager")


async def three_waiting(runtime: Runtime) -> list[str]:
    """Start three runs, the second of which waits for a manager; return their ids."""
    runs = [await runtime.start(both, name) for name in ("ada", "eva", "ida")]
    for run in runs:
        await until(run, "waiting")
    await runs[1].answer("me", True)
    async with asyncio.timeout(SECONDS):
        while not [item for item in await runs[1].questions() if item.to]:
            await asyncio.sleep(0.01)
    return [run.id for run in runs]


@stores
async def test_newest_run_is_first_and_only_what_is_for_a_role_is_kept(url):
    async with Runtime(url, workflows=[both]) as runtime:
        first, second, third = await three_waiting(runtime)
        everything = await runtime.questions()
        assert [asked.run.id for asked in everything] == [third, second, first]
        assert [asked.question.to for asked in everything] == [None, "manager", None]
        of_clerks = await runtime.questions(to=["clerk"])
        assert [asked.run.id for asked in of_clerks] == [third, first]
        assert len(await runtime.questions(to=["clerk", "manager"])) == 3


@stores
async def test_pages_hold_each_question_once(url):
    async with Runtime(url, workflows=[both]) as runtime:
        await three_waiting(runtime)
        seen, last = [], None
        while page := await runtime.questions(before=last, limit=1):
            seen += [asked.id for asked in page]
            last = seen[-1]
        assert seen == [asked.id for asked in await runtime.questions()]
        assert len(seen) == 3


async def test_page_behind_a_question_of_a_run_that_has_ended_goes_on_with_older_runs():
    async with Runtime(":memory:", workflows=[both]) as runtime:
        first, *_ = await three_waiting(runtime)
        last, *_ = await runtime.questions()
        await last.run.answer("me", False)
        await result(last.run)
        behind = await runtime.questions(before=last.id)
        assert [asked.run.id for asked in behind][-1] == first
        assert len(behind) == 2


async def test_damaged_run_hides_nothing_of_the_others(tmp_path, caplog):
    url = f"sqlite:///{tmp_path}/runs.db"
    async with Runtime(url, workflows=[both]) as runtime:
        _, bad, _ = await three_waiting(runtime)
    with closing(sqlite3.connect(tmp_path / "runs.db")) as db, db:
        number = db.execute("SELECT number FROM runs WHERE id = ?", (bad,)).fetchone()[0]
        changed = "UPDATE segments SET crc = crc + 1 WHERE id >> 32 = ?"
        assert db.execute(changed, (number,)).rowcount
    async with Runtime(url, worker=False) as runtime:
        asked = await runtime.questions()
    assert len(asked) == 2
    assert bad not in [item.run.id for item in asked]
    assert [each.run for each in caplog.records if each.message == "run.damaged"] == [bad]


async def test_page_behind_nothing_is_refused():
    async with Runtime(":memory:") as runtime:
        with pytest.raises(RunNotFound):
            await runtime.questions(before="r0:1")
        with pytest.raises(InputInvalid):
            await runtime.questions(limit=-1)


@pytest.mark.parametrize("is_mine", [True, False])
def test_what_is_asked_of_somebody_else_is_left_out_of_an_event(is_mine):
    data = {"question": "Refund 900?", "key": "refund", "schema": {}, "type": "bool", "to": "eva"}
    shown = readable(Event(1, "ask.opened", "both[0]/=refund", data), lambda to: is_mine)
    assert (shown == data) is is_mine
    assert ("900" in str(shown)) is is_mine
    assert is_mine or shown == {"question": "waiting for eva", "key": "refund", "to": "eva"}


def test_event_that_asks_nothing_is_shown_whole():
    event = Event(1, "step.completed", "both[0]", {"output": "to"})
    assert readable(event, lambda to: False) == event.data


@tool(effect="read")
def look(word: str) -> str:
    """Look a word up."""
    return f"{word}!"


async def test_transcripts_are_those_of_all_agents_of_a_run():
    model = ScriptedModel([ToolCall("look", {"word": "tea"}), "tea it is"])
    agent = Agent("clerk", model=model, tools=[look])

    @workflow
    async def flow(ctx: Context, text: str) -> str:
        return (await ctx.run(agent, text)).output

    async with Runtime(":memory:", workflows=[flow]) as runtime:
        run = await runtime.start(flow, "hello")
        await result(run)
        [said] = folded(await run.recorded(), Transcripts()).all
    assert said.agent == "clerk"
    assert [message["role"] for message in said.messages][-3:] == ["assistant", "tool", "assistant"]


async def test_what_a_run_asked_that_has_ended_is_kept_no_longer():
    async with Runtime(":memory:", workflows=[both]) as runtime:
        await three_waiting(runtime)
        newest, *others = await runtime.questions()
        await newest.run.answer("me", False)
        await result(newest.run)
        assert [asked.id for asked in await runtime.questions()] == [asked.id for asked in others]
        assert len(runtime.asked._listed["default"]) == 2
