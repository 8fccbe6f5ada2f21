"""What classes made by `define` and `frozen` have in common with plain dataclasses."""

import copy
import pickle
from dataclasses import dataclass, field, replace

import pytest

from crew.define import define, frozen


@frozen
class Frozen:
    number: int
    secret: str = field(default="", repr=False)
    noted: int = field(default=0, compare=False)


@define
class Defined:
    number: int
    secret: str = field(default="", repr=False)
    noted: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Plain:
    number: int
    secret: str = field(default="", repr=False)
    noted: int = field(default=0, compare=False)


@pytest.mark.parametrize("kind", [Frozen, Defined])
def test_it_is_shown_as_a_dataclass_is(kind):
    assert repr(kind(1, "key")) == repr(Plain(1, "key")).replace("Plain", kind.__name__)
    assert "key" not in repr(kind(1, "key"))


@pytest.mark.parametrize("kind", [Frozen, Defined])
def test_it_is_compared_by_its_fields_and_class(kind):
    assert kind(1, "a", 2) == kind(1, "a", 3)
    assert kind(1, "a") != kind(1, "b")
    assert kind(1) != Plain(1)


@pytest.mark.parametrize("kind", [Frozen, Defined])
def test_it_is_copied_pickled_and_replaced(kind):
    value = kind(1, "a", 2)
    for other in (copy.copy(value), copy.deepcopy(value), pickle.loads(pickle.dumps(value))):
        assert (other, other.noted) == (value, 2)
    assert replace(value, number=5) == kind(5, "a")


@pytest.mark.parametrize("kind", [Frozen, Defined])
def test_it_has_no_other_attributes(kind):
    with pytest.raises(AttributeError):
        kind(1).other = 2


def test_only_what_is_frozen_is_hashed():
    assert hash(Frozen(1, "a", 2)) == hash(Frozen(1, "a", 3))
    assert len({Frozen(1), Frozen(1), Frozen(2)}) == 2
    with pytest.raises(TypeError, match="unhashable"):
        hash(Defined(1))


def test_a_method_of_its_own_stays():
    @frozen
    class Named:
        name: str

        def __repr__(self) -> str:
            return self.name

    assert repr(Named("x")) == "x"
