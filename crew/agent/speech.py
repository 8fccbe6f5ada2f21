"""A model's text, passed on as it comes: in small batches, each an event of the journal."""

import asyncio
import weakref
from contextvars import Context
from typing import Self

from crew.call.record import Calls

BATCH_SECONDS = 0.04
"""How long tokens are gathered for one event; the first ones of an answer go out at once."""
MOST_BATCHES_A_SECOND = 400
"""Of a process: where many speak at once, each gathers longer."""

_streaming: weakref.WeakSet["Speech"] = weakref.WeakSet()


class Speech:
    """A block in which a model's text becomes part of the workflow's answer.

    On leaving it, all of the text was handed to the journal. If the call failed, the text
    is discarded.

    Args:
        calls: the journal of the run.
        path: the model call's.
        streamed: whether a part of it was streamed before, by a process that is gone.
    """

    def __init__(self, calls: Calls, path: str, *, streamed: bool) -> None:
        self._calls, self._path = calls, path
        self._pieces: list[str] = []
        self._arrived = asyncio.Event()
        self._due = asyncio.Event()
        self._ended = False
        self._streamed = streamed
        self._passing: asyncio.Task[None] | None = None

    def add(self, piece: str) -> None:
        """Take the next piece of the model's text.

        Raises:
            Fenced, StoreError: the journal does not take it; nobody needs the rest.
        """
        if self._passing is not None and self._passing.done():
            self._passing.result()
        if piece:
            self._pieces.append(piece)
            self._arrived.set()

    async def __aenter__(self) -> Self:
        # In a context of its own: it is no branch of the step, whose branches have numbers.
        loop = asyncio.get_running_loop()
        _streaming.add(self)
        self._passing = loop.create_task(self._pass_on(), context=Context())
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *exc: object) -> None:
        assert self._passing is not None
        _streaming.discard(self)
        self._ended = True
        self._due.set()
        self._arrived.set()
        if kind is not None and not issubclass(kind, Exception):
            self._passing.cancel()  # a cancel, or the end of the process: somebody may go on
            await asyncio.wait({self._passing})
            return
        await self._passing
        if kind is not None and self._streamed:
            await self._calls.discard_text(self._path)

    async def _pass_on(self) -> None:
        loop = asyncio.get_running_loop()
        while not self._ended or self._pieces:
            await self._arrived.wait()
            self._arrived.clear()
            if self._pieces:
                text = "".join(self._pieces)
                self._pieces.clear()
                self._streamed = True
                await self._calls.emit_text(self._path, text)
                pause = max(BATCH_SECONDS, len(_streaming) / MOST_BATCHES_A_SECOND)
                timer = loop.call_later(pause, self._due.set)
                await self._due.wait()
                timer.cancel()
                if not self._ended:
                    self._due.clear()
