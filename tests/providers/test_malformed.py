"""Answers with anything in the place of anything: a reply, or a ModelError; and nothing else."""

import copy
import json
import random

import pytest

from crew.errors import ModelError
from crew.llm import ModelReply, ModelRequest
from crew.llm.assembly import Assembly
from crew.llm.reading import read_reply, with_json
from crew.message import Message, Usage, message_data, message_from
from tests.providers import ALL, mind
from tests.providers.conversation import CITY, TOOLS

REQUEST = ModelRequest((Message("user", "hi"),), tools=TOOLS)
ODD = [None, True, 0, -1, 5.5, "", "x", "{", "[]", [], [[]], [None], ["x"], {}, {"x": {}}, {"0": 1}]
TOPICS = ("text", "tools", "parallel", "refusal", "length", "odd")


def places(value, path=()):
    """Yield the path of each value in a JSON value."""
    yield path
    inner = value.items() if isinstance(value, dict) else ()
    inner = enumerate(value) if isinstance(value, list) else inner
    for key, item in inner:
        yield from places(item, (*path, key))


def spoilt(chunk, chance):
    chunk = copy.deepcopy(chunk)
    path = chance.choice([path for path in places(chunk) if path])
    inside = chunk
    for key in path[:-1]:
        inside = inside[key]
    inside[path[-1]] = chance.choice(ODD)
    return chunk


def read(chunks):
    received = Assembly()
    said = "".join(map(received.add, chunks)) + received.end()
    reply = read_reply(received, REQUEST, endpoint="http://e/v1", model="m")
    assert said == "".join(received.text)
    return with_json(reply, CITY)


@pytest.mark.parametrize("provider", ALL, ids=lambda kind: kind.name)
@pytest.mark.parametrize("topic", TOPICS)
def test_what_is_malformed_is_a_reply_or_a_model_error(provider, topic):
    chance = random.Random(f"{provider.name} {topic}")
    endpoint = provider()
    body = {"messages": [{"role": "user", "content": topic}], "stream_options": {}}
    said = mind.answer(body)
    streamed, whole = list(endpoint.chunks(said, body)), [endpoint.whole(said, body)]
    refused: list[str] = []
    for _ in range(150):
        chunks = list(chance.choice((streamed, whole)))
        for _ in range(chance.randint(1, 3)):
            place = chance.randrange(len(chunks))
            chunks[place] = spoilt(chunks[place], chance)
        try:
            reply = read(chunks)
        except ModelError as error:
            refused.append(error.message)
        else:
            check(reply)
    assert len(refused) < 150
    assert all(message.startswith("http://e/v1 ") for message in refused)


def check(reply: ModelReply) -> None:
    """Check that a reply is what its types say, and can be stored and sent."""
    assert isinstance(reply.text, str)
    assert isinstance(reply.finish_reason, str)
    assert isinstance(reply.model, str)
    for call in reply.tool_calls:
        assert isinstance(call.name, str)
        assert isinstance(call.id, str)
        assert call.id
        assert isinstance(call.arguments, dict)
    assert all(type(count) is int and count >= 0 for count in vars_of(reply.usage))
    stored = json.loads(json.dumps(message_data(reply.message()), allow_nan=False))
    assert message_from(stored) == reply.message()


def vars_of(usage: Usage) -> list[int]:
    return list(usage.to_data().values())
