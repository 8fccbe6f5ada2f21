"""The clocks, as the event loop has them: a simulated loop has simulated ones."""

import asyncio
import time
from collections.abc import Callable
from contextvars import Context as Variables
from typing import cast

_CLEAN = Variables()
"""A time that is on record is no timer of the code that waits for it."""


def wall_clock() -> float:
    """Return unix seconds; on a loop with a `wall_clock` of its own, what that says."""
    return clock_here()()


def clock_here() -> Callable[[], float]:
    """Return what gives the unix seconds, for whoever asks often."""
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return time.time
    return cast("Callable[[], float]", getattr(loop, "wall_clock", time.time))


def steady_clock() -> Callable[[], float]:
    """Return what says seconds that go on while the event loop is held, from any beginning."""
    loop = asyncio.get_running_loop()
    # uvloop's own time stands still until the loop turns.
    return loop.time if hasattr(loop, "wall_clock") else time.monotonic


async def wait_until(until: float) -> None:
    """Return when the wall clock says `until`, in unix seconds."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[None] = loop.create_future()
    seconds = max(0.0, until - wall_clock())
    timer = loop.call_later(seconds, _wake, future, context=_CLEAN)
    try:
        await future
    finally:
        timer.cancel()


def _wake(future: "asyncio.Future[None]") -> None:
    if not future.done():
        future.set_result(None)
