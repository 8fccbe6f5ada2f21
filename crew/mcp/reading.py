"""What a server says, watched: its end, and what no sound server says."""

from typing import Any, Protocol

__all__ = ["Watched"]

MOST_MESSAGES = 10_000
"""What a server may say between two answers, such as progress, before it is taken to be broken."""
MOST_JUNK = 20
"""Lines that are no messages, as from a server that logs to its standard output."""


class End(Protocol):
    """Told why nothing more will be read, and whether the server is there, and of no use."""

    def __call__(self, why: str, *, is_useless: bool) -> None: ...


class Watched:
    """A stream of the SDK, of messages from a server.

    Args:
        stream: the SDK's.
        end: told of its end.
    """

    def __init__(self, stream: Any, end: End) -> None:
        self._stream, self._end = stream, end
        self._messages = self._junk = 0

    @property
    def last_context(self) -> Any:
        """The variables of whoever sent the last message; see the SDK."""
        return getattr(self._stream, "last_context", None)

    def __aiter__(self) -> "Watched":
        return self

    async def __anext__(self) -> Any:
        return await self.receive()

    async def receive(self) -> Any:
        """Return the next message.

        Raises:
            StopAsyncIteration: there is none any more, or they are no use.
        """
        try:
            item = await anext(self._stream)
        except StopAsyncIteration as error:
            why = error.__cause__
            self._end(str(why or "the server has ended"), is_useless=why is not None)
            raise
        if (problem := self._problem(item)) is not None:
            self._end(problem, is_useless=True)
            raise StopAsyncIteration
        return item

    def _problem(self, item: Any) -> str | None:
        if isinstance(item, Exception):
            self._junk += 1
            if self._junk > MOST_JUNK:
                return f"more than {MOST_JUNK} lines of the server were no messages"
        elif hasattr(item.message, "method"):
            self._messages += 1
            if self._messages > MOST_MESSAGES:
                return f"the server said more than {MOST_MESSAGES} things that nobody had asked for"
        else:
            self._messages = 0
        return None

    async def aclose(self) -> None:
        await self._stream.aclose()

    async def __aenter__(self) -> "Watched":
        await self._stream.__aenter__()
        return self

    async def __aexit__(self, *error: Any) -> bool | None:
        ended: bool | None = await self._stream.__aexit__(*error)
        return ended
