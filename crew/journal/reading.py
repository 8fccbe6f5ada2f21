"""The journal of one run as it is read: verified, and with its texts in place."""

import hashlib
import json
import zlib
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from typing import Any

from crew.errors import StoreError
from crew.event import Event
from crew.journal import Damaged, RunRow, Snapshot, Store, StoredEvent, shown
from crew.journal.text import TextReader, TextWriter, may_hold_text, values_in
from crew.message import Json
from crew.value import aside, read_document

_FIRST_LOOK = 16
"""How many events are read backwards at first; twice as many each time that is not enough."""


class JournalReader:
    """Reads the events of a run; a fork's begin with its base's.

    Each event's checksum is chained over the one before it, so that an event that is missing, or
    whose bytes are not those that were written, is found when it is read.

    Args:
        store: where they lie.
        row: the run.
        text_writer: what is to remember the texts that were read.
    """

    def __init__(self, store: Store, row: RunRow, *, text_writer: TextWriter | None = None) -> None:
        self._store = store
        self._row = row
        self._text_writer = text_writer
        self.text = TextReader(self._fetch, self._blob, self._streamed, self._value)
        self._values: dict[str, list[Json]] = {}
        """Big values that were read ahead, by their digests: one for each event that holds it."""
        self._last = (0, 0)
        self._pieces: dict[int, str] = {}
        """The texts of the events at these offsets, of those that were read."""

    @cached_property
    def _base(self) -> "JournalReader | None":
        if self._row.base is None:
            return None
        base = self._store.numbered(self._row.base)
        if base is None:
            raise self._damaged(1)
        return JournalReader(self._store, base)

    def stored(self, *, after: int = 0, limit: int = 1024) -> list[StoredEvent]:
        """Return events as they lie in the store, unverified.

        Raises:
            StoreError: what lies there is damaged.
        """
        if self._base is None or after >= self._row.base_offset:
            try:
                return self._store.events(self._row.number, after=after, limit=limit)
            except Damaged as error:
                raise self._damaged(after + 1) from error
        return self._base.stored(after=after, limit=min(limit, self._row.base_offset - after))

    def events(self, *, after: int = 0, limit: int = 1024) -> list[Event]:
        """Return the events after offset `after`, as many as there are now, up to `limit`.

        Raises:
            StoreError: one of them is missing or damaged.
        """
        return self._read(self.stored(after=after, limit=limit), after)

    async def read(self, *, after: int = 0, limit: int = 1024) -> list[Event]:
        """Return the same, without holding the event loop for big values.

        Raises:
            StoreError: as `events`.
        """
        rows = self.stored(after=after, limit=limit)
        await self.read_ahead(rows)
        return self._read(rows, after)

    def _read(self, rows: Sequence[StoredEvent], after: int) -> list[Event]:
        found: list[Event] = []
        if not rows:
            return found
        crc = self._crc_at(after)
        for stored in rows:
            crc = self._verified(stored, after + len(found) + 1, crc)
            found.append(self._event(stored))
        self._last = (after + len(found), crc)
        return found

    def written(self, stored: Sequence[StoredEvent], *, after: int) -> list[Event] | None:
        """Return the events after `after` of what was just written; None if some are missing."""
        new = [item for item in stored if item.offset > after]
        if not new or new[0].offset != after + 1:
            return None
        self._last = (new[-1].offset, new[-1].crc)
        return [self._event(item) for item in new]

    def just_written(self, stored: StoredEvent) -> Event:
        """Return an event that this process has just written, which need not be verified."""
        return self._event(stored)

    async def read_ahead(self, events: Iterable[StoredEvent]) -> None:
        """Read the big values that events point at, beside the event loop.

        What looks like a pointer may be data of the user's: who follows one tells what is missing.

        Raises:
            StoreError: one is damaged.
        """
        for digest in [digest for event in events for digest in values_in(event.body)]:
            body = self._store.blob(digest)
            if body is not None:
                value = await aside(self._document, digest, body)
                self._values.setdefault(digest, []).append(value)

    def every(self, *, after: int = 0, upto: int | None = None) -> list[Event]:
        """Return all events there are after `after`; those to `upto` have to be there.

        Raises:
            StoreError: one of them is missing or damaged.
        """
        found: list[Event] = []
        while upto is None or after + len(found) < upto:
            limit = 1024 if upto is None else min(1024, upto - after - len(found))
            more = self.events(after=after + len(found), limit=limit)
            if not more and upto is not None:
                raise self._damaged(after + len(found) + 1)
            if not more:
                break
            found += more
        return found

    async def read_every(self, *, after: int, upto: int) -> list[Event]:
        """Return the events after `after` to `upto`, without holding the event loop for big values.

        Raises:
            StoreError: one of them is missing or damaged.
        """
        found: list[Event] = []
        while (at := after + len(found)) < upto:
            more = await self.read(after=at, limit=min(1024, upto - at))
            if not more:
                raise self._damaged(at + 1)
            found += more
        return found

    def backwards(self, upto: int) -> Iterator[Event]:
        """Yield the events up to offset `upto`, the newest first, reading no more than it takes.

        Raises:
            StoreError: one of them is missing or damaged.
        """
        size = _FIRST_LOOK
        while upto > 0:
            after = max(0, upto - size)
            yield from reversed(self.every(after=after, upto=upto))
            upto, size = after, 2 * size

    def one(self, offset: int) -> Event:
        """Return one event.

        Raises:
            StoreError: it is missing or damaged.
        """
        return self._event(self._one(offset))

    async def read_one(self, offset: int) -> Event:
        """Return the same, without holding the event loop for a big value."""
        stored = self._one(offset)
        await self.read_ahead((stored,))
        return self._event(stored)

    def snapshot(self, version: str) -> Snapshot | None:
        """Return the run's snapshot, if this code can read it and it is sound."""
        try:
            snapshot = self._store.snapshot(self._row.number)
        except Damaged:
            return None
        if snapshot is None or snapshot.version != version or snapshot.offset > self._row.offset:
            return None
        if zlib.crc32(snapshot.body.encode()) != snapshot.check:
            return None
        self._last = (snapshot.offset, snapshot.crc)
        return snapshot

    def _one(self, offset: int) -> StoredEvent:
        first = max(0, offset - 2)
        rows = self.stored(after=first, limit=offset - first)
        if len(rows) < offset - first:  # at a fork's border they come from two runs
            rows += self.stored(after=first + len(rows), limit=offset - first - len(rows))
        if len(rows) < offset - first:
            raise self._damaged(offset)
        crc = rows[0].crc if len(rows) > 1 else 0
        self._verified(rows[-1], offset, crc)
        return rows[-1]

    def _crc_at(self, offset: int) -> int:
        if offset == 0:
            return 0
        if self._last[0] != offset:
            rows = self.stored(after=offset - 1, limit=1)
            if [row.offset for row in rows] != [offset]:
                raise self._damaged(offset)
            self._last = (offset, rows[0].crc)
        return self._last[1]

    def _verified(self, stored: StoredEvent, offset: int, before: int) -> int:
        crc = checksum(before, stored.kind, stored.path, stored.body, stored.at)
        if stored.offset != offset or stored.crc != crc:
            raise self._damaged(offset)
        return crc

    def _event(self, stored: StoredEvent) -> Event:
        packed: Json = json.loads(stored.body)
        holds_text = may_hold_text(stored.body)
        data = self.text.unpack(stored.offset, packed) if holds_text else packed
        if stored.kind == "text.emitted":
            self._pieces[stored.offset] = data["text"]
        if self._text_writer is not None:
            self._note_piece(stored, data)  # first: what was streamed is not the call's own text
            if holds_text:
                self._text_writer.remember(stored.offset, packed)
        return Event(stored.offset, stored.kind, stored.path, data, stored.at)

    def _note_piece(self, stored: StoredEvent, data: Json) -> None:
        """Let whoever goes on with the run know what is being streamed in it."""
        assert self._text_writer is not None
        match stored.kind:
            case "text.emitted" if data.get("streamed"):
                self._text_writer.add_piece(stored.path, stored.offset, data["text"])
            case "text.discarded":
                self._text_writer.forget(stored.path)
            case "model.completed":
                self._text_writer.end(stored.path)
            case _:
                pass

    def _fetch(self, offset: int) -> Json:
        return json.loads(self._one(offset).body)

    def _streamed(self, first: int, last: int) -> list[str]:
        """Return the texts of the events from `first` to `last`."""
        if not all(offset in self._pieces for offset in range(first, last + 1)):
            # By a reader of its own: this one is in the middle of others.
            events = JournalReader(self._store, self._row).every(after=first - 1, upto=last)
            self._pieces |= {event.offset: event.data["text"] for event in events}
        return [self._pieces[offset] for offset in range(first, last + 1)]

    def _value(self, digest: str) -> Json:
        if self._values.get(digest):
            return self._values[digest].pop()
        return self._document(digest, self._store.blob(digest))

    def _document(self, digest: str, body: bytes | None) -> Json:
        return read_document(self._sound(digest, body))

    def _blob(self, digest: str) -> str:
        return self._sound(digest, self._store.blob(digest))

    def _sound(self, digest: str, body: bytes | None) -> str:
        if body is None or hashlib.sha256(body).hexdigest() != digest:
            raise StoreError(
                message=f"blob {digest} of run {self._row.id} in {shown(self._store.url)} is "
                "missing or damaged; restore a backup; runs that do not use it are not affected"
            )
        return body.decode("utf-8", "surrogatepass")

    def _damaged(self, offset: int) -> StoreError:
        return StoreError(
            message=f"the journal of run {self._row.id} in {shown(self._store.url)} is damaged at "
            f"event {offset}; restore a backup; other runs are not affected"
        )


def checksum(before: int, kind: str, path: str, body: str, at: float) -> int:
    """Return the CRC-32 of an event, chained over the one before."""
    text = f"{kind}\0{path}\0{at!r}\0{body}"
    return zlib.crc32(text.encode("utf-8", "surrogatepass"), before)  # a key may hold half a pair


def snapshot_of(offset: int, crc: int, version: str, body: dict[str, Any]) -> Snapshot:
    """Return a snapshot of a run's fold at `offset`."""
    text = json.dumps(body, separators=(",", ":"), ensure_ascii=True)
    return Snapshot(offset, crc, version, text, zlib.crc32(text.encode()))
