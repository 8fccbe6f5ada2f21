"""A release that is newer than this one, as far as its journals show it."""

from crew import Runtime
from crew.journal import Append, Release, StoredEvent, Take
from crew.journal.reading import checksum

KIND = "step.paused"


async def write_newer_event(url: str, run: str, path: str) -> None:
    """Take a run, write an event of a kind that this release does not know, and let it go."""
    async with Runtime(url, worker=False) as runtime:
        store, row = runtime.store, runtime.store.run(run)
        crc = checksum(row.crc, KIND, path, "{}", 1.0)
        event = StoredEvent(row.offset + 1, KIND, path, "{}", crc, 1.0)
        (taken,) = store.commit([Take(row.number, "newer", None)])
        store.commit([Append(row.number, taken.epoch, (event,))])
        store.commit([Release(row.number, taken.epoch)])
