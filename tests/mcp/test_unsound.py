"""Servers that hang, die, flood and lie: a tool error within their timeout, never a failed run."""

import pytest

from crew import MCP, Agent, ToolCall
from crew.testing import ScriptedModel
from tests.mcp.places import clerk, read, unsound

IN_TIME = 60.0
SOON = 2
"""The timeout of a server that does not answer."""


@pytest.mark.parametrize(
    ("way", "words"),
    [
        ("die", "the server has ended; it said: out of paper"),
        ("flood", "things that nobody had asked for"),
        ("junk", "were no messages"),
        ("endless", "limit"),
        ("refuse", "not today"),
        ("lie", "its answer is not what it should be"),
        ("no-result", "its answer is not what it should be"),
    ],
)
async def test_call_that_comes_to_nothing_is_an_error_that_the_model_reads(way, words):
    (result,) = await read(unsound(way, effect="read", timeout=IN_TIME), ToolCall("work"))

    assert result.text.startswith("error: ")
    assert words in result.text


@pytest.mark.parametrize("way", ["hang", "wrong-id"])
async def test_call_that_hangs_is_an_error_after_the_timeout(way):
    server = unsound(way, effect="read", include=["work"], timeout=SOON)
    (result,) = await read(server, ToolCall("work"))

    assert "within its timeout of 2 s" in result.text


@pytest.mark.parametrize(
    ("way", "timeout", "words"),
    [
        ("hang-at-first", SOON, "no connection within its timeout of 2 s"),
        ("die-at-first", IN_TIME, "the server has ended; it said: no key ***"),
        ("no-list", IN_TIME, "its answer is not what it should be"),
        ("no-object", IN_TIME, "its answer is not what it should be"),
        ("pages", IN_TIME, "more than 100 pages"),
        ("many", IN_TIME, "lists 5000 tools, more than 128: name yours in include="),
    ],
)
async def test_server_without_tools_is_offered_as_one_that_is_not_available(way, timeout, words):
    server = unsound(way, timeout=timeout, prefix="odd", env={"TOKEN": "sk-secret"})
    agent = clerk(server)
    answer = await agent.run("hello")

    (only,) = agent.model.requests[0].tools
    assert answer.output == "done"
    assert only.name.startswith("odd_")
    assert only.description.startswith("Not available: ")
    assert words in only.description


async def test_list_that_hangs_is_not_waited_for_longer_than_the_timeout():
    agent = clerk(unsound("hang-at-list", timeout=SOON))
    await agent.run("hello")

    assert "within its timeout of 2 s" in agent.model.requests[0].tools[0].description


@pytest.mark.parametrize("command", ["no-such-program", "/dev/null"])
async def test_command_that_cannot_be_started_is_not_available(command):
    agent = clerk(MCP(command), ToolCall("work"))
    answer = await agent.run("hello")

    assert "Not available" in agent.model.requests[0].tools[0].description
    assert answer.messages[-2].text.startswith("error: ")


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/mcp", "https://nowhere.invalid/mcp"])
async def test_server_that_nobody_reaches_is_not_available(url):
    agent = clerk(MCP(url))
    await agent.run("hello")

    assert "Not available" in agent.model.requests[0].tools[0].description


async def test_tool_with_a_schema_that_endpoints_refuse_is_offered_with_the_reason():
    agent = clerk(unsound("schemas", effect="read"), ToolCall("work"), ToolCall("wide"))
    answer = await agent.run("hello")

    offered = {spec.name: spec for spec in agent.model.requests[0].tools}
    assert "its input schema is none" in offered["wrong"].description
    assert "refers to another document" in offered["refers"].description
    assert "100" in offered["wide"].description
    assert offered["wide"].parameters == {"type": "object", "properties": {}}
    results = [message.text for message in answer.messages if message.role == "tool"]
    assert results[0] == "done"
    assert results[1].startswith("error: Not available")


async def test_tool_that_is_listed_twice_is_offered_once():
    agent = clerk(unsound("twice"))
    await agent.run("hello")

    assert [spec.description for spec in agent.model.requests[0].tools] == ["Work."]


async def test_names_that_become_alike_are_numbered():
    agent = clerk(unsound("alike"), ToolCall("wor_k_2"))
    answer = await agent.run("hello")

    assert [spec.name for spec in agent.model.requests[0].tools] == ["work", "wor_k", "wor_k_2"]
    assert answer.messages[-2].text == "done"


async def test_reserved_names_of_a_server_do_not_harm():
    agent = clerk(unsound("final-answer", effect="read"), ToolCall("model_tool"))
    answer = await agent.run("hello")

    assert answer.messages[-2].text == "done"


async def test_odd_results_are_text_that_can_be_read():
    names = {
        "no-picture": "an image of image/png, 3 bytes, that cannot be shown",
        "no-base64": "an image of image/png that cannot be read",
        "sound": "audio that cannot be shown",
        "long": "cut: ",
        "parts": "1745 parts more",
        "stderr": "done",
    }
    server = unsound("results", effect="read", timeout=IN_TIME)
    *results, empty = await read(server, *map(ToolCall, names), ToolCall("empty"))

    for words, result in zip(names.values(), results, strict=True):
        assert words in result.text
        assert not result.parts
        assert len(result.text) < 20_000
    assert empty.text == ""


async def test_server_that_died_is_started_again_for_the_next_call():
    model = ScriptedModel([ToolCall("work"), ToolCall("work"), "done"])
    agent = Agent("clerk", model=model, tools=[unsound("die", effect="read")])
    answer = await agent.run("hello")

    results = [message.text for message in answer.messages if message.role == "tool"]
    assert all("out of paper" in text for text in results)
    assert len(results) == 2
