"""An event loop with virtual time and a seeded order: the same seed gives the same schedule.

What is ready runs in a random order; where nothing is, time goes on at once to the next timer.
Work that asyncio sends to threads is done in place. Nothing may wait for the world outside.

Source: deterministic simulation testing, as in FoundationDB (Zhou et al., SIGMOD 2021).
"""

import asyncio
import random
import time
from collections.abc import Callable
from typing import Any


class SeededLoop(asyncio.SelectorEventLoop):
    """An event loop whose time is virtual, and whose order is that of a seed.

    Args:
        seed: chooses the order of what is ready.
    """

    def __init__(self, seed: int) -> None:
        self._now = 0.0
        self._began = time.time()
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
        scheduled: Any = self._scheduled  # type: ignore[attr-defined]
        if not ready and scheduled:
            self._now = max(self._now, min(handle.when() for handle in scheduled))
        if len(ready) > 1:
            handles = list(ready)
            self._chance.shuffle(handles)
            ready.clear()
            ready.extend(handles)
        super()._run_once()  # type: ignore[misc]
