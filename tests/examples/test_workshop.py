import base64
import json
import sqlite3
from contextlib import closing

import pytest
from openai import OpenAI

from crew import ToolCall
from tests.examples.models import last

PNG = base64.b64encode(bytes.fromhex("89504e470d0a1a0a")).decode()
CALLS = [
    [ToolCall("find", {"words": "seal"}), ToolCall("in_stock", {"part": "P-110"})],
    ToolCall("order", {"part": "P-110", "count": 2}),
    "Two seals are ordered.",
]


def mechanic(body):
    if body["model"].endswith("14b"):
        return 401  # the strong model has no key
    said = [message["role"] for message in body["messages"]].count("assistant")
    return CALLS[said]


@pytest.fixture
def workshop(scene):
    folder, models = scene({"You help in a workshop": mechanic})
    _, url = folder.serve("workshop.py")
    with OpenAI(base_url=url, api_key="none", max_retries=0) as client:
        yield folder, models, client


def show_a_photo(client: OpenAI):
    content = [
        {"type": "text", "text": "What is broken here?"},
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}},
    ]
    return client.chat.completions.create(
        model="repair",
        messages=[{"role": "user", "content": content}],
        metadata={"thread_id": "t1"},
    )


def test_a_photo_comes_to_an_order_that_is_approved_in_the_chat(workshop):
    folder, models, client = workshop
    asked = show_a_photo(client)
    assert asked.crew["status"] == "waiting"
    assert '{"part": "P-110", "count": 2}' in asked.choices[0].message.content
    done = client.chat.completions.create(
        model="repair",
        messages=[{"role": "user", "content": "true"}],
        metadata={"thread_id": "t1"},
    )
    assert done.choices[0].message.content == "Two seals are ordered."

    cheap = [body for body in models.bodies if not body["model"].endswith("14b")]
    assert f"base64,{PNG}" in json.dumps(cheap[0]["messages"])
    found, shelf = (message["content"] for message in cheap[1]["messages"][-2:])
    assert "P-110: pump seal" in found
    assert shelf == "0"
    assert "2 x P-110 ordered" in last(cheap[2])
    with closing(sqlite3.connect(folder.path / "stock.db")) as db:
        assert db.execute("SELECT part, count FROM orders").fetchall() == [("P-110", 2)]
