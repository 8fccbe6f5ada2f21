"""What a definition is made of: its source, and the values that its functions hold.

Two workflows whose texts are equal may still differ in what they close over, as a node that is
defined again in a notebook, or an agent that got other instructions. Names and hashes of code
depend on both, so that nobody talks to a host of other code.
"""

import contextlib
import dis
import functools
import hashlib
import inspect
import linecache
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import PurePath
from types import CodeType, ModuleType
from typing import Any

_OURS = ("crew", "serving")
_STANDARD_LIBRARY = PurePath(os.__file__).parent
_INSTALLED = frozenset({"site-packages", "dist-packages"})
_PLAIN = (str, bytes, int, float, bool, type(None))


def source_hash_of(function: Callable[..., Any]) -> str:
    """Return a hash of what a function was defined by: its module, script or notebook cell."""
    return _source_hash_of_code(function.__code__, function.__module__)


# A start of a run asks for it: to go through a whole module's text costs more than the rest of it.
@functools.lru_cache(maxsize=4096)
def _source_hash_of_code(code: CodeType, module_name: str) -> str:
    source = _source_of_code(code, module_name)
    return hashlib.sha256(source.encode("utf-8", "surrogatepass")).hexdigest()


def _source_of_code(code: CodeType, module_name: str) -> str:
    module = sys.modules.get(module_name)
    text = "" if module is None or module_name == "__main__" else _module_source(module)
    if not text:
        # Not inspect.getsource, which looks through every module for one function's lines.
        linecache.checkcache(code.co_filename)
        text = "".join(linecache.getlines(code.co_filename))
    return text or f"{code.co_code.hex()}{code.co_consts!r}"


def definition_of(value: Any, *, around: object = None) -> str:
    """Return a text that changes when a function does, or anything that it holds.

    What says by `defined_by` what it is made of is looked through likewise, each thing once, as
    agents may hold each other. `around` is the one that asks, which is not looked through again.
    """
    parts: list[str] = []
    _collect(value, parts, {id(around)})
    return "\0".join(parts)


def held_by(function: Any) -> dict[str, Any]:
    """Return what a function's names stand for that are neither its own nor Python's.

    Those of what is defined in it count, as of a lambda or a comprehension.
    """
    code, module = function.__code__, function.__globals__
    held = {name: module[name] for name in _global_names(code) if name in module}
    for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
        with contextlib.suppress(ValueError):  # it is not bound yet
            held[name] = cell.cell_contents
    return held


def codes_in(code: CodeType) -> Iterator[CodeType]:
    """Yield the code of a function, and of what is defined in it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from codes_in(constant)


@functools.lru_cache(maxsize=4096)
def _global_names(code: CodeType) -> tuple[str, ...]:
    loads = {"LOAD_GLOBAL", "LOAD_NAME", "STORE_GLOBAL"}
    found = {
        str(each.argval)
        for inner in codes_in(code)
        for each in dis.get_instructions(inner)
        if each.opname in loads
    }
    return tuple(sorted(found))


def is_users_own(module: ModuleType | None) -> bool:
    """Return whether a module is neither of this package, nor installed, nor Python's own."""
    return _is_users_own(getattr(module, "__name__", "__main__"), getattr(module, "__file__", None))


def is_installed(name: str) -> bool:
    """Return whether a module changes with its release alone: one that is not the user's own."""
    module = sys.modules.get(name)
    return module is not None and name != "__main__" and not is_users_own(module)


@functools.lru_cache(maxsize=4096)
def _is_users_own(name: str, file: str | None) -> bool:
    if file is None or name == "__main__" or name.partition(".")[0] in _OURS:
        return False
    path = PurePath(file)
    return not path.is_relative_to(_STANDARD_LIBRARY) and _INSTALLED.isdisjoint(path.parts)


def _collect(value: Any, parts: list[str], seen: set[int]) -> None:
    if isinstance(value, _PLAIN):
        parts.append(repr(value))
        return
    if id(value) in seen:
        return
    seen.add(id(value))
    if inspect.isfunction(value):
        _collect_function(value, parts, seen)
    elif isinstance(value, functools.partial):
        for part in (value.func, value.args, value.keywords):
            _collect(part, parts, seen)
    elif inspect.ismethod(value):
        _collect(value.__func__, parts, seen)
    elif inspect.ismodule(value):
        parts.append(value.__name__)
        if is_users_own(value):
            parts.append(_module_source(value))
    elif isinstance(value, (list, tuple)):
        for item in value:
            _collect(item, parts, seen)
    elif isinstance(value, dict):
        for key, item in value.items():
            parts.append(repr(key))
            _collect(item, parts, seen)
    elif callable(made := getattr(value, "defined_by", None)) and not inspect.isclass(value):
        for item in made():
            _collect(item, parts, seen)
    elif callable(define := getattr(value, "definition", None)) and not inspect.isclass(value):
        parts.append(define())
    elif inspect.isfunction(call := getattr(type(value), "__call__", None)):  # noqa: B004
        _collect(call, parts, seen)
    else:
        parts.append(getattr(value, "__qualname__", type(value).__qualname__))


def _collect_function(function: Any, parts: list[str], seen: set[int]) -> None:
    parts.append(function.__qualname__)
    if is_installed(function.__module__):
        return
    parts.append(source_hash_of(function))
    for name, item in sorted(held_by(function).items()):
        parts.append(name)
        _collect(item, parts, seen)


def _module_source(module: ModuleType) -> str:
    try:
        return inspect.getsource(module)
    except (OSError, TypeError):
        return ""
