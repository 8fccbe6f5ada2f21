"""An event loop with virtual time and a seeded order: the same seed gives the same schedule.

What is ready runs in a random order; where nothing is, time goes on at once to the next timer.
Work that asyncio sends to threads is done in place. Nothing may wait for the world outside.

Source: deterministic simulation testing, as in FoundationDB (Zhou et al., SIGMOD 2021).
"""

import asyncio
import random
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from crew.call.lineage import SCOPE, Scope

MOST_PASSES = 200_000
"""Passes of the loop in which time stands still, before it is taken to be stuck."""
GRACE_SECONDS = 3600.0
"""Virtual seconds that a loop which got stuck has to clean up, twice at most."""


class Stuck(Exception):
    """Nothing would ever end: nothing is ready and no timer runs, or the time is up."""


class SeededLoop(asyncio.SelectorEventLoop):
    """An event loop whose time is virtual, and whose order is that of a seed.

    Only what belongs to different owners changes places. The tasks of one step of a run keep the
    order in which they became ready, since asyncio promises that to every program: handles run
    first in, first out, and locks, queues and `wait` are used with that in mind. A schedule that
    breaks it is none that a real loop has, so that what it finds is no defect.

    Args:
        seed: chooses the order of what is ready.
        limit: virtual seconds after which it is taken to be stuck; None for no limit.
        began: what its wall clock says at first, in unix seconds; the real time by default.
    """

    def __init__(
        self, seed: int, *, limit: float | None = None, began: float | None = None
    ) -> None:
        self._now = 0.0
        self._began = time.time() if began is None else began
        self._limit = limit
        self._passes = 0
        super().__init__()
        self._chance = random.Random(seed)  # noqa: S311  it has to be repeatable, not secret

    def time(self) -> float:
        """Return virtual seconds since the loop began."""
        return self._now

    def wall_clock(self) -> float:
        """Return virtual unix seconds."""
        return self._began + self._now

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> Any:
        """Call a function at once: threads would bring an order of their own."""
        future = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as error:  # noqa: BLE001  it is the caller's to catch
            future.set_exception(error)
        return future

    def _run_once(self) -> None:
        # These are asyncio's own fields: there is no other way to choose the order.
        ready: Any = self._ready  # type: ignore[attr-defined]
        if ready:
            self._passes += 1
        else:
            self._go_on_in_time()
        if self._limit is not None and self._passes > MOST_PASSES:
            raise self._stuck(f"{MOST_PASSES} passes at one moment")
        if len(ready) > 1:
            handles = _interleaved(list(ready), self._chance)
            ready.clear()
            ready.extend(handles)
        super()._run_once()  # type: ignore[misc]

    def _go_on_in_time(self) -> None:
        scheduled: Any = self._scheduled  # type: ignore[attr-defined]
        self._passes = 0
        # Time goes to none that was cancelled: asyncio would then sleep for real till the next one.
        times = [handle.when() for handle in scheduled if not handle.cancelled()]
        if times:
            self._now = max(self._now, min(times))
        elif self._limit is not None and not self._stopping:  # type: ignore[attr-defined]
            raise self._stuck("nothing is ready, and no timer runs")
        if self._limit is not None and self._now > self._limit:
            raise self._stuck(f"{self._limit:.0f} virtual seconds are over")

    def _stuck(self, why: str) -> Stuck:
        # Whoever cleans up needs the loop a little longer.
        assert self._limit is not None
        self._limit, self._passes = self._now + GRACE_SECONDS, 0
        return Stuck(why)


def _interleaved(handles: list[Any], chance: random.Random) -> list[Any]:
    """Shuffle handles, but keep the order of those that belong to one step of a run."""
    owners = [_owner(handle) for handle in handles]
    queues: dict[int, deque[Any]] = {}
    for owner, handle in zip(owners, handles, strict=True):
        queues.setdefault(owner, deque()).append(handle)
    chance.shuffle(owners)
    return [queues[owner].popleft() for owner in owners]


def _owner(handle: Any) -> int:
    """Return what tells whose a handle is: its step, or itself where it is nobody's."""
    scope = handle._context.get(SCOPE)  # noqa: SLF001  asyncio has no other way to ask
    return id(scope.owner) if isinstance(scope, Scope) else id(handle)
