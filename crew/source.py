"""What a definition is made of: its source, and the values that its functions hold.

Two workflows whose texts are equal may still differ in what they close over, as a node that is
defined again in a notebook, or an agent that got other instructions. Names and hashes of code
depend on both, so that nobody talks to a host of other code.
"""

import functools
import inspect
import sysconfig
from collections.abc import Callable, Iterator
from pathlib import Path
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any

_OURS = ("crew", "serving")
_PLAIN = (str, bytes, int, float, bool, type(None))


def source_of(function: Callable[..., Any]) -> str:
    """Return the source a function was defined by: its whole module, or its own lines."""
    module = inspect.getmodule(function)
    try:
        if module is not None and module.__name__ != "__main__":
            return inspect.getsource(module)
        return inspect.getsource(function)
    except (OSError, TypeError):
        code = function.__code__
        return f"{code.co_code.hex()}{code.co_consts!r}"


def definition_of(function: Callable[..., Any]) -> str:
    """Return a text that changes when a function does, or anything that it holds."""
    parts: list[str] = []
    _collect(function, parts, set())
    return "\0".join(parts)


def held_by(function: Callable[..., Any]) -> Iterator[Any]:
    """Yield what a function can reach by the names in its code, each thing once.

    Followed are functions, methods, containers and objects of the user's own; of anything else,
    such as an agent, what it holds in turn is left alone.
    """
    home = inspect.getmodule(function)
    waiting, seen = [function], set[int]()
    while waiting:
        value = waiting.pop()
        if isinstance(value, _PLAIN) or id(value) in seen:
            continue
        seen.add(id(value))
        yield value
        waiting += _inside(value, home)


def _inside(value: Any, home: ModuleType | None) -> list[Any]:
    if isinstance(value, functools.partial):
        return [value.func, *value.args, *value.keywords.values()]
    if isinstance(value, MethodType):
        return [value.__self__, value.__func__]
    if isinstance(value, (list, tuple, set, frozenset)):
        return list(value)
    if isinstance(value, dict):
        return list(value.values())
    if not _is_followed(value, home):
        return []
    return _named_in(value) if inspect.isfunction(value) else list(vars(value).values())


def _is_followed(value: Any, home: ModuleType | None) -> bool:
    if inspect.ismodule(value) or inspect.isclass(value):
        return False  # their names are followed where code says them
    defined = value if inspect.isfunction(value) else type(value)
    module = inspect.getmodule(defined)
    is_own = module is home or module is None or is_users_own(module)
    is_script = getattr(defined, "__module__", "") == "__main__"
    return (is_own or is_script) and (inspect.isfunction(value) or hasattr(value, "__dict__"))


def _named_in(function: FunctionType) -> list[Any]:
    """Return what a function closes over, and the globals, and things of modules, that it names."""
    names = _names(function.__code__)
    found = [function.__globals__[name] for name in names if name in function.__globals__]
    for module in [item for item in found if inspect.ismodule(item)]:
        found += [vars(module)[name] for name in names if name in vars(module)]
    for cell in function.__closure__ or ():
        try:
            found.append(cell.cell_contents)
        except ValueError:  # it is not filled yet
            continue
    return [*found, *(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()]


def _names(code: CodeType) -> set[str]:
    inner = (item for item in code.co_consts if isinstance(item, CodeType))
    return set(code.co_names).union(*map(_names, inner))


def is_users_own(module: ModuleType | None) -> bool:
    """Return whether a module is neither of this package, nor installed, nor Python's own."""
    name = getattr(module, "__name__", "__main__")
    file = getattr(module, "__file__", None)
    if file is None or name == "__main__" or name.partition(".")[0] in _OURS:
        return False
    path = Path(file).resolve()
    return not any(path.is_relative_to(place) for place in _installed_places())


@functools.cache
def _installed_places() -> frozenset[Path]:
    paths = sysconfig.get_paths()
    names = ("stdlib", "platstdlib", "purelib", "platlib")
    return frozenset(Path(paths[name]).resolve() for name in names)


def _collect(value: Any, parts: list[str], seen: set[int]) -> None:
    if isinstance(value, _PLAIN):
        parts.append(repr(value))
        return
    if id(value) in seen:
        return
    seen.add(id(value))
    if inspect.isfunction(value):
        _collect_function(value, parts, seen)
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
    elif callable(define := getattr(value, "definition", None)) and not inspect.isclass(value):
        parts.append(define())
    else:
        parts.append(getattr(value, "__qualname__", type(value).__qualname__))


def _collect_function(function: Any, parts: list[str], seen: set[int]) -> None:
    parts.append(function.__qualname__)
    module = inspect.getmodule(function)
    if module is not None and module.__name__ != "__main__" and not is_users_own(module):
        return  # it changes with its release alone
    parts.append(source_of(function))
    held = inspect.getclosurevars(function)
    for name, item in sorted({**held.globals, **held.nonlocals}.items()):
        parts.append(name)
        _collect(item, parts, seen)


def _module_source(module: ModuleType) -> str:
    try:
        return inspect.getsource(module)
    except (OSError, TypeError):
        return ""
