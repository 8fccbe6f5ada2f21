"""A connection to an MCP server through the official SDK, held open by a task of its own.

The SDK's scopes of cancellation belong to the task that enters them: none is entered in a step's.
The only module that imports `mcp`, when a server is first needed.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from contextvars import Context as Variables
from typing import Any, TypeVar, cast

from crew.errors import ExtraMissing
from crew.failure import message_of
from crew.mcp.definition import MCP
from crew.mcp.http import CUT_OFF, NOT_SENT, client
from crew.mcp.process import Process
from crew.mcp.progress import Progress
from crew.mcp.reading import Watched
from crew.message import Json

__all__ = ["Connection", "Lost", "NotSent", "Refused", "Useless"]

MOST_PAGES = 100
"""Of a list of tools."""

_LAST_WORDS_SECONDS = 1.0
"""For a process that has closed its output to end, and to be heard."""
_CUT_OFF = ("Connection closed", "SSE stream ")
"""How the SDK's words begin for an answer that will not come; its code is one that servers use."""

logger = logging.getLogger(__name__)

T = TypeVar("T")


class NotSent(Exception):
    """The server has not got the request: it may be sent again, whatever it does."""


class Lost(Exception):
    """The connection ended before an answer came: nobody knows whether the server acted."""


class Useless(Lost):
    """It ended since the server talks nonsense, as the next one would."""


class Refused(Exception):
    """The server's answer is an error, or none that can be read."""


