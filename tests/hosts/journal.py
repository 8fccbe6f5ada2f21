"""The calls of one run as its journal tells them, read on while it grows."""

import asyncio
from collections import Counter
from collections.abc import Callable

from crew.journal import Store, StoredEvent

LOOK_SECONDS = 0.02
_BEGINS = ("started", "opened")
_ENDS = ("completed", "answered", "failed", "cancelled", "unknown")


class Calls:
    """Which calls of a run are under way, and how often each ended.

    Args:
        store: where the run is.
        run: its id.
    """

    def __init__(self, store: Store, run: str) -> None:
        self._store = store
        row = store.run(run)
        assert row is not None
        self._number = row.number
        self.offset = 0
        """That of the newest event that was read."""
        self.open: dict[str, dict[str, int]] = {}
        """By kind, the paths of calls that are under way, and the offsets at which they began."""
        self.ends: dict[str, Counter[str]] = {}
        """By kind of event, how often a call at each path ended so."""
        self.takes = 0

    async def until(self, wanted: Callable[[], bool]) -> None:
        """Read on until something is so."""
        self.read()
        while not wanted():
            await asyncio.sleep(LOOK_SECONDS)
            self.read()

    def read(self) -> None:
        """Read what is new."""
        while events := self._store.events(self._number, after=self.offset):
            for event in events:
                self._take(event)
            self.offset = events[-1].offset

    def begun(self, kind: str, *, after: int = 0) -> int:
        """Return how many calls are under way that began, or began again, after an offset."""
        return sum(offset > after for offset in self.open.get(kind, {}).values())

    def _take(self, event: StoredEvent) -> None:
        kind, _, phase = event.kind.rpartition(".")
        self.takes += event.kind == "run.taken"
        if phase in _BEGINS:
            self.open.setdefault(kind, {})[event.path] = event.offset
        elif phase in _ENDS:
            self.open.setdefault(kind, {}).pop(event.path, None)
            self.ends.setdefault(event.kind, Counter())[event.path] += 1
