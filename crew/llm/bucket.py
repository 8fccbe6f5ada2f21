"""How often an endpoint is asked: one bucket for all processes of a machine.

It holds one request, and fills at the rate that the model's terms allow. In a process requests go
in the order in which they came; between processes whoever is the first of its own takes the next
free time, so that they take turns. A process that is killed costs the others one such time.

Source: the generic cell rate algorithm; ITU-T I.371, in the form of one "next free" time.
"""

import asyncio
import hashlib
import logging
import os
import struct
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from crew.clock import wait_until, wall_clock
from crew.journal.datagrams import make_private
from crew.llm import Model
from crew.llm.claim import is_claimed
from crew.llm.terms import terms_of

__all__ = ["put_off", "turn_at"]

logger = logging.getLogger(__name__)

LONGEST_PAUSE = 60.0
"""Seconds for which an endpoint may put all off."""
_MOST_PROCESSES = 1000
_LOCK_SECONDS = 0.001
"""How soon a file is tried again that another process holds, which is for some microseconds."""
_FORM = struct.Struct("=dd")


async def turn_at(model: Model) -> None:
    """Return when a model's endpoint may be asked; at once where nobody has said how often."""
    rate = terms_of(model).requests_per_second
    if rate is not None:
        await _bucket_of(model).turn(1 / rate)


async def put_off(model: Model, seconds: float) -> None:
    """Let nobody ask a model's endpoint for some seconds, which it has asked for."""
    if terms_of(model).requests_per_second is not None:
        await _bucket_of(model).times.close(min(seconds, LONGEST_PAUSE))


class Times:
    """When an endpoint may be asked next, and until when it is closed, in unix seconds."""

    def __init__(self) -> None:
        self.free_at = self.closed_until = 0.0

    async def take(self, seconds: float) -> float:
        """Return the next free time; the one behind it is so many seconds later."""
        async with self.held():
            now = wall_clock()
            # A clock that was set back must not hold everybody up: nobody is that far ahead.
            is_stale = self.free_at > now + LONGEST_PAUSE + _MOST_PROCESSES * seconds
            taken = now if is_stale else max(now, self.free_at)
            self.free_at = taken + seconds
            return taken

    async def close(self, seconds: float) -> None:
        async with self.held():
            self.closed_until = max(self.closed_until, wall_clock() + seconds)
            self.free_at = max(self.free_at, self.closed_until)

    def is_closed_since(self, time: float) -> bool:
        """Return whether it was closed after somebody had taken a time."""
        return self.closed_until > time

    @asynccontextmanager
    async def held(self) -> AsyncIterator[None]:
        """Let nobody else change the times meanwhile."""
        yield


class SharedTimes(Times):
    """Those in a file, for all processes of a user on this machine."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path

    def is_closed_since(self, time: float) -> bool:
        with self._opened() as file:
            self._read(file)
        return super().is_closed_since(time)

    @asynccontextmanager
    async def held(self) -> AsyncIterator[None]:
        with self._opened() as file:
            while not is_claimed(file):  # noqa: ASYNC110  (another process sets no event here)
                await asyncio.sleep(_LOCK_SECONDS)
            self._read(file)
            yield
            os.pwrite(file, _FORM.pack(self.free_at, self.closed_until), 0)

    @contextmanager
    def _opened(self) -> Iterator[int]:
        """Open the file, each time: a process that was forked would share the lock of an open one.

        To close it gives the lock back.
        """
        file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            yield file
        finally:
            os.close(file)

    def _read(self, file: int) -> None:
        found = os.pread(file, _FORM.size, 0)
        if len(found) == _FORM.size:
            self.free_at, self.closed_until = _FORM.unpack(found)


class Bucket:
    """Lets the requests of this process go, one at a time."""

    def __init__(self, times: Times) -> None:
        self.times = times
        self._queue = asyncio.Lock()
        self._taken: float | None = None
        """When the first of the queue may go; whoever comes next has it if that one left."""

    async def turn(self, seconds: float) -> None:
        """Return when a request may go; the next may so many seconds later."""
        async with self._queue:
            if self._taken is not None and self._taken + seconds < wall_clock():
                self._taken = None  # nobody came who would have used it
            while True:
                if self._taken is None:
                    self._taken = await self.times.take(seconds)
                await wait_until(self._taken)
                taken, self._taken = self._taken, None
                if not self.times.is_closed_since(taken):
                    return


_buckets: dict[asyncio.AbstractEventLoop, dict[str, Bucket]] = {}
"""By the endpoints, for each event loop that is open: a queue belongs to one."""


def _bucket_of(model: Model) -> Bucket:
    endpoint: str = getattr(model, "base_url", "")
    of_loop = _of_loop(asyncio.get_running_loop())
    name = endpoint or f"model {model.name}"
    if name not in of_loop:
        of_loop[name] = Bucket(_times_of(endpoint))
    return of_loop[name]


def _of_loop(loop: asyncio.AbstractEventLoop) -> dict[str, Bucket]:
    if loop not in _buckets:
        for other in [each for each in _buckets if each.is_closed()]:
            del _buckets[other]
        _buckets[loop] = {}
    return _buckets[loop]


def _times_of(endpoint: str) -> Times:
    """Return what all processes share; what is no endpoint, or in simulated time, is alone."""
    if not endpoint or hasattr(asyncio.get_running_loop(), "wall_clock"):
        return Times()
    digest = hashlib.sha256(endpoint.encode()).hexdigest()[:16]
    try:
        root = Path(tempfile.gettempdir()) / f"crew-{os.getuid()}"
        for folder in (root, root / "buckets"):
            make_private(folder)
        return SharedTimes(root / "buckets" / digest)
    except (OSError, AttributeError) as error:  # no such folder, or Windows
        logger.warning("bucket.not_shared", extra={"endpoint": endpoint, "error": str(error)})
        return Times()
