"""Text is stored once: a long string is written by its first event, later ones point at it.

A pointer is `{"$text": [offset, n]}`: the n-th long string (from 0) of the event at `offset`, in
the order of a walk through its data. Small values are left alone, and a user's own dict with the
key `$text` is wrapped, so that data is never mistaken for a pointer.
"""

from collections.abc import Callable
from typing import cast

from crew.message import Json

LONG = 64
"""Characters from which a string is worth a pointer."""

POINTER = "$text"
_QUOTED = "$data"


class TextWriter:
    """Packs the data of one run's events, in order."""

    def __init__(self) -> None:
        self._places: dict[str, tuple[int, int]] = {}

    def pack(self, offset: int, data: Json) -> Json:
        """Return `data` of the event at `offset` with its repeated strings replaced."""
        new: list[str] = []
        packed = self._walk(offset, data, new)
        for index, text in enumerate(new):
            self._places.setdefault(text, (offset, index))
        return packed

    def learn(self, offset: int, data: Json) -> None:
        """Remember the strings of an event that was read back, unpacked, from the store."""
        self.pack(offset, data)

    def _walk(self, offset: int, value: Json, new: list[str]) -> Json:
        if isinstance(value, str):
            if len(value) <= LONG:
                return value
            if (place := self._places.get(value)) is not None:
                return {POINTER: list(place)}
            new.append(value)
            return value
        if isinstance(value, dict):
            walked = {key: self._walk(offset, item, new) for key, item in value.items()}
            return {_QUOTED: walked} if POINTER in value or _QUOTED in value else walked
        if isinstance(value, list):
            return [self._walk(offset, item, new) for item in value]
        return value


class TextReader:
    """Unpacks the data of one run's events, in order or with gaps.

    Args:
        fetch: returns the packed data of an event that was not read here.
    """

    def __init__(self, fetch: Callable[[int], Json] | None = None) -> None:
        self._texts: dict[int, list[str]] = {}
        self._fetch = fetch

    def unpack(self, offset: int, packed: Json) -> Json:
        """Return the data as it was before it was packed."""
        self._texts.setdefault(offset, list_long(packed))
        return self._walk(packed)

    def _walk(self, value: Json) -> Json:
        if isinstance(value, dict):
            if len(value) == 1:
                if POINTER in value:
                    return self._text(*value[POINTER])
                if _QUOTED in value:
                    return {key: self._walk(item) for key, item in value[_QUOTED].items()}
            return {key: self._walk(item) for key, item in value.items()}
        if isinstance(value, list):
            return [self._walk(item) for item in value]
        return value

    def _text(self, offset: int, index: int) -> str:
        if offset not in self._texts:
            if self._fetch is None:
                raise KeyError(f"event {offset} was not read")
            self._texts[offset] = list_long(self._fetch(offset))
        return self._texts[offset][index]


def list_long(packed: Json) -> list[str]:
    """Return the long strings that packed data itself holds, in the order of the walk."""
    found: list[str] = []
    _collect(packed, found)
    return found


def _collect(value: Json, found: list[str]) -> None:
    if isinstance(value, str):
        if len(value) > LONG:
            found.append(value)
    elif isinstance(value, dict):
        for item in cast("dict[str, Json]", value).values():
            _collect(item, found)
    elif isinstance(value, list):
        for item in value:
            _collect(item, found)
