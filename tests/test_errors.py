"""Errors keep their class and their facts on their way between processes."""

import inspect
import pickle
import re
from dataclasses import fields

import pytest

from crew import errors
from crew.errors import CrewError

CLASSES = [
    item for item in vars(errors).values() if inspect.isclass(item) and issubclass(item, CrewError)
]


@pytest.mark.parametrize("kind", CLASSES)
def test_an_error_survives_pickling(kind):
    facts = {f.name: {"str": "x", "int": 3}.get(f.type, "y") for f in fields(kind)}
    error = kind(**facts)
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is kind
    assert {f.name: getattr(copy, f.name) for f in fields(kind)} == facts
    assert str(copy) == str(error)


def test_the_tree_in_the_docstring_is_the_tree():
    drawn = re.findall(r"^[│├└─ ]*(\w+)", errors.__doc__.split("\n\n")[1], flags=re.MULTILINE)
    assert sorted(drawn) == sorted(kind.__name__ for kind in CLASSES)
