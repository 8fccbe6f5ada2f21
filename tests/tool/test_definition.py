"""What a function becomes when it is a tool."""

import pytest
from pydantic import BaseModel

from crew import Tool, ToolError, tool


class Passage(BaseModel):
    text: str


@tool(effect="read")
async def search(query: str, limit: int = 5) -> list[Passage]:
    """Search the documents.

    Args:
        query: words to look for,
            on two lines.
        limit: how many.

    Returns:
        Passages.
    """
    return [Passage(text=query)] * limit


@tool
def pay(amount: int, idempotency_key: str) -> str:
    """Pay."""
    return f"{amount} under {idempotency_key}"


def test_signature_and_docstring_become_the_schema():
    spec = search.spec
    assert (spec.name, spec.description) == ("search", "Search the documents.")
    assert spec.parameters["required"] == ["query"]
    assert spec.parameters["properties"]["query"] == {
        "description": "words to look for, on two lines.",
        "type": "string",
    }


def test_once_is_the_default():
    assert (search.effect, pay.effect) == ("read", "once")


async def test_it_stays_callable():
    assert await search("a", 1) == [Passage(text="a")]
    assert pay(3, "k") == "3 under k"


async def test_results_are_json():
    assert await search.invoke({"query": "a", "limit": 1}) == [{"text": "a"}]


async def test_the_idempotency_key_is_given_and_hidden_from_the_model():
    assert "idempotency_key" not in pay.spec.parameters["properties"]
    assert await pay.invoke({"amount": 3}, idempotency_key="k") == "3 under k"


@pytest.mark.parametrize("arguments", [{}, {"query": 1}, {"query": "a", "more": 2}])
async def test_wrong_arguments_say_what_does_not_fit(arguments):
    with pytest.raises(ToolError, match="the arguments of tool 'search' do not fit: "):
        await search.invoke(arguments)


def test_a_parameter_without_a_type_is_refused():
    with pytest.raises(ToolError, match="annotate 'query' of tool 'look'"):

        @tool
        def look(query): ...


def test_variable_parameters_are_refused():
    with pytest.raises(ToolError, match="name its parameters"):

        @tool
        def look(*queries: str): ...


def test_a_type_without_a_schema_is_refused():
    class Connection: ...

    with pytest.raises(ToolError, match="has no JSON schema"):

        @tool
        def look(connection: Connection) -> str: ...


async def test_a_tool_travels_with_its_code():
    from ray import cloudpickle

    def local(n: int) -> int:
        return n + 1

    copy = cloudpickle.loads(cloudpickle.dumps(Tool(local, effect="read", name="add")))
    assert (copy.name, copy.effect) == ("add", "read")
    assert await copy.invoke({"n": 1}) == 2
