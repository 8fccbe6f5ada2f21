"""Plain JSON, as values are made of that no annotation tells of."""

import math
from collections.abc import Callable
from typing import Any

from crew.message import Json

_SCALARS = (str, int, bool, float, type(None))


class Mismatch(Exception):
    """The value has no place in the annotation."""


def finite(value: Any) -> Json:
    """Return JSON in which the numbers that are none are words: NaN, Infinity, -Infinity."""
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return rebuilt(value, finite)


def rebuilt(value: Any, change: Callable[[Any], Any]) -> Any:
    """Return a dict or list with each of its values changed; anything else as it is."""
    if isinstance(value, dict):
        return {key: change(item) for key, item in value.items()}
    if isinstance(value, list):
        return [change(item) for item in value]
    return value


def require_json(value: object) -> None:
    """Refuse what is not exactly JSON.

    Raises:
        Mismatch: a part of it is of another type.
    """
    if type(value) in _SCALARS:
        return
    if type(value) is dict:
        for key, item in value.items():
            if type(key) is not str:
                raise Mismatch(f"the key {key!r} is not a string")
            require_json(item)
        return
    if type(value) is list:
        for item in value:
            require_json(item)
        return
    raise Mismatch(
        f"{kind_of(value)} is not JSON; annotate the return type so that it can be stored"
    )


def kind_of(value: object) -> str:
    """Return the name of a value's class, with its article."""
    name = type(value).__name__
    return f"{'an' if name[0] in 'aeiouAEIOU' else 'a'} {name}"
