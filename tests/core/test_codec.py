"""The stored form of each kind of annotation, and what is refused on the way in and out."""

import json
import math
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import pytest
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    RootModel,
    Secret,
    SecretStr,
    computed_field,
    model_validator,
)

from crew import Append, Graph, GraphError
from crew.errors import OutputInvalid, Unreadable
from crew.graph.patch import Patch, read_state
from crew.value import Codec, json_text

LONE = "\ud800"


class Person(BaseModel):
    model_config = ConfigDict(populate_by_name=True)
    name: str = Field(default="", alias="fullName")

    @computed_field
    @property
    def length(self) -> int:
        return len(self.name)


class Employee(Person):
    room: int = 0


class Nothing(BaseModel):
    there: None = None
    sure: bool = True
    share: float = 0.5


class LeftOut(BaseModel):
    here: int = Field(default=0, exclude=True)


@dataclass
class Points:
    way: Callable[[], int]


class Connection:
    """No data at all."""


def of_another_module(name: str) -> type[BaseModel]:
    return type(name, (BaseModel,), {"__module__": "elsewhere"})


def unknown(value: Any) -> Any:
    raise KeyError(value)


def codec(annotation: Any, **options: bool) -> Codec:
    return Codec(annotation, where="it", **options)


class Tree(RootModel[list[set[int]]]):
    """Sets in a model that is a list."""


class Bag(BaseModel):
    held: dict[str, frozenset[str]] = {}
    rows: deque[set[int]] = deque()
    pair: tuple[set[int], int] = (set(), 0)


@pytest.mark.parametrize(
    ("annotation", "value", "stored"),
    [
        (set[int], {3, 1, 2}, [1, 2, 3]),
        (Tree, Tree([{2, 1}, set()]), [[1, 2], []]),
        (
            Bag,
            Bag(held={"a": frozenset("cb")}, rows=deque([{9, 8}]), pair=({7, 6}, 1)),
            {"held": {"a": ["b", "c"]}, "rows": [[8, 9]], "pair": [[6, 7], 1]},
        ),
        (dict[str, set[int] | None] | None, None, None),
        (OrderedDict[str, set[int]], OrderedDict(a={2, 1}), {"a": [1, 2]}),
        (Literal["a"] | int, "a", {"type": "Literal[a]", "value": "a"}),
        (Literal["a"] | int, 3, {"type": "int", "value": 3}),
        (float, math.inf, "Infinity"),
        (list[float], [-math.inf], ["-Infinity"]),
        (Any, {"n": [math.inf, -math.inf]}, {"n": ["Infinity", "-Infinity"]}),
        (Nothing, Nothing(), {"there": None, "sure": True, "share": 0.5}),
        (Person, Person(name="Ada"), {"name": "Ada"}),
        (list[None], [None], [None]),
    ],
)
def test_a_value_is_stored_as(annotation, value, stored):
    assert codec(annotation).encode(value) == stored


def test_what_is_only_read_is_written_with_all_that_it_shows():
    person = codec(Person, only_read=True)
    assert person.encode(Employee(name="Ada", room=3)) == {"name": "Ada", "length": 3}
    with pytest.raises(OutputInvalid, match="a Nothing is not a Person"):
        person.encode(Nothing())


@pytest.mark.parametrize(
    ("annotation", "value", "problem"),
    [
        (list[bool], [1], "Expected `bool`"),
        (list[None], [1], "Expected `none`"),
        (list[float], ["x"], "Expected `float`"),
        (dict[str, int], {1: 1}, "Expected `str`"),
        (dict[str, int], [1], "Expected `dict\\[str, int\\]`"),
        (Any, {1: 2}, "the key 1 is not a string"),
        (Any, [Connection()], "a Connection is not JSON"),
        (None, 1, "only None is allowed here"),
        (list[int | str], "ab", "a str is not a list"),
        (int | str, 1.5, "a float is none of them"),
        (Person, Employee(), "would come back as a Person; annotate Employee"),
    ],
)
def test_a_value_of_another_type_is_refused(annotation, value, problem):
    with pytest.raises(OutputInvalid, match=problem):
        codec(annotation).encode(value)


