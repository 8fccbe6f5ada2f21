"""Each kind of thing that an error may hold comes back, or a name comes in its place."""

import dataclasses
import json
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import Path
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from pydantic import BaseModel

from crew.event import failure_data, failure_from
from crew.failure import Placeholder, error_of, failure_of


class Plain(Exception):
    """No code of its own."""


class Colour(Enum):
    RED = "red"


class Model(BaseModel):
    n: int = 0


@dataclasses.dataclass(frozen=True)
class Pair:
    left: object
    right: object = None


class Named:
    """What stands beside an error's own bases."""


class Mixed(Named, Plain):
    """An error that is something else as well."""


class Slotted(Exception):
    __slots__ = ("code", "unset")


class Choosy(Exception):
    """One that is not made without both of its arguments."""

    def __new__(cls, first, second):
        return super().__new__(cls, first)

    def __init__(self, first, second):
        super().__init__(first)
        self.second = second


class Frozen(Exception):
    def __setattr__(self, name, value):
        raise AttributeError("frozen")


def kept(error, *near):
    stored = json.loads(json.dumps(failure_data(failure_of(error, "there"))))
    return error_of(failure_from(stored), *near)


def with_attributes(error, **attributes):
    for name, value in attributes.items():
        setattr(error, name, value)
    return error


VALUES = [
    None,
    True,
    2**80,
    -1.5,
    float("-inf"),
    "text",
    b"bytes",
    bytearray(b"array"),
    complex(1, -2),
    Decimal("1.10"),
    UUID(int=3),
    Path("a/b"),
    date(2026, 1, 1),
    datetime(2026, 1, 1, tzinfo=UTC),
    datetime(2026, 1, 1, tzinfo=ZoneInfo("Europe/Berlin"), fold=1),
    time(12, 30),
    timedelta(days=-1, microseconds=1),
    [1, [2]],
    (1, (2,)),
    {1, 2},
    frozenset({"a"}),
    {"a": {"b": 1}},
    {1: 2, "$": 3},
    Colour.RED,
    Model(n=3),
    Pair(1, Model(n=2)),
    {Pair(1): (Colour.RED,)},
]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_a_value_comes_back_in_an_errors_arguments_and_attributes(value):
    again = kept(with_attributes(Plain(value), held=[value]))
    assert (again.args, again.held) == ((value,), [value])
    assert type(again.args[0]) is type(value)


def test_an_error_in_an_error_comes_back():
    again = kept(Plain(OSError(2, "gone", "file")))
    assert (type(again.args[0]), again.args[0].filename) == (FileNotFoundError, "file")


def test_a_mapped_error_that_is_something_else_as_well_comes_back_as_both():
    again = kept(Mixed("x"))
    assert isinstance(again, Named)
    assert isinstance(again, Mixed)


def test_what_is_in_slots_comes_back_and_what_was_not_set_stays_unset():
    again = kept(with_attributes(Slotted("x"), code=[3]))
    assert again.code == [3]
    assert not hasattr(again, "unset")


@pytest.mark.parametrize("error", [Choosy("a", "b"), Frozen("a")])
def test_no_code_of_the_errors_own_is_needed(error):
    again = kept(error)
    assert (type(again), again.args, vars(again)) == (type(error), error.args, vars(error))


def test_a_group_that_is_nested_too_deep_ends_in_its_class_and_text():
    error = deepest = Plain("at the bottom")
    for number in range(8):
        error = ExceptionGroup(f"level {number}", [error])
    again = kept(error)
    while isinstance(again, ExceptionGroup):
        (again,) = again.exceptions
    assert type(again) is Exception
    assert "level" in again.__notes__[0]
    assert str(deepest) not in again.__notes__[0]


def test_what_new_code_cannot_put_together_comes_as_its_text(monkeypatch):
    stored = failure_of(Plain({Pair(1)}), "there")
    monkeypatch.setattr(Pair, "__hash__", None)
    again = error_of(stored)
    assert type(again) is Exception
    assert "recorded as" in again.__notes__[0]
    assert "Plain" in again.__notes__[0]


def test_an_error_that_no_traceback_can_show_says_so():
    odd = SyntaxError("odd", ("f.py", 1, "a place", "x ="))
    assert failure_of(odd, "").traceback == "[no traceback: showing it raises TypeError]"


def test_the_error_that_was_being_handled_is_in_the_traceback():
    def handle():
        try:
            raise KeyError("first")
        except KeyError:
            raise Plain("second")  # noqa: B904  as a user writes it

    with pytest.raises(Plain) as raised:
        handle()
    shown = failure_of(raised.value, "").traceback
    assert "KeyError: 'first'" in shown
    assert "During handling of the above exception" in shown


def test_a_class_is_told_from_others_that_a_function_closes_over():
    class Another(Exception):
        """Not the one that was raised."""

    class Local(Exception):
        """The one that was."""

    def raises():
        raise Local if Another else Another

    again = kept(Local("x"), raises)
    assert type(again) is Local


def test_what_is_too_long_is_cut_and_what_is_too_deep_is_named():
    deep: list = []
    for _ in range(40):
        deep = [deep]
    assert kept(Plain(deep)).args == (Placeholder("list", "1 items"),)
    long = kept(Plain("x" * 100_000)).args[0]
    assert long.endswith("… [cut: 100000 in all]")
    assert len(long) < 5_000
    assert b"[cut: 100000 in all]" in kept(Plain(b"y" * 100_000)).args[0]
