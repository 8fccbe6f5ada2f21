"""A copy is the same as its original, or what differs first is named."""

import copy
import dataclasses
import datetime
import decimal
import enum
import functools
import math
import pathlib
import re
import uuid
import zoneinfo
from collections import OrderedDict, defaultdict, deque
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import BaseModel, PrivateAttr, TypeAdapter

from crew.value import difference

UTC = datetime.UTC
AN_HOUR = datetime.timezone(datetime.timedelta(hours=1))
NAMED = datetime.timezone(datetime.timedelta(hours=1), "Home")
PYDANTICS = TypeAdapter(datetime.datetime).validate_json('"2026-11-29T12:00:00+01:00"').tzinfo
BERLIN = zoneinfo.ZoneInfo("Europe/Berlin")
NOON = datetime.datetime(2026, 11, 29, 12)  # noqa: DTZ001  a zone is what is added


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


class Item(BaseModel, extra="allow"):
    price: float = 0.0
    _seen: int = PrivateAttr(default=0)

    @functools.cached_property
    def twice(self) -> float:
        return 2 * self.price


class Order(BaseModel):
    items: list[Item]
    name: str = ""
    note: object = None


@dataclasses.dataclass
class Point:
    x: int

    @functools.cached_property
    def twice(self) -> int:
        return 2 * self.x


@dataclasses.dataclass(init=False)
class Slotted:
    __slots__ = ("__hidden", "shown")

    def __init__(self, shown: object, hidden: int = 0) -> None:
        self.shown, self.__hidden = shown, hidden


class OneSlot(list[int]):
    __slots__ = "label"


class Labelled(dict[str, int]):
    label = ""


class Closed:
    def __reduce_ex__(self, protocol: Any) -> Any:
        raise TypeError("cannot be pickled")


class Named:
    """Pickled by name, as a module's constant is."""

    def __reduce_ex__(self, protocol: Any) -> Any:
        return "NAMED"


class Long:
    def __repr__(self) -> str:
        return "Long" * 1000


class Shy:
    def __repr__(self) -> str:
        raise ValueError("not shown")


def labelled(value: Any, label: str) -> Any:
    value.label = label
    return value


def item(price: float, seen: int = 0, **extra: object) -> Item:
    made = Item(price=price, **extra)
    made._seen = seen
    return made


def without_a_price() -> Item:
    made = Item()
    del made.__dict__["price"]
    return made


def asked_for_twice(made: Any) -> Any:
    assert made.twice == 2
    return made


SAME = [
    1,
    "a",
    None,
    b"x",
    bytearray(b"x"),
    1.5,
    math.nan,
    -0.0,
    complex(0.0, math.nan),
    decimal.Decimal("1.10"),
    decimal.Decimal("NaN"),
    NOON,
    NOON.replace(tzinfo=AN_HOUR),
    NOON.replace(tzinfo=BERLIN, fold=1),
    datetime.time(12, tzinfo=UTC),
    datetime.date(2026, 11, 29),
    datetime.timedelta(1),
    uuid.UUID(int=1),
    Colour.RED,
    int,
    pathlib.PurePosixPath("a/b"),
    [1, "a"],
    [1.5, 2.5],
    [0.0, 1.0],
    [math.nan, [math.nan]],
    (1, (2,)),
    deque([1], maxlen=3),
    {"a": [1], 2: None},
    defaultdict(list, a=[1]),
    OrderedDict(a=1),
    {1, "a"},
    frozenset({math.nan, 1}),
    item(1.5, 2, extra=[1]),
    Order(items=[item(1.0)], note=Point(1)),
    Point(1),
    Slotted([1], 2),
    labelled(OneSlot([1]), "x"),
    labelled(Labelled(a=1), "x"),
    re.compile("a+"),
    SimpleNamespace(a=[1]),
    iter([1, 2]),
]


@pytest.mark.parametrize("value", SAME, ids=lambda value: f"{type(value).__name__}")
def test_a_deep_copy_is_the_same(value):
    assert difference(value, copy.deepcopy(value)) is None


@pytest.mark.parametrize(
    ("was", "now"),
    [
        (NOON.replace(tzinfo=AN_HOUR), NOON.replace(tzinfo=PYDANTICS)),
        (asked_for_twice(item(1.0)), item(1.0)),
        (asked_for_twice(Point(1)), Point(1)),
    ],
    ids=["the zone of another library", "a cached property", "that of a dataclass"],
)
def test_what_means_nothing_makes_no_difference(was, now):
    assert difference(was, now) is None


