"""Which of the variables around it a function changes, as its bytecode says.

Read where no source is, as in a host on another machine. What objects do to themselves in methods
of their own is not seen: only what the code itself stores to, and what it calls of Python's own
containers.
"""

import dis
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from types import CodeType, ModuleType, SimpleNamespace
from typing import Any

from crew.source import codes_in, held_by, is_installed

__all__ = ["changed_by"]

_CONTAINERS = (list, dict, set, bytearray, deque)
_MUTATORS = {
    *("append", "appendleft", "extend", "extendleft", "insert", "pop", "popleft", "remove"),
    *("add", "discard", "update", "setdefault", "popitem", "clear", "subtract"),
    *("difference_update", "intersection_update", "symmetric_difference_update"),
    *("reverse", "rotate", "sort"),
}
_LOADS = frozenset({"LOAD_GLOBAL", "LOAD_NAME", "LOAD_DEREF", "LOAD_CLASSDEREF"})
_REBINDS = frozenset({"STORE_GLOBAL", "DELETE_GLOBAL", "STORE_DEREF", "DELETE_DEREF"})
_ON_TOP = {"STORE_SUBSCR": 1, "DELETE_SUBSCR": 1, "STORE_SLICE": 2}
"""How many values stand above the container that is stored to: a key, or two ends of a slice."""


def changed_by(function: Callable[..., Any]) -> dict[str, Any]:
    """Return those variables around a function that its code changes, with what they are now."""
    held = held_by(function)
    free = frozenset(function.__code__.co_freevars)
    return {
        name: held[name]
        for code in codes_in(function.__code__)
        for name, is_changed in _changes(code, free)
        if name in held and is_changed(held[name])
    }


def _changes(code: CodeType, free: frozenset[str]) -> Iterator[tuple[str, Callable[[Any], bool]]]:
    """Yield names to which code stores, each with what tells whether that changes the value.

    Args:
        code: what is looked at.
        free: the names that the outermost function has from outside; others are its own.
    """
    steps = list(dis.get_instructions(code))
    for index, step in enumerate(steps):
        if step.opname in _REBINDS and _is_outer(step, free):
            yield step.argval, _always
        target, is_changed = _target(steps, index)
        if target >= 0 and steps[target].opname in _LOADS and _is_outer(steps[target], free):
            yield steps[target].argval, is_changed


def _target(steps: Sequence[dis.Instruction], index: int) -> tuple[int, Callable[[Any], bool]]:
    """Return which step loads what the one at `index` may change, or -1, and what tells whether."""
    step = steps[index]
    if step.opname in _ON_TOP:
        return _below(steps, index, _ON_TOP[step.opname]), _is_container
    if _is(steps, index, ("COPY", 2), ("COPY", 2)):  # container[key] += …
        return _below(steps, index, 1), _is_container
    if step.opname == "STORE_ATTR" or _is(steps, index, ("COPY", 1), ("LOAD_ATTR", None)):
        return index - 1, _is_own_object
    if step.opname in ("LOAD_METHOD", "LOAD_ATTR") and step.argval in _MUTATORS:
        return index - 1, _is_container
    if index and steps[index - 1].argval == "next":
        return index, _is_iterator
    return -1, _always


def _is_outer(step: dis.Instruction, free: frozenset[str]) -> bool:
    return not step.opname.endswith("DEREF") or step.argval in free


def _is(steps: Sequence[dis.Instruction], index: int, *pattern: tuple[str, int | None]) -> bool:
    found = steps[index : index + len(pattern)]
    return len(found) == len(pattern) and all(
        step.opname == name and number in (None, step.arg)
        for step, (name, number) in zip(found, pattern, strict=True)
    )


def _below(steps: Sequence[dis.Instruction], index: int, above: int) -> int:
    """Return which step before `index` gave the value that has so many above it on the stack.

    -1 where it came with one of them, as two of the function's own do since Python 3.13.
    """
    while above > 0 and index > 0:
        index -= 1
        above -= dis.stack_effect(steps[index].opcode, steps[index].arg, jump=False)
    return index - 1 if above == 0 else -1


def _always(value: Any) -> bool:
    return True


def _is_container(value: Any) -> bool:
    return isinstance(value, _CONTAINERS)


def _is_iterator(value: Any) -> bool:
    return hasattr(type(value), "__next__")


def _is_own_object(value: Any) -> bool:
    """Return whether it is an object, a class or a module of the user's, with attributes."""
    if isinstance(value, ModuleType):
        return not is_installed(value.__name__)
    kind = value if isinstance(value, type) else type(value)
    return kind is SimpleNamespace or not is_installed(kind.__module__)
