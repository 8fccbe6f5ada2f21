"""What a journal holds is read by new code as it was written, or is said to have changed."""

import datetime
import functools
import threading
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field, create_model

from crew.errors import OutputInvalid, Unreadable
from crew.graph.patch import read_state
from crew.value import Codec, difference, own_copy, with_own_arguments


class Price(BaseModel):
    amount: int
    unit: str = "EUR"


class Wider(Price):
    note: str = ""


class Narrower(BaseModel):
    amount: int


class Renamed(BaseModel):
    amount: int
    currency: str = "EUR"


class Harder(Price):
    amount: int = Field(lt=3)


class Needing(Price):
    note: str


class Changing(Price):
    amount: bool


STORED = {"amount": 1, "unit": "USD"}


@pytest.mark.parametrize("kind", [Price, Wider, list[Price], Price | None, Price | str])
def test_what_has_all_its_parts_is_read(kind):
    stored = {list[Price]: [STORED], Price | str: {"type": "Price", "value": STORED}}
    found = Codec(kind, where="it").read_back(stored.get(kind, STORED))
    assert (found[0] if isinstance(found, list) else found).unit == "USD"


@pytest.mark.parametrize(
    ("kind", "stored", "reason"),
    [
        (Narrower, STORED, "unit is no part of it any more"),
        (list[Narrower], [STORED], r"\[0\].unit is no part of it any more"),
        (Renamed, STORED, "unit is no part of it any more"),
        (Harder, {"amount": 5}, "amount: Input should be less than 3"),
        (Needing, STORED, "note: Field required"),
        (Changing, STORED, "amount would be read as True"),
        (Price | str, {"type": "Cost", "value": STORED}, "'Cost' is none of them"),
        (Literal["a"], "b", "Input should be 'a'"),
        (int, "5", "would be read as 5"),
        (Annotated[int | None, Field(ge=0)], -1, "greater than or equal to 0"),
    ],
)
def test_what_lost_a_part_or_does_not_fit_any_more_is_told(kind, stored, reason):
    with pytest.raises(Unreadable, match=reason) as caught:
        Codec(kind, where="the price").read_back(stored)
    assert caught.value.where == "the price"
    assert "the code here has" in str(caught.value)


def test_a_whole_number_may_become_a_float():
    assert Codec(float, where="it").read_back(5) == 5.0


@pytest.mark.parametrize(
    ("fields", "shared"),
    [({}, {"n": 1}), ({"n": (str, "")}, {"n": 1}), ({"n": (int, Field(0, lt=1))}, {"n": 1})],
)
def test_state_that_new_code_cannot_read_is_told(fields, shared):
    with pytest.raises(Unreadable, match="n"):
        read_state(create_model("State", **fields), shared)


class Node(BaseModel):
    items: list[Any] = []
    _seen: list[int] = []


def test_a_copy_shares_nothing_that_can_change():
    node = Node(items=[{"a": [1]}, {2}, (3,)])
    node._seen.append(1)
    copy = own_copy(node)
    assert difference(node, copy) is None
    copy.items[0]["a"].append(2)
    copy.items[1].add(3)
    copy._seen.append(2)
    assert (node.items, node._seen) == ([{"a": [1]}, {2}, (3,)], [1])


def test_what_stands_at_two_places_is_one_thing_in_the_copy():
    shared: list[int] = []
    first, second = own_copy([shared, shared])
    assert first is second is not shared


def test_what_cannot_be_copied_is_refused():
    with pytest.raises(OutputInvalid, match="cannot be copied: TypeError"):
        with_own_arguments(print, ([threading.Lock()],))


def test_a_partial_and_its_arguments_are_copied_and_a_context_is_not():
    class Handed:
        is_crew_context = True

    context, held = Handed(), [1]
    function, arguments = with_own_arguments(functools.partial(dict, a=held), (context,))
    assert arguments == (context,)
    assert function.keywords == {"a": [1]}
    assert function.keywords["a"] is not held


@pytest.mark.parametrize(
    ("was", "now"),
    [
        (True, 1),
        (-0.0, 0.0),
        ({1: "a", 2: "b"}, {2: "b", 1: "a"}),
        ({1}, {True}),
        (datetime.time(1, fold=1), datetime.time(1)),
        (datetime.time(1, tzinfo=datetime.UTC), datetime.time(1)),
        ([1, [2.0]], [1, [2]]),
        (threading.Lock(), threading.Lock()),
        (print, len),
        (complex(0.0, -0.0), complex(0.0, 0.0)),
    ],
)
def test_equal_things_may_differ(was, now):
    assert difference(was, now) is not None
    assert difference([{"x": was}], [{"x": now}]).path.startswith("[0]['x']")


@pytest.mark.parametrize("value", [float("nan"), [float("nan")], {float("nan")}, {"x": 1j}])
def test_a_thing_that_is_not_equal_to_itself_may_be_the_same(value):
    import pickle

    assert difference(value, pickle.loads(pickle.dumps(value))) is None