@pytest.mark.parametrize(
    ("annotation", "stored", "problem"),
    [
        (None, 1, "only null is allowed here"),
        (list[int | str], "ab", "a str is not a list"),
        (int | str, {"type": "bytes", "value": "x"}, "'bytes' is none of them"),
        (bool, 1, "an int is not bool"),
    ],
)
def test_stored_json_of_another_type_is_refused(annotation, stored, problem):
    with pytest.raises(OutputInvalid, match=problem):
        codec(annotation).decode(stored)


@pytest.mark.parametrize("value", [Connection(), [Connection()], {1: 2}, {"a": {2}}])
def test_what_is_neither_of_the_type_nor_json_is_not_taken(value):
    with pytest.raises(OutputInvalid, match="it must be int, got"):
        codec(int).taken(value)


@pytest.mark.parametrize("value", [5, 5.0, "5"])
def test_json_from_outside_is_taken_as_the_type_it_is_for(value):
    assert codec(int).taken(value) == 5


@pytest.mark.parametrize("value", ["x", 1])
def test_a_validator_that_raises_what_it_likes_refuses(value):
    refusing = codec(Annotated[int, BeforeValidator(unknown)])
    with pytest.raises(OutputInvalid, match="it must be "):
        refusing.read(value)


def test_a_lone_surrogate_is_text_all_the_same():
    assert codec(str).read(LONE) == LONE
    assert json.loads(json_text({"a": LONE})) == {"a": LONE}
    assert json_text({"a": "ä"}) == '{"a":"ä"}'


def test_a_union_keeps_what_is_said_of_its_values():
    small = Annotated[int | str, AfterValidator(lambda value: value)]
    assert codec(small).decode(codec(small).encode(3)) == 3
    limited = codec(Annotated[int | float, Field(ge=0)])
    with pytest.raises(OutputInvalid, match="greater than or equal to 0"):
        limited.passed_on(-1)


@pytest.mark.parametrize(
    ("annotation", "problem"),
    [
        (of_another_module("Left") | of_another_module("Left"), "two classes are named Left"),
        ("Connection", "'Connection' is a text; give a type"),
        (list[Connection], r"list\[Connection\] cannot be stored; use JSON"),
        (list["Nowhere"], "cannot be stored"),  # noqa: F821
        (list[SecretStr], "is a secret, which is stored as asterisks"),
        (Secret[int], "is a secret, which is stored as asterisks"),
        (LeftOut, "LeftOut.here is excluded from what is stored"),
        (list[Points], "Points.way is code, which is not stored"),
    ],
)
def test_an_annotation_that_cannot_work_is_refused_at_once(annotation, problem):
    with pytest.raises(GraphError, match=problem):
        codec(annotation)


class Notes(BaseModel):
    notes: Annotated[list[str], Append()] = []
    most: int = 3

    @model_validator(mode="after")
    def few(self) -> "Notes":
        assert len(self.notes) <= self.most, "too many notes"
        return self


def test_a_patch_names_a_field_that_is_not_there():
    with pytest.raises(GraphError, match="Notes has no field 'pages'"):
        Patch(Notes()).add({"pages": 1})


@pytest.mark.parametrize(
    ("shared", "problem"),
    [
        ({"pages": 1}, "pages is no part of it any more"),
        ({"notes": ["a", "b", "c", "d"]}, "too many notes"),
        ({"most": "many"}, "most"),
    ],
)
def test_state_that_todays_code_cannot_read_is_named(shared, problem):
    with pytest.raises(Unreadable, match=problem):
        read_state(Notes, shared)


def test_state_is_read_as_it_was_patched():
    patch = Patch(Notes())
    patch.add({"notes": ["a"]})
    patch.add({"notes": ["b"], "most": 2})
    assert read_state(Notes, patch.data) == Notes(notes=["a", "b"], most=2)


async def test_a_graph_without_a_state_gives_none(runtime):
    graph = Graph("plain", input=int, output=int)

    @graph.node
    async def double(n: int) -> int:
        return 2 * n

    assert await (await runtime.start(graph, 2)).result() == 4
