"""What a model says is passed on while it says it, and survives a crash without a seam."""

import asyncio
import json
import sqlite3
from contextlib import closing

import pytest

from crew import Agent, Budget, Context, Graph, ModelError, Retry, RunFailed, Runtime, workflow
from crew.agent import speech
from crew.journal.sqlite import SqliteStore
from crew.llm import ModelReply
from crew.message import Usage
from crew.testing import ScriptedModel
from tests.core.flows import Answer, Question

STORY = "Once upon a time there was a run that nobody could stop, and it went on and on."


class Slow(ScriptedModel):
    """Says a piece, then waits to be let on; so that a crash falls between two pieces."""

    def __init__(self, text: str, *, stop_after: int | None = None, continues: bool = True):
        super().__init__(continues=continues)
        self.text, self.stop_after = text, stop_after
        self.stopped = asyncio.Event()

    async def complete(self, request, *, on_text=None):
        self.requests.append(request)
        rest = self.text[len(request.partial) :]
        for number, start in enumerate(range(0, len(rest), 10)):
            if number == self.stop_after:
                self.stopped.set()
                await asyncio.sleep(60)
            on_text(rest[start : start + 10])
            await asyncio.sleep(0.03)
        return ModelReply(self.text, model="slow")


def story(model):
    teller = Agent("teller", model=model)

    @workflow(name="story")
    async def tell(ctx: Context, text: str) -> str:
        return (await ctx.run(teller, text, emit=True)).output

    return tell


def answer_of(events) -> str:
    """Put the answer together as a reader of the stream does."""
    said: list[tuple[str, str]] = []
    for event in events:
        if event.kind == "text.emitted":
            said.append((event.path, event.data["text"]))
        if event.kind == "text.discarded":
            gone = event.path
            said = [(p, t) for p, t in said if p != gone and not p.startswith(f"{gone}/")]
    return "".join(text for _, text in said)


async def test_where_many_speak_each_comes_in_longer_pieces(runtime, monkeypatch):
    monkeypatch.setattr(speech, "MOST_BATCHES_A_SECOND", 1)
    run = await runtime.start(story(Slow(STORY)), "go")
    assert await run.result() == STORY
    said = [event for event in await run.recorded() if event.kind == "text.emitted"]
    assert len(said) == 2  # the first piece at once, the others together


async def test_text_is_passed_on_while_it_is_said(runtime):
    run = await runtime.start(story(Slow(STORY)), "go")
    assert await run.result() == STORY
    events = await run.recorded()
    pieces = [event for event in events if event.kind == "text.emitted"]
    assert len(pieces) >= 4
    assert {piece.path for piece in pieces} == {"tell[0]/teller/model.0"}
    assert answer_of(events) == STORY


async def cut_off(url, first: Slow, *, continues: bool = True):
    """Crash in the middle of the story, go on in another process; return the events, requests."""
    async with Runtime(url) as runtime:
        run = await runtime.start(story(first), "go")
        await first.stopped.wait()
        while answer_of(await run.recorded()) != STORY[:30]:
            await asyncio.sleep(0.01)
    second = Slow(STORY, continues=continues)
    async with Runtime(url, workflows=[story(second)]) as runtime:
        run = await runtime.get(run.id)
        assert await run.result() == STORY
        return await run.recorded(), second.requests


async def test_an_answer_that_was_cut_off_goes_on_without_a_seam(url):
    events, requests = await cut_off(url, Slow(STORY, stop_after=3))
    assert requests[0].partial == STORY[:30]
    assert answer_of(events) == STORY
    assert not any(event.kind == "text.discarded" for event in events)


async def test_where_a_model_cannot_go_on_the_answer_starts_again(url):
    events, requests = await cut_off(url, Slow(STORY, stop_after=3), continues=False)
    assert requests[0].partial == ""
    assert [e.path for e in events if e.kind == "text.discarded"] == ["tell[0]/teller/model.0"]
    assert answer_of(events) == STORY


async def test_what_was_taken_back_before_a_crash_is_not_gone_on_with(url, tmp_path):
    class BreakingOnce(Slow):
        async def complete(self, request, *, on_text=None):
            if not self.requests:
                self.requests.append(request)
                on_text("It was a dark and stormy night")
                raise ModelError(message="the engine is gone", broke_off=True)
            return await super().complete(request, on_text=on_text)

    events, requests = await cut_off(url, BreakingOnce(STORY, stop_after=3))
    assert requests[0].partial == STORY[:30]
    assert answer_of(events) == STORY
    with closing(SqliteStore(tmp_path / "runs.db")) as store:
        assert not any(STORY in event.body for event in store.events(1))  # said, so pointed at