class Connection:
    """A connection to one server, for as long as it lives.

    Raises:
        ExtraMissing: the SDK is not installed.
    """

    def __init__(self, server: MCP) -> None:
        try:
            import mcp
        except ImportError as error:
            raise ExtraMissing(message=f"MCP server {server.label!r}", extra="mcp") from error
        self._sdk = mcp
        self._server = server
        self._ended = asyncio.Event()
        self._why = ""
        """Why it ended, as far as it is known."""
        self._is_useless = False
        self._listed: set[str] = set()
        self._process: Process | None = None
        self._ready: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._task = asyncio.create_task(self._hold(), context=Variables())

    @property
    def is_open(self) -> bool:
        """Whether a call may be made on it."""
        return not self._ended.is_set()

    @property
    def has_ended(self) -> bool:
        """Whether nothing is left of it."""
        return self._task.done()

    async def made(self) -> Any:
        """Wait until it is there; return the SDK's client.

        Raises:
            NotSent: it cannot be made.
        """
        try:
            return await asyncio.shield(self._ready)
        except ConnectionError as error:
            raise NotSent(await self._told(str(error))) from error

    async def knows(self, tool: str) -> None:
        """See that the server lists a tool: else the SDK asks for the list behind a call of it.

        An error of that would be taken for one of the call, which may have acted.

        Raises:
            NotSent, Refused: it does not, or does not say.
        """
        if tool in self._listed:
            return
        try:
            await self.listing()
        except Lost as error:
            raise NotSent(str(error)) from error
        if tool not in self._listed:
            raise Refused(f"the server has no tool {tool!r} any more")

    async def listing(self) -> list[dict[str, Json]]:
        """Return the tools of the server, as MCP's JSON has them.

        Raises:
            NotSent, Lost, Refused: it did not say.
        """
        tools: list[dict[str, Json]] = []
        cursor: str | None = None
        for _ in range(MOST_PAGES):
            page = await self._asked(lambda sdk, at=cursor: sdk.list_tools(cursor=at))
            tools += [tool.model_dump(mode="json", by_alias=True) for tool in page.tools]
            cursor = page.next_cursor
            if cursor is None:
                self._listed = {tool["name"] for tool in tools}
                return tools
        raise Refused(f"its list of tools has more than {MOST_PAGES} pages")

    async def call(
        self,
        tool: str,
        arguments: dict[str, Json],
        meta: dict[str, Json],
        progress: Progress | None = None,
    ) -> dict[str, Json]:
        """Return the result of a call of a tool that it `knows`, as MCP's JSON has it.

        Args:
            tool: its name at the server.
            arguments: what it gets.
            meta: what the request holds besides.
            progress: is told how far the server is.

        Raises:
            NotSent, Lost, Refused: there is none.
        """
        result = await self._asked(
            lambda sdk: sdk.call_tool(tool, arguments, meta=meta, progress_callback=progress)
        )
        found: dict[str, Json] = result.model_dump(mode="json", by_alias=True)
        return found

    def end(self, *, at_once: bool = False) -> None:
        """Let it end, and its process, if it has one; see `ended`.

        Args:
            at_once: the server does not answer, and would not end by itself.
        """
        self._ended.set()
        if at_once and self._process is not None:
            self._process.kill()
        if not self._ready.done():
            self._task.cancel()

    async def ended(self) -> None:
        """Wait for its end: some seconds where a process does not end by itself."""
        await asyncio.wait({self._task})

    async def _asked(self, ask: Callable[[Any], Coroutine[Any, Any, T]]) -> T:
        """Make a request in a task of its own, once there is a connection."""
        sdk = await self.made()
        if not self.is_open:
            raise NotSent(await self._told(self._why))
        try:
            return await asyncio.create_task(ask(sdk), context=Variables())
        except self._sdk.MCPError as error:
            raise await self._as_ours(error) from error
        except OSError as error:
            raise Lost(await self._told(message_of(error))) from error
        except (RuntimeError, ValueError, ExceptionGroup) as error:  # the SDK's for a wrong answer
            raise Refused(f"its answer is not what it should be: {message_of(error)}") from error

    async def _as_ours(self, error: Any) -> Exception:
        if error.code == NOT_SENT:
            self._over(error.message)
            return NotSent(error.message)
        if error.code == CUT_OFF or error.message.startswith(_CUT_OFF):
            lost = Useless if self._is_useless else Lost
            return lost(await self._told(self._why or error.message))
        return Refused(error.message)

    async def _hold(self) -> None:
        """Hold the connection open till it ends, or is let go."""
        try:
            async with self._client() as sdk:
                self._ready.set_result(sdk)
                await self._ended.wait()
        except asyncio.CancelledError:
            self._why = self._why or "it was let go before it was there"
        except BaseExceptionGroup as group:
            self._why = self._why or message_of(_first(group))
        except Exception as error:  # noqa: BLE001  no such command, no network, a wrong answer
            self._why = self._why or message_of(error)
        finally:
            self._ended.set()
            if not self._ready.done():
                self._ready.set_exception(ConnectionError(self._why))
                self._ready.exception()  # nobody may be waiting any more

    def _client(self) -> AbstractAsyncContextManager[Any]:
        server, target = self._server, cast("Any", self._server.target)
        if isinstance(target, str):
            target = self._watched(self._http(target) if server.is_url else self._started(target))
        # A call that the SDK makes in several rounds would be told as not sent by the last of them.
        return self._sdk.Client(target, input_required_max_rounds=0)

    def _started(self, command: str) -> AbstractAsyncContextManager[Any]:
        from mcp.client.stdio import get_default_environment
        from mcp.shared.message import SessionMessage

        def parse(line: bytes) -> Any:
            try:
                return SessionMessage(read(line, by_name=False))
            except ValueError as error:
                return error

        def dump(message: Any) -> bytes:
            text: str = message.message.model_dump_json(by_alias=True, exclude_unset=True)
            return text.encode()

        read = self._sdk.types.jsonrpc_message_adapter.validate_json
        env = get_default_environment() | self._server.env
        self._process = Process(command, self._server.arguments, env)
        return self._process.started(parse, dump)

    @asynccontextmanager
    async def _http(self, url: str) -> AsyncIterator[Any]:
        from mcp.client.streamable_http import streamable_http_client

        server = self._server
        async with (
            client(server.headers, server.timeout) as sending,
            streamable_http_client(url, http_client=sending) as streams,
        ):
            yield streams

    @asynccontextmanager
    async def _watched(self, transport: AbstractAsyncContextManager[Any]) -> AsyncIterator[Any]:
        async with transport as (reading, writing):
            yield Watched(reading, self._over), writing

    def _over(self, why: str, *, is_useless: bool = False) -> None:
        """Let it end for a reason: what is asked for next needs another one.

        Args:
            why: the reason.
            is_useless: the server is there, and talks nonsense.
        """
        if self.is_open:
            self._why = why
            self._is_useless = is_useless
            self._ended.set()
            if is_useless and self._process is not None:
                self._process.kill()
            logger.warning("mcp.lost", extra={"server": self._server.label, "why": why})

    async def _told(self, why: str) -> str:
        """Return why it ended, with the last words of a process."""
        if not self.is_open:
            await asyncio.wait({self._task}, timeout=_LAST_WORDS_SECONDS)
        said = self._process.last_words() if self._process is not None else ""
        return f"{why}; it said: {said}" if said else why


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return the first error in a group of the SDK's tasks."""
    found = group.exceptions[0]
    return _first(found) if isinstance(found, BaseExceptionGroup) else found
