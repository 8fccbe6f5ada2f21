"""What an agent cannot be made of is told when it is made, with what to write instead."""

from collections.abc import Callable
from typing import Any

import pytest

from crew import Agent, Context, CrewError, GraphError, ModelError, Runtime, tool, workflow
from crew.llm.client import OpenAIModel
from crew.testing import ScriptedModel, ToolCall


@tool
def search(query: str) -> str:
    """Search."""
    return query


def plain(query: str) -> str:
    """Look."""
    return f"saw {query}"


class WithoutClose:
    name = "mine"

    async def complete(self, request: Any, *, on_text: Any = None) -> Any: ...


class Opaque:
    """Nothing that a model could be told of."""


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({"model": object()}, "cannot ask .* model= takes a name"),
        ({"model": WithoutClose()}, r"which has a name, complete\(\) and close\(\)"),
        ({"model": OpenAIModel}, "model= is the class OpenAIModel; give an object of it"),
        ({"tools": [3]}, "3 in tools= is neither a function nor a tool"),
        ({"tools": ["search"]}, "'search' in tools= is neither a function nor a tool"),
        ({"tools": search}, "tools= is a list"),
        ({"tools": "search"}, "tools= is a list"),
        ({"tools": [search, search]}, "has two tools named 'search'; give one another name"),
        ({"tools": [lambda query: query]}, "give it one with name="),
        ({"tools": [WithoutClose]}, "it is a class"),
        ({"instructions": ["Be brief."]}, "instructions= is a text"),
        ({"instructions": None}, "instructions= is a text"),
        ({"max_turns": 0}, "max_turns= is a whole number, 1 or more, not 0"),
        ({"max_turns": 1, "tools": [search]}, "max_turns= is a whole number, 2 or more"),
        ({"max_turns": 2.5}, "max_turns= is a whole number"),
        ({"retries": -1}, "retries= is a whole number, 0 or more"),
        ({"parallel_tools": 0}, "parallel_tools= is a whole number, 1 or more"),
        ({"check": "sound"}, "check= is a function of the output"),
        ({"output": Opaque}, "Opaque cannot be stored"),
        ({"output": Callable[[], int]}, "is code, which is not stored"),
        ({"output": "Plan"}, "'Plan' is a text; give a type"),
    ],
)
def test_it_is_told_when_the_agent_is_made(arguments, problem):
    with pytest.raises(CrewError, match=problem) as caught:
        Agent("a", **arguments)
    assert isinstance(caught.value, CrewError)


@pytest.mark.parametrize("name", ["", "  ", "a\nb", None, 3])
def test_a_name_that_is_none_is_refused(name):
    with pytest.raises(GraphError, match="an agent's name is a text of one line"):
        Agent(name)


def test_the_name_of_the_answers_tool_is_taken_where_an_agent_is_typed():
    @tool
    def final_answer(text: str) -> str:
        """Answer."""
        return text

    Agent("a", tools=[final_answer])
    with pytest.raises(GraphError, match="by a tool named 'final_answer' its model gives"):
        Agent("a", tools=[final_answer], output=list[str])


async def test_a_plain_function_is_a_tool_that_acts_once(runtime):
    model = ScriptedModel([ToolCall("plain", {"query": "x"}), "done"])
    agent = Agent("a", model=model, tools=[plain])
    assert agent.tools["plain"].effect == "once"

    @workflow
    async def flow(ctx: Context, text: str) -> str:
        return (await ctx.run(agent, text)).output

    run = await runtime.start(flow, "go")
    await run.result()
    assert model.requests[1].messages[-1].text == "saw x"


async def test_what_a_model_raises_is_a_models_error():
    model = ScriptedModel([RuntimeError("no memory left")])

    @workflow
    async def flow(ctx: Context, text: str) -> str:
        with pytest.raises(ModelError, match="'scripted' raised RuntimeError: no memory left"):
            await ctx.run(Agent("a", model=model), text)
        return "caught"

    async with Runtime(":memory:") as runtime:
        assert await (await runtime.start(flow, "go")).result() == "caught"


async def test_a_tool_that_returns_something_else_than_it_says_is_told(runtime):
    @tool(effect="read")
    def find() -> str:
        """Find."""
        return None  # pyrefly: ignore

    model = ScriptedModel([ToolCall("find"), "done"])
    await Agent("a", model=model, tools=[find]).run("go")
    assert "must be str, got None" in model.requests[1].messages[-1].text


@pytest.mark.parametrize("effect", ["read", "once"])
async def test_bytes_that_a_tool_returns_without_saying_so_are_no_text(effect):
    @tool(effect=effect)
    def draw():
        """Draw."""
        return b"\x89PNG"

    model = ScriptedModel([ToolCall("draw"), "done"])
    await Agent("a", model=model, tools=[draw]).run("go")
    assert "return text, or an Image or a File" in model.requests[1].messages[-1].text
