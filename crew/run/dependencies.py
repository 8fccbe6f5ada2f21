"""What the code of workflows depends on: opened once in a process, before the first step."""

import asyncio
import logging
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from contextvars import Context as Variables
from typing import Any, TypeAlias

from crew.errors import CrewError
from crew.failure import message_of

logger = logging.getLogger(__name__)

Opening: TypeAlias = Callable[[], AbstractAsyncContextManager[Any]]


class Dependencies:
    """Keeps what workflows depend on open for all their runs in this process.

    Each is opened and closed in a task of its own, in no step's: tasks that it makes, as the reader
    of a connection pool, outlive the step that needed it first.
    """

    def __init__(self) -> None:
        self._open: dict[Opening, _Open] = {}

    async def of(self, opening: Opening, workflow: str) -> Any:
        """Return what `opening` gives, opened now if it is not.

        Raises:
            CrewError: it cannot be opened; whoever asks next tries again.
        """
        kept = self._open.get(opening)
        if kept is None:
            kept = self._open[opening] = _Open(opening)
        try:
            return await asyncio.shield(kept.ready)
        except Exception as error:
            if self._open.get(opening) is kept:
                del self._open[opening]
            raise CrewError(
                message=f"what workflow {workflow!r} depends on cannot be opened: "
                f"{type(error).__name__}: {message_of(error)}"
            ) from error

    async def close(self) -> None:
        """Close everything, the last one first."""
        while self._open:
            _, kept = self._open.popitem()
            await kept.close()


class _Open:
    """One that is open, or about to be."""

    def __init__(self, opening: Opening) -> None:
        loop = asyncio.get_running_loop()
        self.ready: asyncio.Future[Any] = loop.create_future()
        self._closing = asyncio.Event()
        self._task = asyncio.create_task(self._hold(opening), context=Variables())

    async def _hold(self, opening: Opening) -> None:
        try:
            async with opening() as value:
                self.ready.set_result(value)
                await self._closing.wait()
        except Exception as error:
            if not self.ready.done():
                self.ready.set_exception(error)
            else:
                logger.exception("dependencies.not_closed")

    async def close(self) -> None:
        self._closing.set()
        if not self.ready.done():
            self._task.cancel()
        await asyncio.wait({self._task})
