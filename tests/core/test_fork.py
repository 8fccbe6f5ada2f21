"""Forks: a new run from a prefix of a journal, that pays only for what is different."""

import asyncio

import pytest
from pydantic import BaseModel

from crew import Agent, Context, Graph, InputInvalid, RunCancelled, Runtime, tool, workflow
from crew.run.fork import effects_before
from crew.testing import ScriptedModel, ToolCall
from tests.core.lives import result, until

pytestmark = pytest.mark.parametrize("url", ["memory", "sqlite", "postgres"], indirect=True)


class Question(BaseModel):
    text: str


class Note(BaseModel):
    text: str


class Line(BaseModel):
    text: str


class Report(BaseModel):
    text: str


class Asked:
    """Two agents in a graph, whose model calls are counted."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.finder = Agent("finder", model=ScriptedModel(self._found))
        self.writer = self.named_writer("plain")
        self.flow = Graph("report", input=Question, output=Report)
        self.acts: list[str] = []

        @self.flow.node
        async def find(ctx: Context, question: Question) -> Note:
            note = await ctx.run(self.finder, question.text)
            await ctx.effect(self.act, note.output, key="act")
            return Note(text=note.output)

        @self.flow.node
        async def write(ctx: Context, note: Note) -> Report:
            return Report(text=(await ctx.run(self.writer, note.text)).output)

    async def act(self, text: str) -> str:
        self.acts.append(text)
        return text

    def _found(self, request) -> str:
        self.calls.append("finder")
        return f"found {request.messages[-1].text}"

    def named_writer(self, style: str) -> Agent[str]:
        def write(request) -> str:
            self.calls.append(f"writer {style}")
            return f"{style}: {request.messages[-1].text}"

        return Agent("writer", instructions=style, model=ScriptedModel(write))


async def finished(runtime, asked):
    run = await runtime.start(asked.flow, Question(text="q"))
    assert (await run.result()).text == "plain: found q"
    return run


async def test_another_agent_is_all_that_a_fork_calls(url):
    asked = Asked()
    async with Runtime(url) as runtime:
        run = await finished(runtime, asked)
        fork = await runtime.fork(run.id, override={"writer": asked.named_writer("rich")})
        assert (await fork.result()).text == "rich: found q"
        assert asked.calls == ["finder", "writer plain", "writer rich"]
        assert (await run.result()).text == "plain: found q"
        assert fork.id != run.id


async def test_an_agent_at_the_beginning_is_replaced_and_what_follows_with_it(url):
    asked = Asked()
    async with Runtime(url) as runtime:
        run = await finished(runtime, asked)
        other = Agent("finder", instructions="other", model=ScriptedModel(lambda request: "else"))
        fork = await runtime.fork(run.id, override={"finder": other})
        assert (await fork.result()).text == "plain: else"
        assert asked.calls == ["finder", "writer plain", "writer plain"]
        assert asked.acts == ["found q", "else"]


async def test_a_prompt_that_was_edited_is_called_again_and_nothing_else(url):
    asked = Asked()
    async with Runtime(url) as runtime:
        run = await finished(runtime, asked)
        asked.writer.instructions = "plain, but short"
        fork = await runtime.fork(run.id)
        await fork.result()
        assert asked.calls == ["finder", "writer plain", "writer plain"]
        assert asked.acts == ["found q"]
        end = (await fork.recorded())[-1]
        assert end.data["usage"]["calls"] == end.data["reused"]["calls"] == 1


async def test_a_fork_of_what_did_not_change_costs_nothing(url):
    asked = Asked()
    async with Runtime(url) as runtime:
        run = await finished(runtime, asked)
        fork = await runtime.fork(run.id, live=False, effects=False)
        assert (await fork.result()).text == "plain: found q"
        assert asked.calls == ["finder", "writer plain"]
        assert asked.acts == ["found q"]
        assert (await fork.usage()).get("calls", 0) == 0


async def test_a_fork_goes_on_at_every_event_of_a_run(url):
    asked = Asked()
    async with Runtime(url) as runtime:
        run = await finished(runtime, asked)
        events = await run.recorded()
        for at in range(1, len(events) + 1):
            fork = await runtime.fork(run.id, at=at)
            assert (await fork.result()).text == "plain: found q"
            shared = [(e.offset, e.kind, e.path) for e in events[: min(at, len(events) - 1)]]
            own = [(e.offset, e.kind, e.path) for e in await fork.recorded()]
            assert own[: len(shared)] == shared
            assert [offset for offset, _, _ in own] == list(range(1, len(own) + 1))


async def test_a_page_of_a_fork_holds_events_of_both_sides_of_the_cut(url):
    asked = Asked()
    async with Runtime(url) as runtime:
        run = await finished(runtime, asked)
        fork = await runtime.fork(run.id, at=4)
        await fork.result()
        assert await fork.page(after=2, limit=4) == (await fork.recorded())[2:6]


async def test_an_effect_that_had_begun_at_the_cut_is_not_repeated(url):
    asked = Asked()
    async with Runtime(url) as runtime:
        run = await finished(runtime, asked)
        (begun,) = [e for e in await run.recorded() if e.kind == "effect.started"]
        fork = await runtime.fork(run.id, at=begun.offset)
        assert (await fork.result()).text == "plain: found q"
        assert asked.acts == ["found q"]


async def test_a_fork_that_is_not_live_stops_at_the_first_new_call(url):
    asked = Asked()
    async with Runtime(url) as runtime:
        run = await finished(runtime, asked)
        other = asked.named_writer("rich")
        fork = await runtime.fork(run.id, live=False, override={"writer": other})
        async for event in fork.events():
            if event.kind == "run.parked":
                break
        assert event.data["reason"] == "unrecorded"
        assert event.path == "write[0]/writer"
        assert asked.calls == ["finder", "writer plain"]
        assert await fork.status() == "waiting"


async def test_a_fork_that_may_not_act_stops_before_a_new_effect(url):
    asked = Asked()
    async with Runtime(url) as runtime:
        run = await finished(runtime, asked)
        other = Agent("finder", instructions="other", model=ScriptedModel(lambda request: "else"))
        fork = await runtime.fork(run.id, override={"finder": other}, effects=False)
        async for event in fork.events():
            if event.kind == "run.parked":
                break
        assert "new effects are not allowed" in event.data["detail"]
        assert asked.acts == ["found q"]


async def test_a_fork_that_may_not_act_starts_no_child_that_might(url):
    @workflow
    async def child(ctx: Context, text: str) -> str:
        return text

    said = ["a"]

    @workflow
    async def parent(ctx: Context, text: str) -> str:
        return await ctx.run(child, said[0])

    async with Runtime(url) as runtime:
        run = await runtime.start(parent, "q")
        await run.result()
        same = await runtime.fork(run.id, effects=False)
        assert await same.result() == "a"
        said[0] = "b"
        fork = await runtime.fork(run.id, effects=False)
        async for event in fork.events():
            if event.kind == "run.parked":
                break
        assert "new effects are not allowed" in event.data["detail"]
        assert len(await runtime.runs()) == 4


async def test_a_runtime_that_takes_nothing_over_forks_and_leaves_others_alone(url, tmp_path):
    @workflow
    async def slow(ctx: Context, text: str) -> str:
        await ctx.sleep(0.1 if text == "short" else 1.4)
        return text

    place = f"sqlite:///{tmp_path}/left.db"
    async with Runtime(place) as runtime:
        left = await runtime.start(slow, "left")
        run = await runtime.start(slow, "short")
        await run.result()
    async with Runtime(place, workflows=[slow], takes_over=False) as runtime:
        fork = await runtime.fork(run.id, at=1)
        assert await fork.result() == "short"
        seen = await runtime.get(left.id)
        assert "run.taken" not in [event.kind for event in await seen.recorded()]
        resumed = await runtime.resume(left.id)
        assert await resumed.result() == "left"


async def test_a_fork_goes_on_in_another_process_with_the_agents_it_was_given(tmp_path, url):
    asked = Asked()
    place = f"sqlite:///{tmp_path}/forks.db"
    async with Runtime(place) as runtime:
        run = await finished(runtime, asked)
    async with Runtime(place, workflows=[asked.flow], worker=False) as looking:
        fork = await looking.fork(run.id, override={"writer": asked.named_writer("rich")})
    async with Runtime(place, workflows=[asked.flow]) as other:
        # Without the agent that stands in it is not driven, rather than with the wrong one.
        assert await (await other.get(fork.id)).status() == "running"
        again = await other.fork(run.id, override={"writer": asked.named_writer("rich")})
        assert (await again.result()).text == "rich: found q"
        assert (await (await other.get(fork.id)).result()).text == "rich: found q"


async def test_a_fork_of_a_turn_sees_the_conversation_of_that_turn(url):
    @workflow
    async def remember(ctx: Context, text: str) -> str:
        return f"{len(ctx.thread.messages)} before {text}"

    async with Runtime(url) as runtime:
        runs = [await runtime.start(remember, text, thread="t") for text in "abc"]
        assert await runs[2].result() == "4 before c"
        fork = await runtime.fork(runs[1].id, at=1)
        assert await fork.result() == "2 before b"
        assert len((await runtime.thread("t")).messages) == 6


@pytest.mark.parametrize("at", [0, 999])
async def test_a_fork_where_nothing_is_says_what_there_is(url, at):
    asked = Asked()
    async with Runtime(url) as runtime:
        run = await finished(runtime, asked)
        with pytest.raises(InputInvalid, match=f"has events 1 to .*, none at {at}"):
            await runtime.fork(run.id, at=at)


async def test_what_is_no_agent_stands_in_for_none(url):
    asked = Asked()
    async with Runtime(url) as runtime:
        run = await finished(runtime, asked)
        with pytest.raises(InputInvalid, match="override.'writer'. is 'rich', which is no agent"):
            await runtime.fork(run.id, override={"writer": "rich"})


@tool(effect="once")
async def send(text: str) -> str:
    """Send a letter."""
    return f"sent {text}"


def sends(request):
    said = request.messages[-1]
    return said.text if said.role == "tool" else ToolCall("send", {"text": said.text})


async def test_a_fork_that_may_not_act_stops_before_an_agents_tool_that_does(url):
    asked = Asked()
    async with Runtime(url) as runtime:
        run = await finished(runtime, asked)
        sender = Agent("writer", model=ScriptedModel(sends), tools=[send])
        fork = await runtime.fork(run.id, override={"writer": sender}, effects=False)
        async for event in fork.events():
            if event.kind == "run.parked":
                break
        assert event.path == "write[0]/writer/send.0"
        assert "agent.failed" not in [event.kind for event in await fork.recorded()]


async def test_the_effects_that_a_fork_stands_on_are_those_before_it(url):
    asked = Asked()
    asked.writer = Agent("writer", model=ScriptedModel(sends), tools=[send])
    async with Runtime(url) as runtime:
        run = await runtime.start(asked.flow, Question(text="q"))
        assert (await run.result()).text == "sent found q"
        events = await run.recorded()
    assert effects_before(events) == ["find[0]/=act", "write[0]/writer/send.0"]
    (acted,) = [event.offset for event in events if event.kind == "effect.started"]
    assert effects_before(events[: acted - 1]) == []


async def test_a_fork_is_parked_once_whatever_its_other_steps_still_ask_for(url):
    graph, more = Graph("more", input=Question, output=Report), []

    async def say(text: str) -> str:
        return text

    @graph.node
    async def split(question: Question) -> list[Note]:
        return [Note(text="asks"), Note(text="waits")]

    @graph.node
    async def work(ctx: Context, note: Note) -> Line:
        try:
            await asyncio.sleep(60 if more and note.text == "waits" else 0.02)
        finally:
            for text in more:
                await ctx.run(say, text)
        return Line(text=note.text)

    @graph.node
    async def join(lines: list[Line]) -> Report:
        return Report(text=" ".join(line.text for line in lines))

    async with Runtime(url) as runtime:
        run = await runtime.start(graph, Question(text="q"))
        assert (await run.result()).text == "asks waits"
        more.append("new")
        fork = await runtime.fork(run.id, live=False)
        async for event in fork.events():
            if event.kind == "run.parked":
                break
        assert event.path == "work[0]/say"
        await asyncio.sleep(0.05)
        assert (await fork.recorded())[-1] == event


async def test_a_fork_of_a_cancelled_run_asks_again_what_that_one_asked(url):
    @workflow
    async def asks(ctx: Context) -> str:
        names = [ctx.ask(str, "Who?", key=key) for key in ("first", "second")]
        return "".join(await asyncio.gather(*names))

    async with Runtime(url) as runtime, asyncio.timeout(10):
        run = await runtime.start(asks)
        while len(await run.questions()) < 2:
            await asyncio.sleep(0.01)
        await run.cancel()
        with pytest.raises(RunCancelled):
            await run.result()
        fork = await runtime.fork(run.id, at=(await run.recorded())[-1].offset)
        while len(await fork.questions()) < 2:
            await asyncio.sleep(0.01)
        await fork.answer("first", "a")
        await fork.answer("second", "b")
        assert await fork.result() == "ab"


@pytest.mark.parametrize("cut", ["behind it", "before it"])
@pytest.mark.parametrize("how", ["block", "question", "call"])
async def test_a_deadline_that_has_not_passed_begins_anew_in_a_fork(url, how, cut):
    @workflow
    async def flow(ctx: Context, text: str) -> str:
        async def ask(text: str) -> str:
            return await ctx.ask(str, text, key="which")

        if how == "question":
            return await ctx.ask(str, text, key="which", timeout=3600.0)
        if how == "call":
            return await ctx.run(ask, text, timeout=3600.0)
        async with ctx.timeout(3600.0):
            return await ask(text)

    async def deadlines(run) -> list[float]:
        events = await run.recorded()
        return [event.data["until"] for event in events if event.kind == "deadline.started"]

    async with Runtime(url) as runtime:
        run = await runtime.start(flow, "which one?")
        await until(run, "waiting")
        (first,) = await deadlines(run)
        await asyncio.sleep(0.2)
        at = (await run.recorded())[-1].offset if cut == "behind it" else None
        fork = await runtime.fork(run.id, at=at)
        await until(fork, "waiting")
        assert (await deadlines(fork))[-1] - first > 0.2
        await fork.answer("which", "this one")
        assert await result(fork) == "this one"
        await run.cancel()


@pytest.mark.parametrize("key", [None, "second"])
async def test_a_fork_asks_what_a_run_asked_first_when_it_was_being_cancelled(url, key):
    asked: list[str] = []

    @workflow
    async def flow(ctx: Context) -> str:
        try:
            return await ctx.ask(str, "Who?", key="first")
        finally:
            if not asked:
                asked.append("second")
                await ctx.ask(str, "Why not?", key=key)

    async with Runtime(url) as runtime:
        run = await runtime.start(flow)
        await until(run, "waiting")
        await run.cancel()
        with pytest.raises(RunCancelled):
            await result(run)
        assert asked == ["second"]
        fork = await runtime.fork(run.id, at=(await run.recorded())[-1].offset)
        await until(fork, "waiting")
        await fork.answer("first", "me")
        assert await result(fork) == "me"
