"""The calls of tools of one reply: so many at once, and whether all that go on wait for people."""

from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from crew.call.concurrent import together
from crew.call.record import Calls

__all__ = ["Branches"]

T = TypeVar("T")


class Branches:
    """Runs the calls of one reply after the other reply's.

    Args:
        calls: the journal of the run.
        path: the agent's call.
        limit: how many calls are under way at once; None for all.
    """

    def __init__(self, calls: Calls, path: str, limit: int | None) -> None:
        self._calls, self._path, self._limit = calls, path, limit
        self._queued = 0
        """How many have not begun."""
        self._under_way = 0
        self._waiting = set[str]()
        """The paths of questions; who waits for one keeps its place among those under way."""

    async def run(self, makes: Iterable[Callable[[], Coroutine[Any, Any, T]]]) -> list[T]:
        """Make coroutines and run them, in order as far as there is room; return their results.

        They begin in this order whatever the event loop does: one whose act is on record must not
        wait for room behind one whose act is new, which waits for it.

        Raises:
            Exception: as of `together`.
        """
        work = list(makes)
        left, results = iter(enumerate(work)), dict[int, T]()
        self._queued, self._under_way = len(work), 0

        async def one_by_one() -> None:
            for number, make in left:
                self._queued -= 1
                self._under_way += 1
                results[number] = await make()
                self._under_way -= 1
                await self._review()

        room = len(work) if self._limit is None else min(self._limit, len(work))
        await together(one_by_one() for _ in range(room))
        return [results[number] for number in range(len(work))]

    @asynccontextmanager
    async def waiting(self, path: str) -> AsyncIterator[None]:
        """A block in which one of them waits for the end of the call at `path` alone."""
        self._waiting.add(path)
        try:
            await self._review()
            yield
        finally:
            self._waiting.discard(path)

    async def _review(self) -> None:
        """Say so where each that is under way waits, and none of the others can begin."""
        has_room = self._queued and self._under_way != self._limit
        if self._waiting and len(self._waiting) == self._under_way and not has_room:
            await self._calls.rests(self._path, sorted(self._waiting))
