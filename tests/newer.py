"""A release that is newer than this one, as far as its journals show it."""

from contextlib import closing

from crew.journal import Append, Release, Store, StoredEvent, Take
from crew.journal.opening import open_store
from crew.journal.reading import checksum

KIND = "step.paused"


def write_newer_event(store: str | Store, run: str, path: str) -> None:
    """Take a run, write an event of a kind that this release does not know, and let it go."""
    if isinstance(store, str):
        with closing(open_store(store)) as opened:
            write_newer_event(opened, run, path)
        return
    row = store.run(run)
    crc = checksum(row.crc, KIND, path, "{}", 1.0)
    event = StoredEvent(row.offset + 1, KIND, path, "{}", crc, 1.0)
    (taken,) = store.commit([Take(row.number, "newer", None)])
    store.commit([Append(row.number, taken.epoch, (event,))])
    store.commit([Release(row.number, taken.epoch)])
