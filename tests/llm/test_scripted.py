"""The model that tests use."""

import pickle

import pytest
from pydantic import BaseModel

from crew.errors import ModelError
from crew.llm import Model, ModelRequest
from crew.llm.scripted import ScriptedModel
from crew.message import Message, ToolCall

ASK = ModelRequest((Message("user", "Who?"),))


class Person(BaseModel):
    name: str


async def test_steps_come_in_order_whatever_their_kind():
    model = ScriptedModel(
        ["a", Person(name="b"), ToolCall("c"), [ToolCall("d"), ToolCall("e")], lambda _: "f"]
    )
    replies = [await model.complete(ASK) for _ in range(5)]
    assert [reply.text for reply in replies] == ["a", '{"name":"b"}', "", "", "f"]
    assert [[call.name for call in reply.tool_calls] for reply in replies[2:4]] == [
        ["c"],
        ["d", "e"],
    ]
    assert len({call.id for reply in replies for call in reply.tool_calls}) == 3
    assert model.requests == [ASK] * 5


async def test_an_exception_is_raised_and_the_next_step_follows():
    model = ScriptedModel([ModelError(message="down"), "up"])
    with pytest.raises(ModelError, match="down"):
        await model.complete(ASK)
    assert (await model.complete(ASK)).text == "up"


async def test_a_function_answers_what_it_was_asked():
    model = ScriptedModel([lambda request: Person(name=request.messages[-1].text)])
    assert (await model.complete(ASK)).text == '{"name":"Who?"}'


async def test_one_call_too_many_says_how_many_there_were_and_what_was_asked():
    model = ScriptedModel(["a"])
    await model.complete(ASK)
    with pytest.raises(ModelError, match=r"1 replies were scripted.*Who\?"):
        await model.complete(ASK)


async def test_steps_that_were_not_asked_for_are_named():
    model = ScriptedModel(["a", "b"])
    await model.complete(ASK)
    with pytest.raises(AssertionError, match=r"1 scripted steps.*'b'"):
        model.assert_done()
    await model.complete(ASK)
    model.assert_done()


async def test_text_streams_in_pieces_and_usage_is_the_same_each_time():
    pieces: list[str] = []
    first = await ScriptedModel(["x" * 20]).complete(ASK, on_text=pieces.append)
    second = await ScriptedModel(["x" * 20]).complete(ASK)
    assert pieces == ["x" * 8, "x" * 8, "x" * 4]
    assert first.usage == second.usage
    assert (first.usage.output_tokens, first.usage.calls) == (5, 1)


async def test_a_pickled_one_goes_on_from_where_it_was():
    model = ScriptedModel(["a", "b"])
    await model.complete(ASK)
    assert (await pickle.loads(pickle.dumps(model)).complete(ASK)).text == "b"


def test_it_is_a_model():
    assert isinstance(ScriptedModel(), Model)
