"""The text of a typed answer is passed on while it grows."""

import asyncio
import itertools
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from crew import Agent, Context, Runtime, workflow
from crew.agent.text_field import TextField
from crew.fold import Text, folded
from crew.journal.memory import MemoryStore
from crew.testing import CrashingStore, ScriptedModel
from tests.core.lives import SECONDS, result

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text() | st.just("text"), inner),
    max_leaves=8,
)


def read(pieces: list[str]) -> list[str]:
    found: list[str] = []
    field = TextField(found.append)
    for piece in pieces:
        field.add(piece)
    return found


@given(
    value=st.dictionaries(st.text() | st.just("text"), VALUES, max_size=4),
    cuts=st.lists(st.integers(0, 200)),
    ascii_only=st.booleans(),
    indent=st.sampled_from([None, 2]),
)
def test_it_is_the_field_and_nothing_else_wherever_the_json_is_cut(value, cuts, ascii_only, indent):
    whole = json.dumps(value, ensure_ascii=ascii_only, indent=indent)
    places = [0, *sorted(cut for cut in cuts if cut < len(whole)), len(whole)]
    pieces = [whole[start:end] for start, end in itertools.pairwise(places)]
    text = value.get("text")
    assert "".join(read(pieces)) == (text if isinstance(text, str) else "")


def test_it_grows_with_each_piece():
    assert read(['```json\n{"te', 'xt": "Hel', "lo\\", 'n", "n": 1}']) == ["Hel", "lo", "\n"]


@pytest.mark.parametrize(
    "pieces", [['{"text": "\\ud83d', '\\ude00"}'], ['{"text": "\\ud8', '3d\\ude00"}']]
)
def test_a_pair_of_escapes_is_passed_on_as_one(pieces):
    assert read(pieces) == ["\N{GRINNING FACE}"]


class Answer(BaseModel):
    text: str
    sources: list[str] = []


def flow_of(agent: Agent[Any]) -> Any:
    @workflow(name="flow")
    async def flow(ctx: Context, text: str) -> str:
        return (await ctx.run(agent, text, emit=True)).output.text

    return flow


async def test_a_typed_agent_passes_its_text_on_as_it_comes(runtime):
    model = ScriptedModel([Answer(text="a long answer", sources=["x"])])
    run = await runtime.start(flow_of(Agent("a", model=model, output=Answer)), "go")
    assert await run.result() == "a long answer"
    events = await run.recorded()
    assert str(folded(events, Text())) == "a long answer"
    emitted = next(event for event in events if event.kind == "text.emitted")
    assert emitted.path.endswith("/model.0")


async def test_the_text_of_an_answer_that_is_refused_is_taken_back(runtime):
    model = ScriptedModel([Answer(text="wrong"), Answer(text="right")])
    agent = Agent("a", model=model, output=Answer, check=lambda answer: answer.text == "right")
    run = await runtime.start(flow_of(agent), "go")
    assert await run.result() == "right"
    assert str(folded(await run.recorded(), Text())) == "right"


async def test_killed_anywhere_in_it_a_reader_has_the_text_once():
    text = "a long answer " * 20
    for after in range(3, 12):
        kept = MemoryStore()
        model = ScriptedModel(lambda request: Answer(text=text), continues=True)
        flow, store = (
            flow_of(Agent("a", model=model, output=Answer)),
            CrashingStore(kept, after=after),
        )
        async with Runtime(store) as runtime:
            run = await runtime.start(flow, "go")
            async with asyncio.timeout(SECONDS):
                while not store.is_down and await run.status() == "running":
                    await asyncio.sleep(0.001)
        kept.forget_owners()
        async with Runtime(kept, workflows=[flow]) as runtime:
            run = await runtime.get(run.id)
            assert await result(run) == text
            assert str(folded(await run.recorded(), Text())) == text
