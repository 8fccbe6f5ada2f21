"""Values go on as they were stored."""

import datetime
import decimal
import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict

from crew.errors import OutputInvalid
from crew.value import Codec, canonical, text_of


class Yes(BaseModel):
    why: str


class No(BaseModel):
    why: str


class Strict(BaseModel):
    model_config = ConfigDict(strict=True)
    day: datetime.date


def round_trip(annotation, value):
    codec = Codec(annotation, where="it")
    return codec.decode(json.loads(json.dumps(codec.encode(value), allow_nan=False)))


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (str, "a"),
        (int | str, "1"),
        (int | str, 1),
        (bool | int, True),
        (Yes | No, No(why="x")),
        (list[Yes | No], [No(why="x"), Yes(why="y")]),
        (list[list[Yes | No]], [[No(why="x")], []]),
        (Yes | None, None),
        (Yes | No | None, None),
        (set[str], {"c", "a", "b"}),
        (dict[int, list[float]], {1: [0.5]}),
        (tuple[int, str], (1, "a")),
        (Strict, Strict(day=datetime.date(2026, 11, 24))),
        (decimal.Decimal, decimal.Decimal("1.10")),
        (float, math.inf),
        (list[float], [-math.inf, 1.5]),
        (None, None),
    ],
)
def test_a_value_comes_back_as_it_was(annotation, value):
    back = round_trip(annotation, value)
    assert back == value
    assert type(back) is type(value)


def test_not_a_number_comes_back():
    assert math.isnan(round_trip(float, math.nan))


def test_equal_sets_have_equal_bytes():
    codec = Codec(set[str], where="it")
    letters = [chr(code) for code in range(97, 123)]
    assert codec.encode(set(letters)) == letters


@pytest.mark.parametrize(
    ("annotation", "value"),
    [(str, 1), (int, "1"), (Yes, No(why="x")), (Yes | No, "x"), (list[int], "ab"), (None, 0)],
)
def test_another_type_is_refused(annotation, value):
    with pytest.raises(OutputInvalid, match="^it must be "):
        Codec(annotation, where="it").encode(value)


def test_without_an_annotation_only_json_is_allowed():
    import inspect

    codec = Codec(inspect.Parameter.empty, where="it")
    assert codec.encode({"a": [1, None]}) == {"a": [1, None]}
    with pytest.raises(OutputInvalid, match="annotate the return type"):
        codec.encode({1, 2})


def test_an_invalid_instance_is_refused():
    wrong = Yes.model_construct(why=3)
    codec = Codec(Yes, where="it")
    with pytest.raises(OutputInvalid):
        codec.passed_on(wrong)


def test_arguments_must_be_data():
    with pytest.raises(OutputInvalid, match="must be data"):
        canonical([open])


def test_canonical_text_ignores_the_order_of_keys():
    assert canonical({"b": 1, "a": {2, 1}}) == canonical({"a": {1, 2}, "b": 1})


@pytest.mark.parametrize(
    ("value", "text"), [("a", "a"), ({"text": "b", "n": 1}, "b"), ([1], "[1]")]
)
def test_the_text_of_a_value(value, text):
    assert text_of(value) == text


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(json_values)
def test_any_json_comes_back(value):
    assert round_trip(inspect_empty(), value) == _with_words(value)


def inspect_empty():
    import inspect

    return inspect.Parameter.empty


def _with_words(value):
    """What is stored: non-finite floats are words."""
    if isinstance(value, float) and not math.isfinite(value):
        return "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, list):
        return [_with_words(item) for item in value]
    if isinstance(value, dict):
        return {key: _with_words(item) for key, item in value.items()}
    return value


class Loose(BaseModel):
    model_config = ConfigDict(extra="allow")
    n: int


class Deep(BaseModel):
    n: int
    inner: list[dict[str, float | int]]


@pytest.mark.parametrize("value", [Deep(n=1, inner=[{"a": math.inf}]), Loose(n=1, more=[2, "b"])])
def test_floats_are_found_wherever_a_model_may_hold_them(value):
    assert round_trip(type(value), value) == value


def test_an_int_may_stand_for_a_float_as_its_type_says():
    codec = Codec(float, where="it")
    stored, copy = codec.passed_on(2)
    assert (stored, type(copy)) == (2.0, float)
    with pytest.raises(OutputInvalid, match="a bool is not float"):
        codec.passed_on(True)
