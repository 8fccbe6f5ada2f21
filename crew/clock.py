"""The wall clock, as the event loop has it: a simulated loop has a simulated one."""

import asyncio
import time


def wall_clock() -> float:
    """Return unix seconds; on a loop with a `wall_clock` of its own, what that says."""
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return time.time()
    return float(getattr(loop, "wall_clock", time.time)())
