"""How much work a value is: looked at before it is encoded, as far as it takes to tell."""

from collections import deque
from typing import Any

BIG = 4 << 20
"""What a value may weigh that is encoded in one go, about in bytes of JSON."""
PART = 256
"""What a part weighs beside its text: to encode it takes as long as so many characters."""
NUMBER = 8
"""What a number weighs in a list of nothing but numbers."""
_LONG = 64
"""Items from which a list is looked at as a whole: it may be all numbers, or all text."""

_ITEMS = frozenset({list, tuple, set, frozenset, deque})
_TEXT = frozenset({str, bytes, bytearray})
LIGHT: set[type] = {int, float, bool, type(None)}
"""Types whose values are small, whatever they are: those of most calls."""


def is_big(value: object, most: int = BIG) -> bool:
    """Return whether a value weighs more than `most`."""
    kind = type(value)
    if kind in LIGHT:
        return False
    if kind is str:
        return len(value) > most  # type: ignore[arg-type]
    return weight(value, most) > most


def note_light(kind: type) -> None:
    """Note that a class has fields for what is small alone, so that none of its values is big."""
    LIGHT.add(kind)


def weight(value: object, most: int) -> int:
    """Return what a value weighs; where that is more than `most`, any number that is."""
    total, left = 0, [value]
    while left and total <= most:
        part: Any = left.pop()
        kind = type(part)
        if kind in _TEXT:
            total += PART + len(part)
            continue
        total += PART
        if kind is dict:
            total += _weigh(list(part.values()), left, most) + NUMBER * len(part)
        elif kind in _ITEMS:
            total += _weigh(part, left, most)
        elif kind not in LIGHT:
            left.extend(getattr(part, "__dict__", {}).values())
    return total


def _weigh(items: Any, left: list[object], most: int) -> int:
    """Return what items weigh, or put those that have to be looked at to the others that are left.

    A long list of one kind is looked at by C.
    """
    if NUMBER * len(items) > most:
        return NUMBER * len(items)
    if len(items) > _LONG:
        kinds = {*map(type, items)}
        if kinds <= LIGHT:
            return NUMBER * len(items)
        if kinds <= _TEXT:
            return PART // 8 * len(items) + sum(map(len, items))
        if PART * len(items) > most:
            return PART * len(items)
    left.extend(items)
    return 0
