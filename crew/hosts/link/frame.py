"""The bytes of a link: frames, each of which holds items of JSON and the bytes beside them.

A frame is two lengths (32 bits each, the highest byte first), so much JSON, and so many bytes. The
JSON is a list of items; the last part of an item says how long its bytes are, which follow one
another.
"""

import json
import struct
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from pydantic_core import from_json

from crew.message import Json
from crew.value.shape import json_bytes

_LENGTHS = struct.Struct("!II")
MOST_BYTES = 96 << 20
"""Of the JSON in a frame, and of the bytes beside it: more than a journal takes of one value."""
ROOM_BYTES = 4 << 20
"""What of that is left for other items in the frame of a big one."""


class Garbage(Exception):
    """What came is no frame: it is not a link of ours at the other end."""


# Several of these are made for each message: a tuple costs a third of a frozen dataclass.
class Item(NamedTuple):
    """One thing in a frame: its kind, the number of the message that it is about, and the rest."""

    kind: str
    number: int
    fields: tuple[Json, ...] = ()
    parts: tuple[bytes, ...] = ()


class Encoded(NamedTuple):
    """An item as bytes: its JSON, what goes beside it, and how much that is together."""

    text: bytes
    parts: tuple[bytes, ...]
    size: int


def encode(item: Item) -> Encoded:
    """Return an item as bytes.

    Raises:
        ValueError: it has more than a frame takes.
    """
    sizes = [len(part) for part in item.parts]
    text = json_bytes([item.kind, item.number, item.fields, sizes])
    text = text.encode() if isinstance(text, str) else text
    if (most := max(len(text), sum(sizes))) > MOST_BYTES - ROOM_BYTES:
        raise ValueError(f"a message of {most >> 20} MiB; a link takes {MOST_BYTES >> 20}")
    return Encoded(text, item.parts, len(text) + sum(sizes))


def frame_of(items: Sequence[Encoded]) -> bytes:
    """Return items as one frame; together they are no longer than it takes."""
    text = b"[" + b",".join([item.text for item in items]) + b"]"
    parts = [part for item in items for part in item.parts]
    return b"".join((_LENGTHS.pack(len(text), sum(map(len, parts))), text, *parts))


class Decoder:
    """Makes frames of bytes as they arrive, in whatever pieces.

    Args:
        most: bytes of a frame's JSON, and of the bytes beside it.
    """

    def __init__(self, most: int = MOST_BYTES) -> None:
        self.most = most
        self._held = bytearray()

    def feed(self, data: bytes) -> Iterator[list[Item]]:
        """Yield the items of each frame that is whole by now.

        Raises:
            Garbage: it is none.
        """
        self._held += data
        while len(self._held) >= _LENGTHS.size:
            text, size = _LENGTHS.unpack_from(self._held)
            if max(text, size) > self.most:
                raise Garbage(f"a frame of {text} and {size} bytes; {self.most} at most are taken")
            end = _LENGTHS.size + text + size
            if len(self._held) < end:
                return
            frame = bytes(memoryview(self._held)[_LENGTHS.size : end])
            del self._held[:end]
            yield _items(frame[:text], frame[text:])

    def rest(self) -> bytes:
        """Return what has come of the next frame."""
        return bytes(self._held)


def _items(text: bytes, beside: bytes) -> list[Item]:
    items, at = list[Item](), 0
    try:
        for kind, number, fields, sizes in _value(text):
            parts = list[bytes]()
            for size in sizes:
                parts.append(beside[at : at + size])
                at += size
            items.append(Item(str(kind), int(number), tuple(fields), tuple(parts)))
    except (ValueError, TypeError) as error:
        raise Garbage(str(error)) from error
    if at != len(beside):
        raise Garbage(f"{len(beside)} bytes beside items that have {at}")
    return items


def _value(text: bytes) -> Json:
    try:
        return from_json(text)
    except ValueError:
        return json.loads(text)  # it takes a lone surrogate
