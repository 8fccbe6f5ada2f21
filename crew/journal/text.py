"""Text is stored once: a long string is written by its first event, later ones point at it.

A pointer is `{"$text": [offset, n]}`: the n-th long string (from 0) of the event at `offset`, in
the order of a walk through its data. What a model streamed piece by piece is
`{"$texts": [[first, last], …]}`: the texts of the events at these offsets. A big string is a blob,
`{"$blob": digest}`, which runs share; so is a big value, as a document: `{"$json": digest}`. Small
values are left alone, and a user's own dict with such a key is wrapped, so that data is never
mistaken for a pointer.
"""

import hashlib
import re
from collections.abc import Callable, Sequence
from typing import cast

from crew.fold.paths import is_within
from crew.fold.text import Stream
from crew.journal import Blob
from crew.message import Json

LONG = 64
"""Characters from which a string is worth a pointer."""
_MUCH = 16 * 1024
"""Characters of JSON of which some are taken to be a long string."""
BIG = 64 * 1024
"""Characters from which a string is a blob of its own."""

POINTER_MARK = '"$'
"""What is in the JSON of each pointer."""
_QUOTE = '\\"'
_LONG_PART = re.compile(f'"[^"]{{{LONG + 1}}}')
"""More characters than LONG behind a quote, and none among them."""
POINTER = "$text"
BLOB = "$blob"
VALUE = "$json"
STREAMED = "$texts"
_QUOTED = "$data"
_PLAIN = frozenset({int, float, bool, type(None)})
"""Types that hold no text: a list of these, however long, needs no walk."""
_OURS = frozenset({POINTER, BLOB, VALUE, STREAMED, _QUOTED})
_MOST_READY = 4
"""So many big values are kept at hand in the form in which they are stored."""
_VALUE = re.compile(r'\{"\$json":"(\w{64})"\}')


def values_in(body: str) -> list[str]:
    """Return the digests of big values that an event's JSON may point at."""
    return _VALUE.findall(body) if VALUE in body else []


def may_hold_text(body: str) -> bool:
    """Return whether JSON may hold a long string, or a pointer; most events hold none.

    What stands between two quotes is as long as a string, or longer, unless it holds a quote.
    """
    if len(body) <= LONG:
        return POINTER_MARK in body
    if len(body) > _MUCH:
        return True  # to look through it costs as much as the walk
    return POINTER_MARK in body or _QUOTE in body or _LONG_PART.search(body) is not None


class TextWriter:
    """Packs the data of one run's events, in order."""

    def __init__(self) -> None:
        self._places: dict[bytes, tuple[int, int] | list[list[int]]] = {}
        self._streams: dict[str, Stream] = {}
        self._is_changed = False
        """Whether something was replaced in what is packed."""
        self.ready: dict[int, tuple[Json, Blob]] = {}
        """Big values that have been written down, by identity, the newest last."""

    def make_ready(self, value: Json, blob: Blob) -> None:
        """Note that a big value has been written down; nobody changes it from now on."""
        self.ready[id(value)] = (value, blob)
        if len(self.ready) > _MOST_READY:
            del self.ready[next(iter(self.ready))]

    def is_ready(self, data: dict[str, Json]) -> bool:
        """Return whether a value in an event's data has been written down."""
        ready, found = self.ready, list(data.values())
        for item in data.values():
            if type(item) is dict:  # such as the changes of a step, by field
                found += item.values()
        return any(id(item) in ready for item in found)

    def add_piece(self, path: str, offset: int, text: str) -> None:
        """Note a piece that the call at `path` streamed by the event at `offset`."""
        self._streams.setdefault(path, Stream()).add(offset, text)

    def forget(self, path: str) -> None:
        """Note that the text streamed at `path` or beneath it was discarded."""
        for place in [place for place in self._streams if is_within(place, path)]:
            del self._streams[place]

    def end(self, path: str) -> None:
        """Note that the call at `path` is over: what holds its text from now on points at it."""
        stream = self._streams.pop(path, None)
        if stream is not None and len(text := "".join(stream.pieces)) > LONG:
            self._places.setdefault(_digest(text), stream.places)

    def pack(self, offset: int, data: Json) -> tuple[Json, tuple[Blob, ...]]:
        """Return `data` of the event at `offset` with its repeated and big strings replaced.

        Where there are none it is `data` itself. The second part holds the big ones.
        """
        new: list[bytes] = []
        blobs: list[Blob] = []
        self._is_changed = False
        packed = self._walk(data, new, blobs)
        for index, text in enumerate(new):
            self._places.setdefault(text, (offset, index))
        return packed if self._is_changed else data, tuple(blobs)

    def remember(self, offset: int, packed: Json) -> None:
        """Remember the strings that an event itself holds, of its data as the store has it.

        What it points at may be of an event that was not read back, as before a snapshot.
        """
        for index, text in enumerate(list_long(packed)):
            self._places.setdefault(_digest(text), (offset, index))

    def refer(self, data: Json) -> Json:
        """Return `data`, made of what events held, with pointers for what they stored.

        It is packed as an event's data is, but nothing in it is remembered.
        """
        return self._walk(data, [], [])

    def remember_pointers(self, packed: Json, reader: "TextReader") -> None:
        """Remember the strings that packed data points at."""
        if isinstance(packed, dict):
            if len(packed) == 1 and POINTER in packed:
                offset, index = packed[POINTER]
                text = reader.text(offset, index)
                self._places.setdefault(_digest(text), (offset, index))
                return
            if len(packed) == 1 and STREAMED in packed:
                self._places.setdefault(_digest(reader.resolve(packed)), packed[STREAMED])
                return
            for item in cast("dict[str, Json]", packed).values():
                self.remember_pointers(item, reader)
        elif isinstance(packed, list):
            for item in packed:
                self.remember_pointers(item, reader)

    def _walk(self, value: Json, new: list[bytes], blobs: list[Blob]) -> Json:
        kind = type(value)
        if self.ready and (found := self.ready.get(id(value))) is not None:
            blobs.append(found[1])
            self._is_changed = True
            return {VALUE: found[1].digest}
        if kind is str:
            return value if len(value) <= LONG else self._text(value, new, blobs)
        if kind in _PLAIN:
            return value
        if isinstance(value, dict):
            walked = {key: self._walk(item, new, blobs) for key, item in value.items()}
            if _OURS.isdisjoint(value):
                return walked
            self._is_changed = True
            return {_QUOTED: walked}
        if isinstance(value, list) and not _PLAIN.issuperset(map(type, value)):
            return [self._walk(item, new, blobs) for item in value]
        return value

    def _text(self, value: str, new: list[bytes], blobs: list[Blob]) -> Json:
        if len(value) >= BIG:
            body = value.encode("utf-8", "surrogatepass")
            blob = Blob(hashlib.sha256(body).hexdigest(), body)
            blobs.append(blob)
            self._is_changed = True
            return {BLOB: blob.digest}
        digest = _digest(value)
        if (place := self._places.get(digest)) is not None:
            self._is_changed = True
            return {POINTER: list(place)} if isinstance(place, tuple) else {STREAMED: place}
        new.append(digest)
        return value


