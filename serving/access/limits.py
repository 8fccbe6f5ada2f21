"""What may be used at once, by one key and by all, and the refusals of more.

What a key uses is counted for all processes of a server; a second server on the same store counts
its own. Open runs are asked of the store.
"""

import math
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Protocol

from serving.access.keys import Key
from serving.http.errors import ApiError

__all__ = ["Bucket", "Counts", "Limits", "Tally", "Usage", "too_much"]

STREAM_RETRY_SECONDS = 2
"""When to come back after too many open answers: nobody knows when one ends."""
RUN_RETRY_SECONDS = 5
"""When to come back after too many open runs."""
MOST_RETRY_SECONDS = 60
"""OpenAI's client ignores a longer wait, and comes back at once."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a server bears, whoever calls.

    Args:
        streams: answers that are open at once in one process, streamed or waited for.
        wait_seconds: how long an answer that is not streamed is waited for. OpenAI's client gives
            up after 600.
    """

    streams: int = 1_000
    wait_seconds: float = 570.0


class Bucket:
    """Requests of one key: as many as a minute's at once, then at the rate that fills it.

    Args:
        per_minute: the rate, and how much it holds.
        now: seconds on a clock that never goes back.

    Source: the token bucket of RFC 2697, with one bucket.
    """

    def __init__(self, per_minute: int, now: float) -> None:
        self._rate = per_minute / 60
        self._most = self._left = float(per_minute)
        self._at = now

    def take(self, now: float) -> float:
        """Take one; return 0, or else the seconds until there is one."""
        self._left = min(self._most, self._left + (now - self._at) * self._rate)
        self._at = now
        if self._left < 1:
            return (1 - self._left) / self._rate
        self._left -= 1
        return 0.0


class Counts(Protocol):
    """Where it is counted what keys use: in this process, or for several."""

    async def take(self, key: str, per_minute: int) -> float:
        """Count a request; return 0, or else the seconds until there may be one."""
        ...

    async def enter(self, key: str, most: int) -> bool:
        """Count one more open answer, until `leave`; False where there are `most`."""
        ...

    def leave(self, key: str) -> None:
        """Count an open answer no more."""
        ...


class Tally:
    """Counts for one process, or for those that ask it.

    Args:
        clock: seconds that never go back.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._buckets: dict[tuple[str, int], Bucket] = {}
        self._answers: Counter[str] = Counter()

    async def take(self, key: str, per_minute: int) -> float:
        now = self._clock()
        return self._buckets.setdefault((key, per_minute), Bucket(per_minute, now)).take(now)

    async def enter(self, key: str, most: int) -> bool:
        if self._answers[key] >= most:
            return False
        self._answers[key] += 1
        return True

    def leave(self, key: str) -> None:
        self._answers[key] -= 1


class Usage:
    """What is in use, of what may be.

    Args:
        limits: of the server.
        counts: where it is counted what keys use.
    """

    def __init__(self, limits: Limits, counts: Counts) -> None:
        self._limits, self._counts = limits, counts
        self._answers = 0
        self._starting: Counter[str] = Counter()

    async def count_request(self, key: Key) -> None:
        """Count one request.

        Raises:
            ApiError: 429, the key made too many in the last minute.
        """
        most = key.requests_per_minute
        if most is not None and (wait := await self._counts.take(key.name, most)) > 0:
            raise too_much(f"the key {key.name!r} may make {most} requests a minute", wait)

    @asynccontextmanager
    async def open_answer(self, key: Key | None) -> AsyncIterator[None]:
        """Count an answer for as long as it is open.

        Raises:
            ApiError: 429, there are too many.
        """
        if self._answers >= self._limits.streams:
            raise too_much(
                f"this server holds {self._limits.streams} answers open at once",
                STREAM_RETRY_SECONDS,
            )
        self._answers += 1
        try:
            async with self._entered(key):
                yield
        finally:
            self._answers -= 1

    @asynccontextmanager
    async def _entered(self, key: Key | None) -> AsyncIterator[None]:
        if key is None or key.streams is None:
            yield
            return
        if not await self._counts.enter(key.name, key.streams):
            raise too_much(
                f"the key {key.name!r} may have {key.streams} answers open at once",
                STREAM_RETRY_SECONDS,
            )
        try:
            yield
        finally:
            self._counts.leave(key.name)

    @contextmanager
    def starting(self, tenant: str, open_runs: int, most: int | None) -> Iterator[None]:
        """Count a run from here until the store has it.

        Args:
            tenant: whose.
            open_runs: how many of its runs the store says have not ended.
            most: how many there may be.

        Raises:
            ApiError: 429, there are too many.
        """
        if most is not None and open_runs + self._starting[tenant] >= most:
            raise too_much(
                f"tenant {tenant!r} may have {most} runs that have not ended; wait for one, "
                "answer one, or cancel one",
                RUN_RETRY_SECONDS,
            )
        with _counted(self._starting, tenant):
            yield


@contextmanager
def _counted(counter: Counter[str], name: str) -> Iterator[None]:
    counter[name] += 1
    try:
        yield
    finally:
        counter[name] -= 1
        if not counter[name]:
            del counter[name]


def too_much(message: str, seconds: float) -> ApiError:
    """Return a refusal that OpenAI's client repeats by itself, after these seconds."""
    return ApiError(
        status=429,
        message=message,
        type="rate_limit_error",
        code="rate_limit_exceeded",
        again=True,
        headers={"Retry-After": str(min(MOST_RETRY_SECONDS, math.ceil(seconds)))},
    )
