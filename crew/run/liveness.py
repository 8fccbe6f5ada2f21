"""Which owners of runs are gone: proven dead, or silent for longer than their lease."""

import time
from collections.abc import Sequence

from crew.define import define
from crew.journal import Store

MOST_BETWEEN_LOOKS = 1.0
"""Seconds that one look counts for at most: an observer that slept has seen nothing meanwhile."""


@define
class _Seen:
    beat: int
    silent: float = 0.0


class Liveness:
    """Watches the signs of owners, by this process's own monotonic clock.

    Clocks of different machines are never compared: an owner is silent for as long as its beat
    was seen to stand still.

    Args:
        store: where owners show their signs.
        lease: seconds of silence after which an owner's runs may be taken.
    """

    def __init__(self, store: Store, lease: float) -> None:
        self._store = store
        self._lease = lease
        self._seen: dict[str, _Seen] = {}
        self._last_look: float | None = None

    def gone(self, owners: Sequence[str]) -> dict[str, bool]:
        """Return the owners whose runs may be taken, with whether their death is proven."""
        now = time.monotonic()
        passed = 0.0 if self._last_look is None else now - self._last_look
        self._last_look = now
        found: dict[str, bool] = {}
        seen: dict[str, _Seen] = {}
        for owner in owners:
            sign = self._store.sign(owner)
            if sign.dead:
                found[owner] = True
                continue
            before = self._seen.get(owner)
            if before is None or before.beat != sign.beat:
                seen[owner] = _Seen(sign.beat)
                continue
            before.silent += min(passed, MOST_BETWEEN_LOOKS)
            seen[owner] = before
            if before.silent >= self._lease:
                found[owner] = False
        self._seen = seen
        return found

    def blink(self) -> None:
        """Count no silence for the time before the next look: the store could not be read."""
        self._seen.clear()
        self._last_look = None
