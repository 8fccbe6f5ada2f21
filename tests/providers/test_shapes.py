"""The fakes answer in the shapes that are published: those of the official client's types."""

import pytest
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from tests.providers import ALL, OpenAIChat, mind
from tests.providers.server import Refused

TOPICS = ("text", "tools", "parallel", "nested", "refusal", "filter", "length", "longer", "odd")
each = pytest.mark.parametrize("provider", ALL, ids=lambda kind: kind.name)


def answered(topic):
    body = {"messages": [{"role": "user", "content": topic}]}
    return mind.answer(body), {**body, "stream_options": {"include_usage": True}}


@each
@pytest.mark.parametrize("topic", TOPICS)
def test_whole_answers_are_completions(provider, topic):
    said, body = answered(topic)
    found = ChatCompletion.model_validate(provider().whole(said, body))
    assert found.object == "chat.completion"
    assert found.usage.prompt_tokens >= 0
    assert bool(found.choices[0].message.tool_calls) == bool(said.calls)


@each
@pytest.mark.parametrize("topic", TOPICS)
def test_streams_are_chunks_of_one_completion(provider, topic):
    said, body = answered(topic)
    found = [ChatCompletionChunk.model_validate(chunk) for chunk in provider().chunks(said, body)]
    assert {chunk.id for chunk in found} == {found[0].id}
    assert any(chunk.usage for chunk in found)
    assert any(choice.finish_reason for chunk in found for choice in chunk.choices)


@each
def test_refusals_name_their_cause(provider):
    error = provider().error(Refused("no such thing"))
    if provider.name == "gemini":
        (error,) = error
    assert error["error"]["message"] == "no such thing"


@pytest.mark.parametrize(
    "messages",
    [
        [{"role": "assistant", "content": ""}],
        [{"role": "tool", "content": "x", "tool_call_id": "a"}],
        [{"role": "user", "content": "x", "reasoning": "y"}],
        [{"role": "user", "content": [{"type": "text", "text": ""}]}],
        [{"role": "system", "content": [{"type": "image_url", "image_url": {"url": "data:"}}]}],
    ],
)
def test_strict_fakes_refuse_what_is_malformed(messages):
    with pytest.raises(Refused):
        OpenAIChat().check({"model": "m", "messages": messages})
