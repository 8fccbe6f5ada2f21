"""A step sees the shared state as it was when it first began, also when it is entered again."""

import json
from typing import Annotated, Any

import pytest
from pydantic import BaseModel, Field

from crew import Agent, Append, Context, Graph, tool, workflow
from crew.graph.retry import Retry
from crew.journal.memory import MemoryStore
from crew.run import course
from crew.testing import ScriptedModel
from tests.core.lives import answered, left_waiting, replayed, stores


class Start(BaseModel):
    n: int = 0


class Read(BaseModel):
    number: int


class Write(BaseModel):
    number: int


class Done(BaseModel):
    text: str


class Out(BaseModel):
    texts: list[str]


class Shared(BaseModel):
    last: int = 0
    log: Annotated[list[int], Append()] = Field(default_factory=list)


async def echo(text: str) -> str:
    return text


@workflow
async def echoing(text: str) -> str:
    return text


@tool(effect="read")
async def look(text: str) -> str:
    """Return it."""
    return text


def asked(text: str) -> Agent[str]:
    return Agent("echo", model=ScriptedModel(lambda request: request.messages[-1].text or ""))


async def by_function(ctx: Context, text: str) -> Any:
    return await ctx.run(echo, text)


async def by_effect(ctx: Context, text: str) -> Any:
    return await ctx.effect(echo, text)


async def by_child(ctx: Context, text: str) -> Any:
    return await ctx.run(echoing, text)


async def by_agent(ctx: Context, text: str) -> Any:
    return (await ctx.run(asked(text), text)).output


async def by_map(ctx: Context, text: str) -> Any:
    return (await ctx.map(echo, [text, text]))[0]


WAYS = [by_function, by_effect, by_child, by_agent, by_map]


def racing(way: Any, *, fails: int = 0, patches: int = 3) -> Graph:
    """A step reads the state and waits for a person; another patches it meanwhile, and again."""
    graph = Graph("racing", input=Start, output=Out, state=Shared)
    failed: list[int] = []

    @graph.node
    async def begin(start: Start) -> list[Read | Write]:
        return [Read(number=0), Write(number=1)]

    @graph.node(retry=Retry(attempts=fails + 1, first_delay=0.001))
    async def read(ctx: Context, item: Read) -> Done:
        seen = f"{ctx.state.last} {ctx.state.log}"
        text = await way(ctx, seen)
        if len(failed) < fails:
            failed.append(1)
            raise ValueError("once more")
        await ctx.ask(bool, "Go on?", key="go")
        assert text == f"{ctx.state.last} {ctx.state.log}" == seen
        return Done(text=text)

    @graph.node
    async def write(ctx: Context, item: Write) -> Write | Done:
        ctx.patch(last=item.number, log=[item.number])
        return Write(number=item.number + 1) if item.number < patches else Done(text="written")

    @graph.node
    async def end(ctx: Context, done: list[Done]) -> Out:
        return Out(texts=[*(item.text for item in done), f"{ctx.state.last} {ctx.state.log}"])

    return graph


@stores
@pytest.mark.parametrize("way", WAYS)
async def test_a_step_that_is_entered_again_sees_what_it_saw(url, way):
    graph = racing(way)
    flows = (graph, echoing)
    run = await left_waiting(url, *flows, value=Start())
    output, events = await answered(url, *flows, run=run)
    assert output.texts[0] == "0 []"
    assert output.texts[-1] == "3 [1, 2, 3]"
    assert [event.kind for event in events].count("run.taken") == 1


@pytest.mark.parametrize("way", WAYS)
async def test_a_replay_sees_it_too(url, way):
    live, again = await replayed(url, racing(way), echoing, value=Start())
    assert live == again


async def test_a_later_attempt_sees_what_is_there_when_it_begins(url):
    graph = racing(by_function, fails=1)
    run = await left_waiting(url, graph, value=Start())
    output, _ = await answered(url, graph, run=run)
    assert output.texts[0] == "3 [1, 2, 3]"


async def test_a_snapshot_holds_what_steps_under_way_see(monkeypatch):
    monkeypatch.setattr(course, "SNAPSHOT_EVENTS", 2)
    store, graph = MemoryStore(), racing(by_function, patches=40)
    run = await left_waiting(store, graph, value=Start())
    snapshot = store.snapshot(store.run(run).number)
    assert snapshot is not None
    state = json.loads(snapshot.body)["state"]
    assert state["shared"][0]["last"] > 1
    assert {} in state["shared"][1:]
    output, _ = await answered(store, graph, run=run)
    assert output.texts[0] == "0 []"
    assert output.texts[-1] == f"40 {list(range(1, 41))}"