async def test_what_was_said_is_stored_once(url, tmp_path):
    store = SqliteStore(tmp_path / "runs.db", compress=False)
    async with Runtime(store) as runtime:
        run = await runtime.start(story(Slow(STORY)), "go")
        assert await run.result() == STORY
    store.close()
    with sqlite3.connect(tmp_path / "runs.db") as db:
        stored = "".join(body for (body,) in db.execute("SELECT body FROM segments ORDER BY id"))
    db.close()
    assert STORY not in stored
    assert stored.count('"$texts"') == 5  # of call, agent (twice), step and run
    assert stored.count("Once upon ") == 1


async def test_a_step_that_fails_takes_back_what_it_said(runtime):
    teller = Agent("teller", model=ScriptedModel(["first try", "second try"]))
    flow = Graph("flow", input=Question, output=Answer)
    tries = []

    @flow.node(retry=Retry(attempts=2, first_delay=0.001))
    async def tell(ctx: Context, question: Question) -> Answer:
        said = await ctx.run(teller, question.text, emit=True)
        ctx.emit("!")
        tries.append(said.output)
        if len(tries) == 1:
            raise ValueError("not good enough")
        return Answer(text=said.output)

    run = await runtime.start(flow, Question(text="go"))
    await run.result()
    events = await run.recorded()
    assert [e.path for e in events if e.kind == "text.discarded"] == ["tell[0]"]
    assert answer_of(events) == "second try!"


async def test_a_call_that_fails_takes_back_what_it_said(runtime):
    class Breaking(ScriptedModel):
        async def complete(self, request, *, on_text=None):
            on_text("half a sent")
            raise ModelError(message="the engine is gone")

    teller = Agent("teller", model=Breaking())

    @workflow
    async def flow(ctx: Context, text: str) -> str:
        try:
            await ctx.run(teller, text, emit=True)
        except ModelError:
            ctx.emit("sorry")
        return "done"

    run = await runtime.start(flow, "go")
    await run.result()
    assert answer_of(await run.recorded()) == "sorry"


@pytest.mark.parametrize(("times", "status"), [(1, "completed"), (9, "failed")])
async def test_an_answer_that_broke_off_is_said_anew_a_few_times(runtime, times, status):
    class Breaking(ScriptedModel):
        async def complete(self, request, *, on_text=None):
            on_text("half a sent")
            if len(self.requests) < times:
                self.requests.append(request)
                raise ModelError(message="the engine is gone", broke_off=True)
            return ModelReply("half a sentence", model="breaking")

    run = await runtime.start(story(Breaking()), "go")
    events = [event async for event in run.events()]
    assert await run.status() == status
    assert [event.kind for event in events].count("text.discarded") == min(times, 4)
    assert [event.kind for event in events].count("model.started") == 1


class BreakingOnce(ScriptedModel):
    """Breaks off in its first answer, which cost 330 tokens; each whole one costs 45."""

    async def complete(self, request, *, on_text=None):
        self.requests.append(request)
        on_text("half a sent")
        if len(self.requests) == 1:
            raise ModelError(broke_off=True, input_tokens=300, output_tokens=30)
        return ModelReply("half a sentence", usage=Usage(40, 5, calls=1))


async def test_tokens_of_an_answer_that_broke_off_are_counted_with_those_of_the_next(runtime):
    run = await runtime.start(story(BreakingOnce()), "go")
    await run.result()
    assert Usage(340, 35, calls=1).to_data().items() <= (await run.usage()).items()


async def test_a_budget_counts_what_an_answer_cost_that_broke_off(runtime):
    teller = Agent("teller", model=BreakingOnce(), max_tokens=50)

    @workflow
    async def flow(ctx: Context) -> None:
        for text in "abcd":
            await ctx.run(teller, text, emit=True)

    run = await runtime.start(flow, budget=Budget(tokens=500))
    with pytest.raises(RunFailed, match="125 left"):
        await run.result()


async def test_a_typed_agent_without_tools_streams_its_text_field(runtime):
    agent = Agent("agent", model=ScriptedModel(['{"text":"typed"}']), output=Answer)

    @workflow
    async def flow(ctx: Context, text: str) -> str:
        return (await ctx.run(agent, text, emit=True)).output.text

    run = await runtime.start(flow, "go")
    await run.result()
    assert [json.loads(json.dumps(e.data)) for e in await run.recorded() if "text." in e.kind] == [
        {"text": "typed", "streamed": True}
    ]


@pytest.mark.parametrize("pieces", [1, 7])
async def test_a_replay_gives_the_same_answer(runtime, pieces):
    run = await runtime.start(story(Slow(STORY[: 10 * pieces])), "go")
    output = await run.result()
    assert await (await runtime.replay(run.id)).result() == output
