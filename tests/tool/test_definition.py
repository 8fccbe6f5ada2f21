"""What a function becomes when it is a tool."""

import functools

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


def _logged(function):
    @functools.wraps(function)
    def wrapper(*arguments, **options):
        return function(*arguments, **options)

    return wrapper


def _look_up(table: dict[str, int], word: str, default: int = 0) -> int:
    """Look a word up.

    Args:
        word: in small letters.
    """
    return table.get(word, default)


class Library:
    """Look in the library."""

    def __init__(self, books: list[str]) -> None:
        self.books = books
        self.name = "an attribute of its own"

    def __call__(self, title: str) -> bool:
        return title in self.books

    def find(self, title: str) -> int:
        """Find a book."""
        return self.books.index(title)

    @staticmethod
    def count(titles: list[str]) -> int:
        """Count."""
        return len(titles)


SHELF = Library(["a", "b"])


@pytest.mark.parametrize(
    ("function", "name", "description", "arguments", "result"),
    [
        (_logged(_look_up), "_look_up", "Look a word up.", {"table": {"a": 1}, "word": "a"}, 1),
        (functools.partial(_look_up, {"a": 1}), "_look_up", "Look a word up.", {"word": "a"}, 1),
        (
            functools.partial(_look_up, table={"a": 1}, default=7),
            "_look_up",
            "Look a word up.",
            {"word": "b"},
            7,
        ),
        (
            functools.partial(functools.partial(_look_up, {"a": 1}), default=7),
            "_look_up",
            "Look a word up.",
            {"word": "b"},
            7,
        ),
        (SHELF, "Library", "Look in the library.", {"title": "a"}, True),
        (SHELF.find, "find", "Find a book.", {"title": "b"}, 1),
        (Library.count, "count", "Count.", {"titles": ["x"]}, 1),
        (functools.partial(SHELF), "Library", "Look in the library.", {"title": "c"}, False),
    ],
)
async def test_whatever_can_be_called_can_be_a_tool(function, name, description, arguments, result):
    made = Tool(function)
    assert (made.name, made.spec.description) == (name, description)
    assert set(made.spec.parameters["required"]) == arguments.keys()
    assert await made.invoke(arguments) == result
    assert made(*(), **arguments) == result


async def test_what_a_partial_has_filled_in_is_not_the_models_to_give():
    made = Tool(functools.partial(_look_up, table={"a": 1}))
    assert made.spec.parameters["properties"].keys() == {"word", "default"}
    with pytest.raises(ToolError, match="table"):
        await made.invoke({"word": "a", "table": {}})


async def test_positional_parameters_and_names_that_models_of_pydantic_have_are_filled():
    def act(schema: str, copy: int, /, json: bool, _id: str = "x") -> str:
        """Act."""
        return f"{schema} {copy} {json} {_id}"

    made = Tool(act)
    assert made.spec.parameters["required"] == ["schema", "copy", "json"]
    arguments = {"schema": "s", "copy": 1, "json": True, "_id": "y"}
    assert await made.invoke(arguments) == "s 1 True y"
    assert "schema: Field required" in await _problem(made, {})


async def _problem(made: Tool, arguments: dict) -> str:
    with pytest.raises(ToolError) as caught:
        await made.invoke(arguments)
    return str(caught.value)


def _yields(word: str):
    """Yield."""
    yield word


def _bytes(word: str) -> bytes:
    """Draw."""
    return word.encode()


@pytest.mark.parametrize(
    ("function", "options", "problem"),
    [
        (lambda word: word, {}, "'<lambda>': its name must be 1 to 64 of the characters"),
        (_look_up, {"name": "look up"}, "give it one with name="),
        (_look_up, {"name": "x" * 65}, "1 to 64"),
        (_look_up, {"name": "model"}, "stands for the agent's own model"),
        (Library, {}, "it is a class; give an object of it"),
        (_yields, {}, "return a list"),
        (_bytes, {}, "returns bytes, which a model cannot read; return text, or an Image"),
        (_look_up, {"effect": "twice"}, "effect must be 'read', 'idempotent' or 'once'"),
        (_look_up, {"timeout": 0}, "timeout is a number of seconds above 0"),
        (_look_up, {"timeout": "30s"}, "timeout is a number of seconds above 0"),
        (_look_up, {"timeout": float("inf")}, "timeout is a number of seconds above 0"),
        (_look_up, {"retries": -1, "effect": "read"}, "retries is a whole number"),
        (_look_up, {"retries": 1}, "a tool that acts once is never tried again by itself"),
        (_look_up, {"approve": "yes"}, "approve is True, or a function"),
        (print, {}, "name its parameters"),
    ],
)
def test_what_cannot_be_a_tool_is_told_when_it_is_made(function, options, problem):
    with pytest.raises(ToolError, match=problem):
        Tool(function, **options)


async def test_policies_travel_with_a_tool():
    from ray import cloudpickle

    @tool(effect="read", timeout=3, retries=2, approve=lambda call: call.n > 1)
    def add(n: int) -> int:
        """Add."""
        return n + 1

    copy = cloudpickle.loads(cloudpickle.dumps(add))
    assert (copy.timeout, copy.retries) == (3, 2)
    assert [await copy.needs_approval({"n": n}) for n in (1, 2)] == [False, True]


async def test_a_condition_may_be_asynchronous():
    async def is_much(call) -> bool:
        return call.n > 1

    @tool(approve=is_much)
    def add(n: int) -> int:
        """Add."""
        return n

    assert [await add.needs_approval({"n": n}) for n in (1, 2)] == [False, True]
