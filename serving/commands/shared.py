"""What the workers of one server have in common: what their keys use, and their metrics.

The parent keeps it. A worker asks it over a link of its own; when that breaks, the worker is gone,
and what it held is free.
"""

import asyncio
import os
import socket
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, Self

from crew.telemetry.series import Counted
from serving.access.caller import stopping
from serving.access.limits import Tally
from serving.commands.link import Link

__all__ = ["Parent", "Shared", "end_of_worker"]

COUNTED_SECONDS = 2.0
"""How long a worker is waited for that is asked what it counted; then what it said last holds."""


class Shared:
    """The parent's side."""

    def __init__(self) -> None:
        self._tally = Tally()
        self._workers: list[_Worker] = []
        self._parts: dict[str, Counted] = {}
        """What was counted, by its source; a worker that is gone still counts, so that no sum of
        the server ever falls."""

    async def attend(self, end: socket.socket) -> None:
        """Answer one worker, until it is gone or this is cancelled.

        Args:
            end: the parent's of the pair of sockets.
        """
        worker = _Worker(self._tally, self._everyone)
        worker.link = await Link.over(end, worker.answer)
        self._workers.append(worker)
        try:
            await worker.link.serve()
        finally:
            self._workers.remove(worker)
            worker.leave_all()
            for source in worker.sources:
                self._parts[source].rest()

    async def _everyone(self) -> list[Counted]:
        await asyncio.gather(*map(self._count, self._workers))
        return list(self._parts.values())

    async def _count(self, worker: "_Worker") -> None:
        for part in await worker.counted():
            if worker not in self._workers:  # it has ended since it answered
                part.rest()
            # Two workers may have heard of one host, which is gone, at different times.
            known = self._parts.get(part.source)
            if known is None or part.total() >= known.total():
                self._parts[part.source] = part


class _Worker:
    """One worker, as its parent knows it."""

    link: Link

    def __init__(self, tally: Tally, everyone: Callable[[], Awaitable[list[Counted]]]) -> None:
        self._tally, self._everyone = tally, everyone
        self._held: Counter[str] = Counter()
        self.sources: set[str] = set()
        """Of what it counted."""

    async def answer(self, word: str, *facts: str | int) -> object:
        match word, facts:
            case "take", (str(key), int(per_minute)):
                return await self._tally.take(key, per_minute)
            case "enter", (str(key), int(most)):
                if has_entered := await self._tally.enter(key, most):
                    self._held[key] += 1
                return has_entered
            case "leave", (str(key),):
                self._tally.leave(key)
                self._held[key] -= 1
            case "everyone", ():
                return await self._everyone()
            case _:
                raise AssertionError(word)
        return None

    def leave_all(self) -> None:
        for key in self._held.elements():
            self._tally.leave(key)

    async def counted(self) -> Iterable[Counted]:
        try:
            async with asyncio.timeout(COUNTED_SECONDS):
                parts: Sequence[Counted] = await self.link.ask("counted")
        except (TimeoutError, ConnectionError):
            return ()
        self.sources |= {part.source for part in parts}
        return parts


class Parent:
    """A worker's side: counts what keys use there, for all workers; see `Counts`."""

    _link: Link
    _serving: asyncio.Task[None]

    def __init__(self) -> None:
        self.count: Callable[[], Awaitable[list[Counted]]] | None = None
        """Returns what was counted in this process."""

    @classmethod
    async def joined(cls, end: socket.socket, *, gone: Callable[[], None]) -> Self:
        """Open the link.

        Args:
            end: the worker's of the pair of sockets.
            gone: called once the parent has ended, in whatever way.
        """
        parent = cls()
        parent._link = await Link.over(end, parent._answer)
        parent._serving = asyncio.create_task(parent._serve(gone))
        return parent

    async def _serve(self, gone: Callable[[], None]) -> None:
        await self._link.serve()
        gone()

    async def _answer(self, word: str) -> object:
        assert word == "counted"
        return () if self.count is None else await self.count()

    async def everyone(self) -> list[Counted]:
        """Return what all workers have counted."""
        return await self._asked("everyone")

    async def take(self, key: str, per_minute: int) -> float:
        return await self._asked("take", key, per_minute)

    async def enter(self, key: str, most: int) -> bool:
        entering = asyncio.ensure_future(self._asked("enter", key, most))
        try:
            return await asyncio.shield(entering)
        except asyncio.CancelledError:
            entering.add_done_callback(lambda done: self._undo(key, done))
            raise

    def leave(self, key: str) -> None:
        self._link.notify("leave", key)

    async def _asked(self, word: str, *facts: str | int) -> Any:
        try:
            return await self._link.ask(word, *facts)
        except ConnectionError:
            raise stopping() from None

    def _undo(self, key: str, entering: asyncio.Future[bool]) -> None:
        """Leave again what was entered for somebody who does not wait any more."""
        if entering.exception() is None and entering.result():
            self.leave(key)


def end_of_worker() -> socket.socket:
    """Return the socket that the parent has put in the place of a worker's standard input.

    Programs that are started from here do not get it.
    """
    end = socket.socket(fileno=os.dup(0))
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    return end
