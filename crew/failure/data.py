"""What an error holds, as JSON: data as it is, with tags of its own, and a name for all else.

A tagged value is `{"$": kind, "v": …}`. There is room for 16,000 characters in one error; what has
no more room, and what is no data, such as a connection, becomes a `Placeholder`.
"""

import base64
import dataclasses
import json
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Any, cast
from uuid import UUID
from zoneinfo import ZoneInfo

from pydantic import BaseModel

from crew.define import define
from crew.failure.classes import found, reference
from crew.failure.trace import cut, safe_text
from crew.message import Json

ROOM = 16_000
"""Characters that what one error holds may take, about."""
CUT_TO = 4_000
"""Characters, or bytes, that are kept of a text for which there is no room."""
MOST_DEPTH = 16
_SAFE_INTEGER = 2**53


@dataclass(frozen=True, slots=True, repr=False)
class Placeholder:
    """Stands in a recorded error for what is no data: an object of the class named `kind`.

    `text` is what the object showed of itself, so that an error's message stays the same.
    """

    kind: str
    text: str = ""

    def __repr__(self) -> str:
        return f"<{self.kind}, which was not kept>"

    def __str__(self) -> str:
        return self.text or repr(self)


class NoRoom(Exception):
    """What is packed is too big, too deep, or would come back as something else."""


@define
class Room:
    """How many characters may still be taken by an error, with those that it holds."""

    left: int = ROOM

    def take(self, size: int) -> None:
        self.left -= size


class Packer:
    """Packs the values that one error holds; `error` packs one that is among them."""

    def __init__(self, room: Room, error: Callable[[BaseException], Json]) -> None:
        self._room = room
        self._error = error

    def whole(self, value: object) -> Json:
        """Return a value as JSON, or a placeholder of it."""
        try:
            return self._packed(value, 0)
        except NoRoom:
            return _placeholder(value)

    def _packed(self, value: object, depth: int) -> Json:
        if depth > MOST_DEPTH or self._room.left <= 0:
            raise NoRoom
        self._room.take(4)
        kind = type(value)
        if value is None or kind is bool:
            return value
        if kind in _TEXTS:
            return self._text(value)
        if kind in _LEAVES:
            tagged = _LEAVES[kind][0](value)
            size = len(tagged["v"]) if isinstance(tagged, dict) else 4
            if size > self._room.left:
                raise NoRoom
            self._room.take(size)
            return tagged
        if kind in _SERIES:
            items = [self._packed(item, depth + 1) for item in list(cast("list[object]", value))]
            if kind in (set, frozenset):
                items.sort(key=json.dumps)
            return items if kind is list else _tag(kind.__name__, items)
        return self._named(value, depth)

    def _named(self, value: Any, depth: int) -> Json:
        """Pack a dict, or what is found again by its class: an error, a member, a model."""
        kind = type(value)
        if kind is dict:
            return self._mapping(value, depth)
        if isinstance(value, BaseException):
            return _tag("error", self._error(value))
        if isinstance(value, Placeholder):
            return _placeholder_of(value.kind, value.text)
        if isinstance(value, Enum) and kind.__members__.get(value.name) is value:
            return _tag("member", [*reference(kind), value.name])
        if isinstance(value, BaseModel) or dataclasses.is_dataclass(kind):
            facts = self._mapping(_fields_of(value), depth)
            return _tag("model", [*reference(kind), facts])
        return _placeholder(value)

    def _mapping(self, value: dict[Any, Any], depth: int) -> Json:
        if all(type(key) is str for key in value) and "$" not in value:
            self._room.take(sum(map(len, value)))
            return {key: self._packed(item, depth + 1) for key, item in list(value.items())}
        pairs = [
            [self._packed(key, depth + 1), self._packed(item, depth + 1)]
            for key, item in list(value.items())
        ]
        return _tag("dict", pairs)

    def _text(self, value: Any) -> Json:
        """Pack a text or bytes; one for which there is no room is cut, and says so."""
        size, kept = len(value), value
        if size > self._room.left:
            mark = f"… [cut: {size} in all]"
            kept = value[:CUT_TO] + (mark if isinstance(value, str) else mark.encode())
        self._room.take(min(size, self._room.left))
        if isinstance(kept, str):
            return kept
        return _tag(type(value).__name__, base64.b64encode(kept).decode())


