"""JSON of big values, written and read in parts, so that no call of C takes long.

A document is JSON whose lines each stand by themselves: what begins or ends a dict or a list that
is long, the name of something long in a dict, or items that are short together.
"""

import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from crew.message import Json
from crew.value.shape import refuse_huge
from crew.value.text import json_text
from crew.value.weight import weight

SLICE = 256 * 1024
"""What is handed to C at once weighs so much at most, but for a single text."""

Dump = Callable[[Any], str]
"""Writes what is short."""
Opened = Callable[[Any], Any]
"""Returns a long value as the list, dict or text that it is written as, if it is one."""


def document(value: Json) -> bytes:
    """Return the document of a value.

    Raises:
        Mismatch: it is too big for a journal.
    """
    found, size = list[bytes](), 0
    for line in lines(value, json_text, lambda long: long):
        found.append(line.encode())
        size += len(found[-1]) + 1
        refuse_huge(size - 1)
    return b"\n".join(found)


def lines(value: Any, dump: Dump, opened: Opened) -> Iterator[str]:
    """Yield the lines of a document."""
    found = opened(value) if weight(value, SLICE) > SLICE else None
    if type(found) is str:
        yield f'"{"".join(_escaped(found, dump))}"'
    elif type(found) is list:
        yield from _listed(found, dump, opened)
    elif type(found) is dict:
        yield from _named(found, dump, opened)
    else:
        yield dump(value)


def _escaped(text: str, dump: Dump) -> Iterator[str]:
    """Yield the parts of a long text; each character is escaped by itself."""
    return (dump(text[first : first + SLICE])[1:-1] for first in range(0, len(text), SLICE))


def _listed(items: list[Any], dump: Dump, opened: Opened) -> Iterator[str]:
    yield "["
    is_first = True
    for part in _parted(((item, item) for item in items), list):
        if not is_first:
            yield ","
        is_first = False
        yield from (
            lines(part.value, dump, opened) if isinstance(part, _Long) else (dump(part)[1:-1],)
        )
    yield "]"


def _named(items: dict[str, Any], dump: Dump, opened: Opened) -> Iterator[str]:
    yield "{"
    is_first = True
    for part in _parted(((item, item[1]) for item in items.items()), dict):
        if not is_first:
            yield ","
        is_first = False
        if isinstance(part, _Long):
            name, value = part.value
            yield f"{dump(name)}:"
            yield from lines(value, dump, opened)
        else:
            yield dump(part)[1:-1]
    yield "}"


class _Long:
    """An item that is long by itself."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value


def _parted(items: Iterable[tuple[Any, Json]], gather: Callable[[list[Any]], Any]) -> Iterator[Any]:
    """Yield items that are short together, gathered, and each of those that are long."""
    short, size = list[Any](), 0
    for item, value in items:
        one = weight(value, SLICE)
        if size + one > SLICE and short:
            yield gather(short)
            short, size = list[Any](), 0
        if one > SLICE:
            yield _Long(item)
        else:
            short.append(item)
            size += one
    if short:
        yield gather(short)


def read_document(text: str) -> Json:
    """Return the value that a document was written of."""
    made: list[Any] = []
    into: Any = made
    around: list[Any] = []
    name: str | None = None
    for line in text.split("\n"):
        if line == ",":
            continue
        if line in ("]", "}"):
            into = around.pop()
        elif line in ("[", "{"):
            inner: Any = [] if line == "[" else {}
            _put(into, name, inner)
            around.append(into)
            into, name = inner, None
        elif line.endswith(":"):
            name = json.loads(line[:-1])
        elif name is not None:
            into[name] = json.loads(line)
            name = None
        elif type(into) is dict:
            into.update(json.loads(f"{{{line}}}"))
        else:
            into.extend(json.loads(f"[{line}]"))
    return made[0]


def _put(into: Any, name: str | None, value: Any) -> None:
    if name is None:
        into.append(value)
    else:
        into[name] = value
