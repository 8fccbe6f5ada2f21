"""What is done part by part comes to the same as what is done at once."""

import datetime
import json
from dataclasses import dataclass
from typing import Annotated, Any

import pytest
from pydantic import BaseModel, Field, ValidationInfo, field_validator

from crew import OutputInvalid
from crew.errors import Unreadable
from crew.value import Codec, canonical, canonical_lines, difference, document, read_document


class Part(BaseModel):
    name: str
    number: Annotated[int, Field(ge=0)]
    at: datetime.datetime | None = None
    share: float = 0.5


class Looking(BaseModel):
    low: int
    high: int

    @field_validator("high")
    @classmethod
    def _above(cls, high: int, info: ValidationInfo) -> int:
        assert high >= info.data["low"]
        return high


class Tree(BaseModel):
    parts: list[Part]
    more: dict[str, Any] = {}
    inner: "list[Tree]" = []
    looking: list[Looking] = []


@dataclass
class Point:
    x: int
    y: str | None


PARTS = [
    Part(name=f"part {n}:", number=n, at=datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC))
    for n in range(2000)
]
MORE = {"a:": [1, "x" * 300_000, {"b": [[n, None, True, "]"] for n in range(3000)]}], "}": {}}
VALUES: dict[str, tuple[Any, Any]] = {
    "models in models": (
        Tree,
        Tree(
            parts=PARTS,
            more=MORE,
            inner=[Tree(parts=PARTS[:3])],
            looking=[Looking(low=n, high=n) for n in range(2000)],
        ),
    ),
    "a union": (list[Part | Tree], [*PARTS, Tree(parts=PARTS)]),
    "dataclasses": (list[Point], [Point(n, None if n % 2 else "y") for n in range(3000)]),
    "numbers, some of them none": (list[float], [1.5, float("nan"), float("inf"), 3] * 9000),
    "JSON": (Any, MORE),
    "half a pair of surrogates": (Any, ["\ud800", *["x" * 100] * 3000]),
    "sets": (list[set[int]], [{3, 1, 2}] * 3000),
    "bytes": (dict[str, bytes], {"é": b"x" * 300_000}),
    "a model that looks at its own fields": (
        Looking,
        Looking(low=1, high=2),
    ),
    "texts by names": (dict[str, list[str]], {str(n): ["x"] * 40 for n in range(3000)}),
    "a list of a length": (Annotated[list[int], Field(max_length=90_000)], [*range(80_000)]),
}
all_values = pytest.mark.parametrize(("kind", "value"), VALUES.values(), ids=VALUES.keys())


@all_values
def test_a_value_in_parts_is_what_it_is_at_once(kind, value):
    codec = Codec(kind, where="it")
    stored, copy = codec.passed_on(value)
    big = codec.big(value)
    assert big.stored == stored
    assert difference(copy, big.copy) is None
    assert difference(codec.in_parts.read_back(stored), copy) is None


@all_values
def test_a_document_is_json_and_is_read_line_by_line(kind, value):
    stored, _ = Codec(kind, where="it").passed_on(value)
    written = document(stored).decode()
    assert json.loads(written) == stored == read_document(written)
    assert written.count("\n") > 1 or len(written) < 100 or isinstance(stored, str)


@all_values
def test_big_arguments_are_told_apart_as_small_ones_are(kind, value):
    assert "".join(canonical_lines([value, 1])) == canonical([value, 1])


WRONG: dict[str, tuple[Any, Any]] = {
    "no list": (list[Part], tuple(PARTS)),
    "no dict": (dict[str, list[str]], [["a", ["b"]]]),
    "a name that is no text": (dict[str, list[str]], {1: ["b"]}),
    "a number that is too small": (
        list[Part],
        [*PARTS, Part.model_construct(name="x", number=-1)],
    ),
    "a value of another class": (list[Part], [*PARTS, Point(1, "y")]),
    "what is no JSON": (Any, [*MORE, object()]),
    "what would come back as another": (dict[str, Any], {"a": [(1, 2)] * 3}),
}


@pytest.mark.parametrize(("kind", "value"), WRONG.values(), ids=WRONG.keys())
def test_what_is_refused_at_once_is_refused_in_parts_in_the_same_words(kind, value):
    codec = Codec(kind, where="it")
    with pytest.raises(OutputInvalid) as at_once:
        codec.passed_on(value)
    with pytest.raises(OutputInvalid) as in_parts:
        codec.big(value)
    assert str(in_parts.value) == str(at_once.value)


UNREADABLE: dict[str, tuple[Any, Any]] = {
    "no list": (list[Part], {"name": "x"}),
    "no dict": (dict[str, list[str]], [["b"]]),
    "no model": (Tree, ["parts"]),
    "an item of another type": (list[Part], [{"name": "x", "number": "many"}]),
    "a value that another forbids": (list[Looking], [{"low": 2, "high": 1}]),
}


@pytest.mark.parametrize(("kind", "stored"), UNREADABLE.values(), ids=UNREADABLE.keys())
def test_what_cannot_be_read_at_once_cannot_be_read_in_parts(kind, stored):
    codec = Codec(kind, where="it")
    with pytest.raises(Unreadable) as at_once:
        codec.read_back(stored)
    with pytest.raises(Unreadable) as in_parts:
        codec.in_parts.read_back(stored)
    assert str(in_parts.value) == str(at_once.value)


@pytest.mark.parametrize("at", [0, 49_999, 99_999])
def test_where_two_long_lists_differ_is_found(at):
    was = [*range(100_000)]
    now = [*was[:at], -1, *was[at + 1 :]]
    found = difference(was, now)
    assert found is not None
    assert str(at) in str(found)


def test_of_a_union_what_is_proven_is_written_at_once_and_the_rest_compared():
    codec = Codec(Part | Looking | Point, where="it")
    for value in [Part(name="a", number=1), Looking(low=1, high=2), Point(1, None)] * 2:
        stored, copy = codec.passed_on(value)
        assert copy == value
        assert stored["type"] == type(value).__name__
