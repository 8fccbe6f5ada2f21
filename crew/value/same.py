"""Whether a value came back as it was: what `==` passes over counts, too.

`True == 1`, `-0.0 == 0.0`, a zone's name, a deque's length, a default factory and a private
attribute make a difference; that a NaN does not equal itself makes none.
"""

import datetime
import decimal
import enum
import functools
import math
import pathlib
import reprlib
import uuid
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from dataclasses import is_dataclass, replace
from typing import Any

from pydantic import BaseModel
from pydantic_core import TzInfo

from crew.define import frozen

_MISSING = object()
_NAN = object()
_SCALARS = frozenset({str, int, bool, type(None), bytes})
"""Types whose values are the same if they are equal."""


@frozen
class Difference:
    """Where two values differ first, as a path such as `.items[3].price`, and what is there."""

    path: str
    was: object
    now: object

    def __str__(self) -> str:
        name = self.path.lstrip(".") or "it"
        if self.now is _MISSING:
            return f"{name}, {_named(self.was)}, would be lost"
        if self.was is _MISSING:
            return f"{name} would appear, as {_named(self.now)}"
        return f"{name}, {_named(self.was)}, would come back as {_named(self.now)}"


def difference(was: Any, now: Any) -> Difference | None:
    """Return where `now`, a copy of `was`, is not the same; None if it is the same throughout."""
    if was is now:
        return None
    kind = type(was)
    if kind is not type(now):
        # PEP 484: where a float is declared, an int may stand for it.
        is_promoted = kind is int and type(now) is float and was == now
        return None if is_promoted else Difference("", was, now)
    compare = _COMPARISONS.get(kind)
    if compare is not None:
        return compare(was, now)
    if issubclass(kind, BaseModel):
        return _models(was, now)
    return _comparison(kind)(was, now)


def shown(value: object) -> str:
    """Return a value's repr, cut to some 200 characters; one that raises is left out."""
    return _shortener.repr(value)


def _named(value: object) -> str:
    name = type(value).__name__
    return shown(value) if value is None else f"the {name} {shown(value)}"


class _Shortener(reprlib.Repr):
    def __init__(self) -> None:
        super().__init__()
        self.maxstring = self.maxother = self.maxlong = 200


_shortener = _Shortener()


def _inside(path: str, was: Any, now: Any) -> Difference | None:
    """Compare a part, which is at `path` in its whole."""
    found = difference(was, now)
    return None if found is None else replace(found, path=path + found.path)


def _equal(was: Any, now: Any) -> Difference | None:
    return None if was == now else Difference("", was, now)


def _floats(was: float, now: float) -> Difference | None:
    if was == now:
        # 0.0 and -0.0 are equal.
        same = was != 0.0 or math.copysign(1.0, was) == math.copysign(1.0, now)
    else:
        same = was != was and now != now
    return None if same else Difference("", was, now)


def _complex(was: complex, now: complex) -> Difference | None:
    found = _floats(was.real, now.real) or _floats(was.imag, now.imag)
    return None if found is None else Difference("", was, now)


def _decimals(was: decimal.Decimal, now: decimal.Decimal) -> Difference | None:
    return None if was.as_tuple() == now.as_tuple() else Difference("", was, now)


def _times(was: Any, now: Any) -> Difference | None:
    """Compare datetimes, or times of day: as read from a clock, and in which zone."""
    bare = was.replace(tzinfo=None, fold=0) == now.replace(tzinfo=None, fold=0)
    if bare and was.fold == now.fold and _same_zone(was.tzinfo, now.tzinfo):
        return None
    return Difference("", was, now)


def _same_zone(was: Any, now: Any) -> bool:
    """Compare zones; those of a fixed offset are the same by it, unless one has a name."""
    if was is now:
        return True
    if type(was) not in _FIXED or type(now) not in _FIXED:
        return False
    offset = was.utcoffset(None)
    if type(was) is datetime.timezone and str(was) != str(datetime.timezone(offset)):
        return False
    return bool(offset == now.utcoffset(None))


_FIXED = (datetime.timezone, TzInfo)


def _sequences(was: Any, now: Any) -> Difference | None:
    if len(was) != len(now):
        return Difference("", was, now)
    if len(was) <= _SLICE:
        return _items(was, now)
    was, now = list(was), list(now)
    for first in range(0, len(was), _SLICE):
        last = first + _SLICE
        if (found := _items(was[first:last], now[first:last], first)) is not None:
            return found
    return None


def _items(was: Any, now: Any, first: int = 0) -> Difference | None:
    """Compare items, the first of which has this index in its whole."""
    kinds = set(map(type, was))
    # Long lists of plain values are compared at the speed of C.
    if kinds <= _SCALARS and was == now and list(map(type, was)) == list(map(type, now)):
        return None
    if kinds == _FLOAT == set(map(type, now)) and was == now and 0.0 not in was:
        return None
    for index, (item, copy) in enumerate(zip(was, now, strict=True), first):
        if (found := difference(item, copy)) is not None:
            return replace(found, path=f"[{index}]{found.path}")
    return None


_FLOAT = {float}
_SLICE = 32 * 1024
"""So many items are compared at once: C holds the interpreter meanwhile."""


def _deques(was: deque[Any], now: deque[Any]) -> Difference | None:
    return _inside(".maxlen", was.maxlen, now.maxlen) or _sequences(was, now)


