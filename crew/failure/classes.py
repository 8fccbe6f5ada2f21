"""Classes by name: found again among what is loaded, never imported for it.

A class is looked for in the loaded module it came from (a hint: code may have moved, or be run as
`__main__`), then in what the functions at hand can see: their globals, and what they close over.
"""

import functools
import sys
from collections.abc import Iterable, Iterator, Mapping
from types import FunctionType, MethodType
from typing import Any

MOST_FUNCTIONS = 256
"""How many functions are looked through for one class."""


def reference(kind: type) -> list[str]:
    """Return the names of a class: its module's, and its qualified one."""
    return [str(kind.__module__), kind.__qualname__]


def found(names: list[str], near: Iterable[object]) -> type | None:
    """Return the class of these names, or None; `near` are functions that may see it."""
    module, name = names
    loaded = sys.modules.get(module)
    if loaded is not None and (kind := _walked(vars(loaded), name)) is not None:
        return kind
    return next((kind for kind in _seen_by(near, name)), None)


def error_found(names: list[str], near: Iterable[object]) -> type[BaseException] | None:
    """Return the exception class of these names, or None."""
    kind = found(names, near)
    return kind if kind is not None and issubclass(kind, BaseException) else None


def built_in_of(kind: type[BaseException]) -> type[BaseException]:
    """Return the nearest base of Python's own."""
    return next(base for base in kind.__mro__ if base.__module__ == "builtins")


def error_bases(kind: type[BaseException]) -> list[list[str]]:
    """Return the names of a class's bases, the nearest first, down to one of Python's own."""
    bases = list[list[str]]()
    for base in kind.__mro__[1:] if kind.__module__ != "builtins" else ():
        if issubclass(base, BaseException):
            bases.append(reference(base))
            if base.__module__ == "builtins":
                break
    return bases


def _walked(names: Mapping[str, Any], qualified: str) -> type | None:
    """Follow a qualified name, by what is there: asking a module may make it import something."""
    first, *rest = qualified.split(".")
    value = names.get(first)
    for part in rest:
        value = vars(value).get(part) if isinstance(value, type) else None
    return value if isinstance(value, type) else None


def _seen_by(near: Iterable[object], name: str) -> Iterator[type]:
    """Yield classes of a qualified name that functions, or what they close over, can see."""
    waiting, seen = list(near), set[int]()
    while waiting and len(seen) < MOST_FUNCTIONS:
        item = waiting.pop(0)
        if id(item) in seen:
            continue
        seen.add(id(item))
        if isinstance(item, type):
            if item.__qualname__ == name:
                yield item
        elif isinstance(item, FunctionType):
            if (kind := _walked(item.__globals__, name)) is not None:
                yield kind
            waiting += _closed_over(item)
        else:
            waiting += _inside(item)


def _closed_over(function: FunctionType) -> list[object]:
    held = [getattr(function, "__wrapped__", None)]
    for cell in function.__closure__ or ():
        try:
            held.append(cell.cell_contents)
        except ValueError:  # not assigned yet
            continue
    return [item for item in held if item is not None]


def _inside(item: object) -> list[object]:
    """Return the functions that a callable is made of, as far as it is one of ours or Python's."""
    if isinstance(item, functools.partial):
        return [item.func]
    if isinstance(item, MethodType):
        return [item.__func__]
    inner = getattr(item, "__dict__", {}).get("function")  # a tool, a plain workflow
    call = vars(type(item)).get("__call__")
    return [part for part in (inner, call) if isinstance(part, FunctionType)]
