"""The events of an SQLite journal: those of a run that were committed together lie in one row.

Events are many and small, and what they have in common is most of their bytes, so a row of several
is written faster and deflates better than several rows. A segment's key is its run's number * 2^32
+ the offset of its last event, so that a run's segments lie together in the table itself.
"""

import json
import sqlite3
from collections.abc import Iterator, Sequence
from itertools import islice

from crew.journal import Damaged, StoredEvent
from crew.journal.deflate import Deflater
from crew.journal.reading import checksum

MOST_EVENTS = 64
"""In one segment: whoever wants one event reads them all."""

_SHIFT = 1 << 32
# JSON text holds no control character, so none of these is in a body.
_BETWEEN_EVENTS = "\n"
_BETWEEN_FIELDS = "\t"


def insert_events(
    db: sqlite3.Connection,
    deflater: Deflater,
    number: int,
    before: int,
    events: Sequence[StoredEvent],
) -> None:
    """Write events of a run after its last ones, whose checksum is `before`."""
    rows = list[tuple[int, int, int, str | bytes]]()
    for first in range(0, len(events), MOST_EVENTS):
        chunk = events[first : first + MOST_EVENTS]
        last = chunk[-1]
        text = _encoded(chunk)
        rows.append((number * _SHIFT + last.offset, before, last.crc, deflater.pack(text)))
        before = last.crc
    db.executemany("INSERT INTO segments (id, before, crc, body) VALUES (?, ?, ?, ?)", rows)


def read_events(
    db: sqlite3.Connection, deflater: Deflater, number: int, *, after: int, limit: int
) -> list[StoredEvent]:
    """Return at most `limit` events of a run after offset `after`, as they were written.

    Raises:
        Damaged: a segment cannot be decoded.
    """
    return list(islice(_events(db, deflater, number, after), limit))


def _events(
    db: sqlite3.Connection, deflater: Deflater, number: int, after: int
) -> Iterator[StoredEvent]:
    first = number * _SHIFT
    rows = db.execute(
        "SELECT id - ?, before, crc, body FROM segments WHERE id > ? AND id < ? ORDER BY id",
        (first, first + min(after, _SHIFT), first + _SHIFT),
    )
    for offset, before, crc, body in rows:
        try:
            events = _decoded(deflater.unpack(db, body), offset, before, crc)
        except (sqlite3.DatabaseError, ValueError, TypeError, OverflowError) as error:
            raise Damaged(f"events of run number {number} up to {offset}: {error}") from error
        yield from (event for event in events if event.offset > after)


def remove_events(db: sqlite3.Connection, number: int) -> None:
    """Drop all events of a run."""
    first = number * _SHIFT
    db.execute("DELETE FROM segments WHERE id > ? AND id < ?", (first, first + _SHIFT))


def _encoded(events: Sequence[StoredEvent]) -> str:
    lines, before = list[str](), 0
    for event in events:
        moment = round(event.at * 1e6)
        # Microseconds since the event before; a time that is finer keeps all its digits.
        at = str(moment - before) if moment / 1e6 == event.at else repr(event.at)
        before = moment
        path = event.path
        if not path.isprintable() or path.startswith('"'):
            path = json.dumps(path)
        lines.append(_BETWEEN_FIELDS.join((event.kind, at, path, event.body)))
    return _BETWEEN_EVENTS.join(lines)


def _decoded(text: str, last: int, crc: int, last_crc: int) -> list[StoredEvent]:
    """Return the events of a segment, the last of them at offset `last`.

    Only that one's checksum is stored; the others' are made anew, and have to lead up to it.

    Raises:
        ValueError: this is not what was written.
    """
    lines = text.split(_BETWEEN_EVENTS)
    events, before, offset = list[StoredEvent](), 0, last - len(lines)
    for line in lines:
        offset += 1
        kind, time, path, body = line.split(_BETWEEN_FIELDS)
        at = float(time) if "." in time else (before + int(time)) / 1e6
        path = json.loads(path) if path.startswith('"') else path
        before = round(at * 1e6)
        crc = checksum(crc, kind, path, body, at)
        events.append(StoredEvent(offset, kind, path, body, crc, at))
    if len(events) == 1:
        return [events[0]._replace(crc=last_crc)]  # its reader sees whether it fits
    if crc != last_crc:
        raise ValueError("the checksum differs")
    return events
