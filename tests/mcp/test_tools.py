"""Tools of real servers: the official SDK's, and one of plain JavaScript."""

import asyncio

import pytest

from crew import MCP, Agent, GraphError, Image, Message, ToolCall, tool
from crew.testing import ScriptedModel
from tests.mcp.places import clerk, library, read, shop


def offered(agent: Agent) -> dict[str, str]:
    """What the model of an agent was offered, by name."""
    (request, *_) = agent.model.requests
    return {spec.name: spec.description for spec in request.tools}


@pytest.fixture(scope="module")
def bought() -> dict[str, Message]:
    """What an agent reads of the tools of the SDK's server, by name."""
    calls = [
        ToolCall("shop_search", {"query": "tea"}),
        ToolCall("shop_refund", {"order": "o1", "cents": 3}),
        ToolCall("shop_fail"),
        ToolCall("shop_picture"),
        ToolCall("shop_count", {"to": 50}),
        ToolCall("shop_odd_name_with_dots"),
        ToolCall("shop_whose"),
    ]
    results = asyncio.run(read(shop(prefix="shop", env={"TOKEN": "for the shop"}), *calls))
    return {call.name: result for call, result in zip(calls, results, strict=True)}


def test_agent_reads_what_a_python_server_returns(bought):
    assert bought["shop_search"].text == "5 x tea"
    assert '"cents": 3' in bought["shop_refund"].text
    assert bought["shop_fail"].text.startswith("error: ")


def test_picture_of_a_server_is_an_image_for_the_model(bought):
    (image,) = bought["shop_picture"].parts

    assert isinstance(image, Image)
    assert image.data.startswith(b"\x89PNG")


def test_names_that_a_server_gives_are_made_fit_for_models_and_prefixed(bought):
    assert bought["shop_odd_name_with_dots"].text == "odd"


def test_progress_of_a_call_does_not_disturb_it(bought):
    assert bought["shop_count"].text == "50"


def test_server_gets_the_environment_that_it_is_given(bought):
    assert bought["shop_whose"].text == "for the shop"


async def test_agent_reads_what_a_node_server_returns():
    found, lent, failed = await read(
        library(),
        ToolCall("find", {"title": "Emma"}),
        ToolCall("lend", {"title": "Emma", "days": 3}),
        ToolCall("find", {"title": 5}),
    )

    assert found.text == '{"title": "Emma", "days": null}'
    assert lent.text == '{"title": "Emma", "days": 3}'
    assert failed.text == "error: find failed: which title?"


async def test_only_what_is_included_is_offered():
    agent = clerk(library(include=["lend"]))
    await agent.run("hello")

    assert list(offered(agent)) == ["lend"]


async def test_tool_that_the_server_does_not_have_is_offered_with_the_reason():
    agent = clerk(library(include=["find", "burn"]), ToolCall("burn"))
    answer = await agent.run("hello")

    assert "has no tool 'burn'; it has: find, lend" in offered(agent)["burn"]
    assert answer.messages[-2].text.startswith("error: Not available")


async def test_two_servers_with_a_tool_of_one_name_are_told_to_take_a_prefix():
    agent = Agent("clerk", model=ScriptedModel(["done"]), tools=[library(), library()])

    with pytest.raises(GraphError, match=r"two tools named 'find'.*prefix="):
        await agent.run("hello")


async def test_tool_of_a_server_does_not_stand_in_for_the_agents_own():
    @tool
    def find(title: str) -> str:
        """Find it here."""
        return title

    agent = Agent("clerk", model=ScriptedModel(["done"]), tools=[find, library()])

    with pytest.raises(GraphError, match="two tools named 'find'"):
        await agent.run("hello")


async def test_two_servers_are_told_apart_by_a_prefix():
    model = ScriptedModel([ToolCall("b_find", {"title": "Emma"}), "done"])
    agent = Agent("clerk", model=model, tools=[library(prefix="a"), library(prefix="b")])
    await agent.run("hello")

    assert list(offered(agent)) == ["a_find", "a_lend", "b_find", "b_lend"]


async def test_server_does_not_get_the_environment_of_this_process(monkeypatch):
    monkeypatch.setenv("ACTS", "/nowhere/at/all")
    (found,) = await read(library(), ToolCall("find", {"title": "Emma"}))

    assert found.text.startswith("{")


@pytest.mark.parametrize(
    ("arguments", "options", "words"),
    [
        ([""], {}, "give a command"),
        ([5], {}, "give a command"),
        (["https://x.example", "-y"], {}, "only a command has arguments"),
        (["https://x.example"], {"env": {"A": "b"}}, "env= is for a command"),
        (["npx"], {"headers": {"A": "b"}}, "headers= is for a URL"),
        (["npx"], {"env": {"A": 5}}, "texts by name"),
        (["npx"], {"include": "search"}, r"\['search'\]"),
        (["npx"], {"prefix": "a b"}, "prefix="),
        (["npx"], {"effect": "write"}, "effect must be"),
        (["npx"], {"effect": {"search": "write"}}, "effect must be"),
        (["npx"], {"approve": "always"}, "approve is"),
        (["npx"], {"timeout": 0}, "timeout is"),
    ],
)
def test_what_cannot_be_a_server_is_refused_where_it_is_written(arguments, options, words):
    with pytest.raises(GraphError, match=words):
        MCP(*arguments, **options)
