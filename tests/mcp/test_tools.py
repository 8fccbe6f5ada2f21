"""Tools of real servers: the official SDK's, and one of plain JavaScript."""

import pytest

from crew import MCP, Agent, GraphError, Image, ToolCall, tool
from crew.testing import ScriptedModel
from tests.mcp.places import clerk, library, read, shop


def offered(agent: Agent) -> dict[str, str]:
    """What the model of an agent was offered, by name."""
    (request, *_) = agent.model.requests
    return {spec.name: spec.description for spec in request.tools}


async def test_agent_reads_what_a_python_server_returns():
    found, paid, failed = await read(
        shop(),
        ToolCall("search", {"query": "tea"}),
        ToolCall("refund", {"order": "o1", "cents": 3}),
        ToolCall("fail"),
    )

    assert found.text == "5 x tea"
    assert '"cents": 3' in paid.text
    assert failed.text.startswith("error: ")


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


async def test_picture_of_a_server_is_an_image_for_the_model():
    (shown,) = await read(shop(), ToolCall("picture"))

    (image,) = shown.parts
    assert isinstance(image, Image)
    assert image.data.startswith(b"\x89PNG")


async def test_names_that_a_server_gives_are_made_fit_for_models_and_prefixed():
    (odd,) = await read(shop(prefix="shop"), ToolCall("shop_odd_name_with_dots"))

    assert odd.text == "odd"


async def test_only_what_is_included_is_offered():
    agent = clerk(shop(include=["search", "refund"]))
    await agent.run("hello")

    assert list(offered(agent)) == ["search", "refund"]


async def test_tool_that_the_server_does_not_have_is_offered_with_the_reason():
    agent = clerk(library(include=["find", "burn"]), ToolCall("burn"))
    answer = await agent.run("hello")

    assert "has no tool 'burn'; it has: find, lend" in offered(agent)["burn"]
    assert answer.messages[-2].text.startswith("error: Not available")


async def test_progress_of_a_call_does_not_disturb_it():
    (counted,) = await read(shop(), ToolCall("count", {"to": 50}))

    assert counted.text == "50"


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


async def test_server_gets_the_environment_that_is_given_and_no_other(monkeypatch):
    monkeypatch.setenv("TOKEN", "not for servers")
    without = await read(shop(), ToolCall("whose"))
    given = await read(shop(env={"TOKEN": "for the shop"}), ToolCall("whose"))

    assert [without[0].text, given[0].text] == ["nobody's", "for the shop"]


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
