"""One process at a time on one file."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from io import IOBase
from pathlib import Path

__all__ = ["claimed", "is_claimed"]

SECONDS_BETWEEN_TRIES = 0.1


@asynccontextmanager
async def claimed(path: Path) -> AsyncIterator[None]:
    """Hold `path`, an empty file beside what is guarded, as long as the block runs.

    The kernel gives it back when its holder dies. The file stays: to remove it while another
    waits would let two in. Where the kernel has no `flock` (Windows) nobody waits.
    """
    await asyncio.to_thread(path.parent.mkdir, parents=True, exist_ok=True)
    with path.open("ab") as file:
        while not is_claimed(file):  # noqa: ASYNC110  (another process sets no event here)
            await asyncio.sleep(SECONDS_BETWEEN_TRIES)
        yield


def is_claimed(file: IOBase | int) -> bool:
    """Claim an open file, until it is closed; return whether nobody else has."""
    try:
        import fcntl
    except ImportError:
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
