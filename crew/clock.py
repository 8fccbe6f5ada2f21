"""The clocks, as the event loop has them: a simulated loop has simulated ones."""

import asyncio
import time
from collections.abc import Callable


def wall_clock() -> float:
    """Return unix seconds; on a loop with a `wall_clock` of its own, what that says."""
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return time.time()
    return float(getattr(loop, "wall_clock", time.time)())


def steady_clock() -> Callable[[], float]:
    """Return what says seconds that go on while the event loop is held, from any beginning."""
    loop = asyncio.get_running_loop()
    # uvloop's own time stands still until the loop turns.
    return loop.time if hasattr(loop, "wall_clock") else time.monotonic