def _mappings(was: dict[Any, Any], now: dict[Any, Any]) -> Difference | None:
    """Compare dicts, their order included."""
    if len(was) != len(now):
        return Difference("", was, now)
    for (key, value), (other, copy) in zip(was.items(), now.items(), strict=True):
        if difference(key, other) is not None:
            return Difference(f"[{shown(key)}]", key, other)
        if (found := difference(value, copy)) is not None:
            return replace(found, path=f"[{shown(key)}]{found.path}")
    return None


def _default_dicts(was: defaultdict[Any, Any], now: defaultdict[Any, Any]) -> Difference | None:
    factory = _inside(".default_factory", was.default_factory, now.default_factory)
    return factory or _mappings(was, now)


def _sets(was: Any, now: Any) -> Difference | None:
    copies = {_NAN if item != item else item: item for item in now}
    for item in was:
        key = _NAN if item != item else item
        if (found := difference(item, copies.get(key, _MISSING))) is not None:
            return found
    return None if len(was) == len(now) else Difference("", was, now)


def _models(was: BaseModel, now: BaseModel) -> Difference | None:
    fields, copies = was.__dict__, now.__dict__
    kind = type(was)
    # What else stands in the instance's dict are cached properties: they are computed again.
    for name in kind.__pydantic_fields__:
        field, copy = fields.get(name, _MISSING), copies.get(name, _MISSING)
        if field is copy or (
            type(field) is type(copy) and type(field) in _SCALARS and field == copy
        ):
            continue
        if (found := difference(field, copy)) is not None:
            return replace(found, path=f".{name}{found.path}")
    if was.__pydantic_extra__ or now.__pydantic_extra__:
        extras = was.__pydantic_extra__ or {}, now.__pydantic_extra__ or {}
        if (found := _by_name(*extras)) is not None:
            return found
    if kind.__private_attributes__:
        return _by_name(was.__pydantic_private__ or {}, now.__pydantic_private__ or {})
    return None


def _by_name(was: dict[str, Any], now: dict[str, Any]) -> Difference | None:
    """Compare attributes; their order means nothing."""
    for name in {**was, **now}:
        found = difference(was.get(name, _MISSING), now.get(name, _MISSING))
        if found is not None:
            return replace(found, path=f".{name}{found.path}")
    return None


def _objects(was: Any, now: Any) -> Difference | None:
    return _by_name(_attributes(was), _attributes(now))


def _attributes(value: Any) -> dict[str, Any]:
    """Return what an instance holds in its dict and slots, but for cached properties."""
    kind = type(value)
    held = {
        name: item
        for name, item in getattr(value, "__dict__", {}).items()
        if not isinstance(getattr(kind, name, None), functools.cached_property)
    }
    slots = [names for base in kind.__mro__ for names in _slots(base)]
    return held | {name: getattr(value, name) for name in slots if hasattr(value, name)}


def _slots(kind: type) -> tuple[str, ...]:
    names = vars(kind).get("__slots__", ())
    names = (names,) if isinstance(names, str) else tuple(names)
    private = f"_{kind.__name__.lstrip('_')}"
    return tuple(
        private + name if name.startswith("__") else name
        for name in names
        if not name.endswith("__")
    )


def _pickled(was: Any, now: Any) -> Difference | None:
    """Compare what pickle would make each of: where that cannot be told, they differ."""
    try:
        parts, copies = was.__reduce_ex__(4), now.__reduce_ex__(4)
    except Exception:  # noqa: BLE001  objects reduce themselves by code of their own
        return Difference("", was, now)
    if isinstance(parts, str) or isinstance(copies, str):
        return Difference("", was, now)  # one has a name, and the other is something else
    same = _sequences(*([_listed(part) for part in made] for made in (parts, copies))) is None
    return None if same else Difference("", was, now)


def _listed(part: Any) -> Any:
    return list(part) if isinstance(part, Iterator) else part


def _with_attributes(
    compare: Callable[[Any, Any], Difference | None],
) -> Callable[[Any, Any], Difference | None]:
    """Return the comparison of a built-in type's subclass, whose values may have attributes."""
    return lambda was, now: compare(was, now) or _objects(was, now)


def _comparison(kind: type) -> Callable[[Any, Any], Difference | None]:
    """Return how values of a class of somebody's own are compared."""
    if issubclass(kind, enum.Enum):
        return _equal
    if is_dataclass(kind):
        return _objects
    if issubclass(kind, pathlib.PurePath):
        return lambda was, now: None if str(was) == str(now) else Difference("", was, now)
    for base, compare in _COMPARISONS.items():
        if issubclass(kind, base):
            return _with_attributes(compare)
    return _pickled


_COMPARISONS: dict[type, Callable[[Any, Any], Difference | None]] = {
    datetime.datetime: _times,
    **dict.fromkeys([*_SCALARS, datetime.date, datetime.timedelta, uuid.UUID, type], _equal),
    bytearray: _equal,
    float: _floats,
    complex: _complex,
    decimal.Decimal: _decimals,
    datetime.time: _times,
    list: _sequences,
    tuple: _sequences,
    deque: _deques,
    defaultdict: _default_dicts,
    dict: _mappings,
    set: _sets,
    frozenset: _sets,
}
"""How exact types are compared; a subclass is compared as the first of these that it is."""
