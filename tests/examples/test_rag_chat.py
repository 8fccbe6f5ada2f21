import json
import re

import pytest
from openai import OpenAI

from crew import ToolCall
from tests.examples.models import eventually, last

TURNS = 200
WINDOW = 4096
THREAD = "t1"


def guide(body):
    text = last(body)
    if body["messages"][-1]["role"] == "tool":
        return "A quarter (heating.md)." if "quarter" in text else "The library is silent."
    if text.startswith("Who am I"):
        return "Eva." if "Eva" in json.dumps(body["messages"]) else "I do not know."
    if "roof" in text:
        return ToolCall("search", {"query": "roof insulation"})
    return f"I have heard number {re.findall(r'[0-9]+', text)[0]}, and keep it in mind."


SAYS = {"You answer from": guide, "You condense": lambda body: "The user is Eva, of an old house."}


@pytest.fixture
def chat(scene):
    folder, models = scene(SAYS)
    _, url = folder.serve("rag_chat.py")
    with OpenAI(base_url=url, api_key="none", max_retries=0) as client:
        yield client, models


def begin(client: OpenAI, text: str):
    return client.chat.completions.create(
        model="chat",
        messages=[{"role": "user", "content": text}],
        metadata={"thread_id": THREAD},
        extra_headers={"X-On-Disconnect": "cancel"},
        stream=True,
    )


def pieces(stream) -> list[str]:
    return [chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices]


def test_two_hundred_turns_stream_in_a_small_window_and_the_first_is_remembered(chat):
    client, models = chat
    first = "".join(pieces(begin(client, "I am Eva. What does my roof lose?")))
    assert first == "A quarter (heating.md)."
    for number in range(TURNS - 2):
        text = f"And {number}, since an old house has many a thing that wants to be known?"
        said = "".join(pieces(begin(client, text)))
        assert said == f"I have heard number {number}, and keep it in mind."
    assert "".join(pieces(begin(client, "Who am I?"))) == "Eva."

    assert 0 < models.asked.count("You condense") < TURNS / 10
    sizes = [len(json.dumps(body["messages"])) for body in models.bodies]
    assert max(sizes) < 4 * WINDOW
    items = client.get(f"/conversations/{THREAD}/items?limit=100&order=asc", cast_to=object)
    assert items["data"][0]["content"][0]["text"].startswith("I am Eva.")  # it is whole


def test_an_answer_that_is_left_is_cancelled_and_the_chat_goes_on(chat):
    client, models = chat
    models.stop_streams()
    with begin(client, "And 7?") as stream:
        texts = (chunk.choices[0].delta.content for chunk in stream if chunk.choices)
        assert next(filter(None, texts)).startswith("I have")
    listed = f"/runs?thread={THREAD}"
    (run,) = client.get(listed, cast_to=object)["data"]
    eventually(lambda: client.get(f"/runs/{run['id']}", cast_to=object)["status"] == "cancelled")
    models.let_go()
    assert "".join(pieces(begin(client, "And 8?"))) == "I have heard number 8, and keep it in mind."
    _, asked, partly, _ = models.bodies[-1]["messages"]
    assert (asked["content"], partly["role"]) == ("And 7?", "assistant")
    assert partly["content"].startswith("I have")


def test_the_program_prints_an_answer_as_it_comes(scene):
    folder, _ = scene(SAYS)
    _, url = folder.serve("rag_chat.py")
    told = folder.output(folder.python("rag_chat.py", url, says="I am Eva. My roof?\nAnd 7?\n\n"))
    assert told == "> A quarter (heating.md).\n> I have heard number 7, and keep it in mind.\n> "