DIFFERENT = [
    (1, True, "it, the int 1, would come back as the bool True"),
    (1, None, "it, the int 1, would come back as None"),
    (1, 2, "it, the int 1, would come back as the int 2"),
    (0.0, -0.0, "it, the float 0.0, would come back as the float -0.0"),
    (1.0, math.nan, "it, the float 1.0, would come back as the float nan"),
    (complex(0.0, 1), complex(-0.0, 1), "it, the complex 1j, would come back"),
    (decimal.Decimal("1.10"), decimal.Decimal("1.1"), "it, the Decimal Decimal"),
    (NOON, NOON.replace(hour=13), "it, the datetime"),
    (NOON, NOON.replace(fold=1), "it, the datetime"),
    (NOON, NOON.replace(tzinfo=UTC), "it, the datetime"),
    (NOON.replace(tzinfo=AN_HOUR), NOON.replace(tzinfo=UTC), "it, the datetime"),
    (NOON.replace(tzinfo=NAMED), NOON.replace(tzinfo=AN_HOUR), "it, the datetime"),
    (NOON.replace(tzinfo=BERLIN), NOON.replace(tzinfo=AN_HOUR), "it, the datetime"),
    (datetime.time(1), datetime.time(2), "it, the time"),
    (Colour.RED, Colour.BLUE, "it, the Colour"),
    (pathlib.PurePosixPath("a"), pathlib.PurePosixPath("b"), "it, the PurePosixPath"),
    ([1], [1, 2], "it, the list [1], would come back as the list [1, 2]"),
    ([1, 2], [1, True], "[1], the int 2, would come back as the bool True"),
    ([1.5, 0.0], [1.5, -0.0], "[1], the float 0.0, would come back as the float -0.0"),
    (deque([1], 3), deque([1], 4), "maxlen, the int 3, would come back as the int 4"),
    (deque([1], 3), deque([2], 3), "[0], the int 1"),
    ({"a": 1}, {"a": 1, "b": 2}, "it, the dict"),
    ({"a": 1, "b": 2}, {"b": 2, "a": 1}, "['a'], the str 'a', would come back as the str 'b'"),
    ({"a": [1]}, {"a": [2]}, "['a'][0], the int 1"),
    (defaultdict(list), defaultdict(dict), "default_factory, the type <class 'list'>"),
    (defaultdict(list, a=1), defaultdict(list, a=2), "['a'], the int 1"),
    ({1}, {1, 2}, "it, the set {1}, would come back as the set {1, 2}"),
    ({1}, {True}, "it, the int 1, would come back as the bool True"),
    ({1, 2}, {1, 3}, "it, the int 2, would be lost"),
    (item(1.0), item(2.0), "price, the float 1.0"),
    (item(1.0), without_a_price(), "price, the float 1.0, would be lost"),
    (without_a_price(), item(1.0), "price would appear, as the float 1.0"),
    (item(1.0, more=1), item(1.0), "more, the int 1, would be lost"),
    (item(1.0), item(1.0, more=None), "more would appear, as None"),
    (item(1.0, 1), item(1.0, 2), "_seen, the int 1, would come back as the int 2"),
    (Order(items=[item(1.0)]), Order(items=[item(2.0)]), "items[0].price, the float 1.0"),
    (Point(1), Point(2), "x, the int 1"),
    (Slotted(1, 2), Slotted(1, 3), "_Slotted__hidden, the int 2"),
    (labelled(OneSlot(), "a"), labelled(OneSlot(), "b"), "label, the str 'a'"),
    (labelled(Labelled(), "a"), Labelled(), "label, the str 'a', would be lost"),
    (re.compile("a"), re.compile("b"), "it, the Pattern"),
    (SimpleNamespace(a=1), SimpleNamespace(a=2), "it, the SimpleNamespace"),
    (Closed(), Closed(), "it, the Closed"),
    (Named(), Named(), "it, the Named"),
]


@pytest.mark.parametrize(("was", "now", "text"), DIFFERENT)
def test_what_differs_first_is_named(was, now, text):
    assert str(difference(was, now)).startswith(text)


@pytest.mark.parametrize("value", [Long(), Shy(), "long" * 1000, 10**1000])
def test_a_value_is_named_in_few_words(value):
    assert len(str(difference(value, None))) < 300