class Unpacker:
    """Makes values of what a `Packer` gave.

    Args:
        error: makes an error.
        near: functions that may see the classes in question.
    """

    def __init__(self, error: Callable[[Any], BaseException], near: Iterable[object]) -> None:
        self._error = error
        self._near = tuple(near)

    def value(self, data: Json) -> Any:
        if isinstance(data, list):
            return [self.value(item) for item in data]
        if not isinstance(data, dict):
            return data
        if "$" not in data:
            return {key: self.value(item) for key, item in data.items()}
        return self._tagged(data["$"], data["v"])

    def _tagged(self, tag: str, data: Any) -> Any:
        match tag:
            case "tuple" | "set" | "frozenset":
                return _SERIES_BY_NAME[tag](self.value(item) for item in data)
            case "dict":
                return {self.value(key): self.value(item) for key, item in data}
            case "error":
                return self._error(data)
            case "member":
                kind = found(data[:2], self._near)
                members = getattr(kind, "__members__", {})
                return members.get(data[2], Placeholder(_name_of(*data[:2]), data[2]))
            case "model":
                return _model(found(data[:2], self._near), data, self.value(data[2]))
            case "placeholder":
                return Placeholder(*data)
            case _:
                return _READERS[tag](data)


def _tag(kind: str, value: Json) -> dict[str, Json]:
    return {"$": kind, "v": value}


def _placeholder(value: object) -> Json:
    kind = type(value)
    text = f"{len(value)} items" if isinstance(value, (*_SERIES, dict)) else safe_text(value, 200)
    return _placeholder_of(_name_of(*reference(kind)), text)


def _name_of(module: str, name: str) -> str:
    return name if module == "builtins" else f"{module}.{name}"


def _placeholder_of(kind: str, text: str) -> Json:
    return _tag("placeholder", [cut(kind, 200), text])


def _fields_of(value: Any) -> dict[str, object]:
    if isinstance(value, BaseModel):
        return BaseModel.__getstate__(value)
    named = [field.name for field in dataclasses.fields(value)]
    return {name: getattr(value, name) for name in named if hasattr(value, name)}


def _model(kind: type | None, data: list[Json], facts: dict[str, Any]) -> Any:
    """Make a model or dataclass of its fields; nothing is validated, nothing of its code runs."""
    if kind is None:
        return Placeholder(_name_of(*data[:2]), cut(repr(facts), 200))
    made = object.__new__(kind)
    if isinstance(made, BaseModel):
        BaseModel.__setstate__(made, facts)
        return made
    for name, value in facts.items():
        object.__setattr__(made, name, value)
    return made


def _time(value: Any) -> Json:
    zone = value.tzinfo.key if isinstance(value.tzinfo, ZoneInfo) else None
    if not (zone or value.tzinfo is None or isinstance(value.tzinfo, timezone)):
        raise NoRoom  # a zone that no text brings back
    plain = value.replace(tzinfo=None) if zone else value
    return _tag(type(value).__name__, [plain.isoformat(), value.fold, zone])


def _time_from(kind: type[datetime] | type[time], data: list[Any]) -> datetime | time:
    text, fold, zone = data
    made = kind.fromisoformat(text).replace(fold=fold)
    return made.replace(tzinfo=ZoneInfo(zone)) if zone else made


def _integer(value: int) -> Json:
    return value if abs(value) < _SAFE_INTEGER else _tag("int", hex(value))


def _float(value: float) -> Json:
    return value if math.isfinite(value) else _tag("float", str(value))


def _span(value: timedelta) -> Json:
    return _tag("timedelta", [value.days, value.seconds, value.microseconds])


_TEXTS = (str, bytes, bytearray)
_SERIES = (list, tuple, set, frozenset)
_SERIES_BY_NAME: dict[str, Callable[[Iterable[Any]], Any]] = {k.__name__: k for k in _SERIES}
_LEAVES: dict[type, tuple[Callable[[Any], Json], Callable[[Any], Any]]] = {
    int: (_integer, lambda data: int(data, 16)),
    float: (_float, float),
    datetime: (_time, lambda data: _time_from(datetime, data)),
    time: (_time, lambda data: _time_from(time, data)),
    date: (lambda value: _tag("date", value.isoformat()), date.fromisoformat),
    timedelta: (_span, lambda data: timedelta(*data)),
    Decimal: (lambda value: _tag("Decimal", str(value)), Decimal),
    UUID: (lambda value: _tag("UUID", str(value)), UUID),
    complex: (lambda value: _tag("complex", str(value)), complex),
    type(Path()): (lambda value: _tag(type(value).__name__, str(value)), Path),
}
_READERS: dict[str, Callable[[Any], Any]] = {
    **{kind.__name__: read for kind, (_, read) in _LEAVES.items()},
    "bytes": base64.b64decode,
    "bytearray": lambda data: bytearray(base64.b64decode(data)),
}
