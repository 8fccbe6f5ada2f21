"""An answer as a stream of server-sent events, and what follows when its reader goes away."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

__all__ = ["EventStream"]

# Proxies in front (nginx) would else collect the stream before they pass it on.
_UNBUFFERED = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}


class EventStream(StreamingResponse):
    """Frames as they come.

    Args:
        frames: the stream.
        headers: of the answer.
        leave: called if the reader goes away before the last frame.
    """

    def __init__(
        self,
        frames: AsyncIterator[bytes],
        headers: Mapping[str, str] | None = None,
        *,
        leave: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        super().__init__(
            self._told(frames),
            media_type="text/event-stream",
            headers={**(headers or {}), **_UNBUFFERED},
        )
        self._leave, self._is_whole = leave, False

    async def _told(self, frames: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        async for frame in frames:
            yield frame
        self._is_whole = True

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            if self._leave is not None and not self._is_whole:
                await self._leave()
