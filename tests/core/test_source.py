"""What a function is made of is all that its names stand for, also within what it defines."""

import pytest

from crew.source import definition_of, held_by

PROGRAMS = {
    "itself": "def node(x): return rule(x)",
    "a lambda": "def node(x): return (lambda y: rule(y))(x)",
    "a comprehension": "def node(xs): return [rule(x) for x in xs]",
    "a generator": "def node(xs): return sum(rule(x) for x in xs)",
    "a function": "def node(x):\n    def inner(y): return rule(y)\n    return inner(x)",
    "a class": "def node(x):\n    class Inner:\n        made = rule(x)\n    return Inner.made",
}


def made(program: str, rule):
    names = {"rule": rule, "__name__": "__main__", "x": 1}
    exec(compile(program, "<cell>", "exec"), names)
    return names["node"]


@pytest.mark.parametrize("program", PROGRAMS.values(), ids=PROGRAMS)
def test_another_value_of_a_name_makes_another_definition(program):
    first, second = (made(program, rule) for rule in (1, 2))
    assert definition_of(first) == definition_of(first)
    assert definition_of(first) != definition_of(second)


@pytest.mark.parametrize("program", PROGRAMS.values(), ids=PROGRAMS)
def test_what_names_stand_for_is_held(program):
    assert held_by(made(program, abs))["rule"] is abs


def test_an_attribute_is_no_name_of_its_own():
    assert held_by(made("def node(y): return y.rule", abs)) == {}