class TextReader:
    """Unpacks the data of one run's events, in order or with gaps.

    Args:
        fetch: returns the packed data of an event that was not read here.
        blob: returns a big text by its digest.
        streamed: returns the texts of the events at these offsets, first and last.
        value: returns a big value by its digest.
    """

    def __init__(
        self,
        fetch: Callable[[int], Json],
        blob: Callable[[str], str],
        streamed: Callable[[int, int], Sequence[str]],
        value: Callable[[str], Json],
    ) -> None:
        self._texts: dict[int, list[str]] = {}
        self._fetch = fetch
        self._blob = blob
        self._value = value
        self._streamed = streamed

    def unpack(self, offset: int, packed: Json) -> Json:
        """Return the data as it was before it was packed."""
        self._texts.setdefault(offset, list_long(packed))
        return self.resolve(packed)

    def resolve(self, value: Json) -> Json:
        """Return packed data, of any event, with its pointers replaced by what they point at."""
        if isinstance(value, dict):
            if len(value) == 1:
                if POINTER in value:
                    return self.text(*value[POINTER])
                if BLOB in value:
                    return self._blob(value[BLOB])
                if VALUE in value:
                    return self._value(value[VALUE])
                if STREAMED in value:
                    return "".join(
                        text
                        for first, last in value[STREAMED]
                        for text in self._streamed(first, last)
                    )
                if _QUOTED in value:
                    return {key: self.resolve(item) for key, item in value[_QUOTED].items()}
            return {key: self.resolve(item) for key, item in value.items()}
        if isinstance(value, list) and not _PLAIN.issuperset(map(type, value)):
            return [self.resolve(item) for item in value]
        return value

    def text(self, offset: int, index: int) -> str:
        """Return the long string number `index` of the event at `offset`."""
        if offset not in self._texts:
            self._texts[offset] = list_long(self._fetch(offset))
        return self._texts[offset][index]


def list_long(packed: Json) -> list[str]:
    """Return the long strings that packed data itself holds, in the order of the walk."""
    found: list[str] = []
    _collect(packed, found)
    return found


def _collect(value: Json, found: list[str]) -> None:
    if isinstance(value, str):
        # A blob's digest is as long as a short string may be, so it is never taken for a text.
        if len(value) > LONG:
            found.append(value)
    elif isinstance(value, dict):
        for item in cast("dict[str, Json]", value).values():
            _collect(item, found)
    elif isinstance(value, list) and not _PLAIN.issuperset(map(type, value)):
        for item in value:
            _collect(item, found)


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
