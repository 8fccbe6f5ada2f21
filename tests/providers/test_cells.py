"""Each way of answering, of each provider, whole and streamed: exact text, calls and usage."""

import json

import pytest

from crew.content import File, Image
from crew.errors import ModelError
from crew.message import Usage
from tests.providers import ALL, VLLM, Gemini, LlamaCpp, Ollama, OpenAIChat, mind
from tests.providers.conversation import PIXEL, model_of, talk

pytestmark = [
    pytest.mark.parametrize("provider", ALL, ids=lambda kind: kind.name),
    pytest.mark.parametrize("streams", [False, True], ids=["whole", "streamed"]),
]
COUNTED = Usage(mind.INPUT, mind.OUTPUT, calls=1)
CACHED = Usage(mind.INPUT, mind.OUTPUT, mind.CACHED, calls=1)


def usage(provider):
    return CACHED if issubclass(provider, OpenAIChat) else COUNTED


async def test_text(provider, streams):
    async with model_of(provider()) as model:
        came = await talk(model, "text", streams=streams)
    assert (came.text, came.calls, came.usages) == (mind.TEXT, [], [usage(provider)])
    assert came.streamed == (mind.TEXT if streams else "")


async def test_a_call_of_a_tool(provider, streams):
    async with model_of(provider()) as model:
        came = await talk(model, "tools", streams=streams, tools=True)
    assert came.calls == [("look", {"word": "a"})]
    assert came.text == "found a"
    assert came.usages == [usage(provider)] * 2


async def test_parallel_calls(provider, streams):
    async with model_of(provider()) as model:
        came = await talk(model, "parallel", streams=streams, tools=True)
    assert came.calls == [("look", {"word": "a"}), ("look", {"word": "b"})]
    assert came.text == "found a; found b"
    assert len({*came.ids, ""}) == 3
    assert came.usages == [usage(provider)] * 2


async def test_a_list_that_came_as_text_is_one(provider, streams):
    async with model_of(provider()) as model:
        came = await talk(model, "nested", streams=streams, tools=True)
    assert (came.calls, came.text) == ([("sort", {"words": ["b", "a"]})], "a b")


async def test_an_answer_by_schema(provider, streams):
    async with model_of(provider()) as model:
        came = await talk(model, "schema", streams=streams, schema=True)
    assert (came.text, came.usages) == (json.dumps(mind.CITY), [usage(provider)])


async def test_an_answer_by_schema_with_tools(provider, streams):
    async with model_of(provider()) as model:
        came = await talk(model, "both", streams=streams, tools=True, schema=True)
    assert came.calls == [("look", {"word": "a"})]
    assert (came.text, came.usages) == (json.dumps(mind.CITY), [usage(provider)] * 2)


async def test_an_image(provider, streams):
    asked = ("image", Image(PIXEL, "image/png"))
    async with model_of(provider()) as model:
        came = await talk(model, asked, streams=streams)
    assert (came.text, came.usages) == ("8 bytes of image/png", [usage(provider)])


async def test_an_image_that_a_tool_returned(provider, streams):
    async with model_of(provider()) as model:
        came = await talk(model, "shown", streams=streams, tools=True)
    assert (came.calls, came.text) == ([("draw", {})], "8 bytes of image/png")


async def test_a_file_of_text_is_read_by_every_model(provider, streams):
    asked = ("text", File("notes.md", b"# Notes"))
    async with model_of(endpoint := provider()) as model:
        came = await talk(model, asked, streams=streams)
    assert came.text == mind.TEXT
    assert "notes.md:\\n# Notes" in json.dumps(endpoint.requests)


async def test_a_file(provider, streams):
    asked = ("file", File("a.pdf", b"%PDF"))
    async with model_of(provider()) as model:
        if provider in (LlamaCpp, Ollama):
            with pytest.raises(ModelError, match=r"takes no files|refused the request"):
                await talk(model, asked, streams=streams)
        else:
            assert (await talk(model, asked, streams=streams)).text == "4 bytes of application/pdf"


async def test_a_refusal(provider, streams):
    async with model_of(endpoint := provider()) as model:
        if provider in (VLLM, LlamaCpp, Ollama):  # these know none: it is the answer
            assert (await talk(model, "refusal", streams=streams)).text == mind.REFUSAL
            return
        with pytest.raises(ModelError) as caught:
            await talk(model, "refusal", streams=streams)
    cause = "content filter" if provider is Gemini else "can't help"
    assert cause in caught.value.message
    assert caught.value.endpoint == endpoint.url
    assert (caught.value.output_tokens, caught.value.is_refusal) == (mind.OUTPUT, True)


async def test_tokens_that_were_used_up_before_anything_was_said(provider, streams):
    async with model_of(endpoint := provider()) as model:
        with pytest.raises(ModelError, match="before it said anything") as caught:
            await talk(model, "length", streams=streams, max_tokens=7)
    assert caught.value.message.startswith(endpoint.url)


async def test_an_answer_that_was_cut_is_what_was_said(provider, streams):
    async with model_of(provider()) as model:
        came = await talk(model, "longer", streams=streams, max_tokens=7)
    reply = came.replies[-1]
    assert (reply.text, reply.finish_reason) == ("It is a long", "length")
    assert reply.usage == usage(provider)


async def test_an_answer_that_breaks_off(provider, streams):
    async with model_of(endpoint := provider()) as model:
        with pytest.raises(ModelError) as caught:
            await talk(model, "broken", streams=streams)
    assert endpoint.url in caught.value.message


async def test_odd_usage(provider, streams):
    async with model_of(provider()) as model:
        came = await talk(model, "odd", streams=streams)
    assert came.text == mind.TEXT
    counted = came.usages[0]
    assert counted.output_tokens == mind.OUTPUT
    # What Ollama had cached it did not count; that is estimated.
    assert counted.input_tokens == mind.INPUT or provider is Ollama
    assert counted.input_tokens > 0


async def test_parameters_that_are_refused(provider, streams):
    async with model_of(endpoint := provider()) as model:
        for _ in range(2):
            came = await talk(model, "text", streams=streams, max_tokens=70, temperature=0.2)
            assert came.text == mind.TEXT
    answered = endpoint.requests[-1]
    assert answered.get("max_tokens") or answered.get("max_completion_tokens") == 70


async def test_an_empty_answer_may_be_followed_by_another_question(provider, streams):
    from crew.llm import ModelRequest
    from crew.message import Message

    async with model_of(provider()) as model:
        reply = (await talk(model, "empty", streams=streams)).replies[-1]
        messages = (Message("user", "empty"), reply.message(), Message("user", "again"))
        assert (await model.complete(ModelRequest(messages))).text == ""
