"""What callers give: checked at the door, so that nothing of a wrong type goes further."""

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, TypeVar

from crew.errors import InputInvalid
from crew.message import Json

T = TypeVar("T")


def text(name: str, value: object) -> str:
    """Return an argument that has to be text, as a plain `str` that any store takes.

    Raises:
        InputInvalid: it is none, or holds what no database keeps.
    """
    if not isinstance(value, str):
        raise wrong(name, value, "a string", f"; pass str({name})" if value is not None else "")
    plain = str.__str__(value)
    if "\0" in plain or not _has_utf8(plain):
        raise InputInvalid(
            message=f"{name} {plain!r:.80} holds a NUL or half a pair of surrogates, which no "
            "store can keep; leave it out"
        )
    return plain


def _has_utf8(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def text_or_none(name: str, value: object) -> str | None:
    """Return an argument that has to be text, or None.

    Raises:
        InputInvalid: it is neither.
    """
    return None if value is None else text(name, value)


def number(name: str, value: object, *, least: float = 0) -> Any:
    """Return an argument that has to be a number, of `least` or more.

    Raises:
        InputInvalid: it is none, or less.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise wrong(name, value, "a number")
    if not value >= least:
        raise InputInvalid(message=f"{name} must be {least} or more, not {value}")
    return value


def count(name: str, value: object, *, least: int = 0) -> int:
    """Return an argument that has to be a whole number, of `least` or more.

    Raises:
        InputInvalid: it is none, or less.
    """
    if isinstance(value, bool) or not isinstance(value, int):
        raise wrong(name, value, "a whole number")
    return int(number(name, value, least=least))


def moment(name: str, value: object) -> float:
    """Return an argument that has to be a moment, in unix seconds.

    Raises:
        InputInvalid: it is neither a number nor a time, or a time without its zone.
    """
    if not isinstance(value, datetime):
        return float(number(name, value))
    if value.tzinfo is None:
        raise InputInvalid(
            message=f"{name} is {value}, of which nobody knows the zone; write datetime.now(UTC)"
        )
    return value.timestamp()


def one_of(name: str, value: T, choices: Sequence[T]) -> T:
    """Return an argument that has to be one of `choices`.

    Raises:
        InputInvalid: it is another thing.
    """
    if value not in choices:
        raise InputInvalid(message=f"{name} must be one of {_listed(choices)}, not {value!r:.80}")
    return value


def instance(name: str, value: object, kind: type[T], how: str) -> T:
    """Return an argument that has to be of a class; `how` says how one is written.

    Raises:
        InputInvalid: it is of another one.
    """
    if not isinstance(value, kind):
        raise wrong(name, value, how)
    return value


def json_object(name: str, value: object) -> dict[str, Json]:
    """Return an argument that has to be a JSON object.

    Raises:
        InputInvalid: it is none.
    """
    if not isinstance(value, Mapping):
        raise wrong(name, value, "a mapping of JSON")
    try:
        found: dict[str, Json] = json.loads(json.dumps(dict(value)))
    except (TypeError, ValueError) as error:
        raise InputInvalid(message=f"{name} must be JSON: {error}") from error
    return found


def wrong(name: str, value: object, wanted: str, advice: str = "") -> InputInvalid:
    """Return the error of an argument of another type than the one that is wanted."""
    kind = type(value).__name__
    return InputInvalid(message=f"{name} must be {wanted}, not {kind} ({value!r:.80}){advice}")


def _listed(choices: Iterable[object]) -> str:
    return ", ".join(map(repr, choices))
