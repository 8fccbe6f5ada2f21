"""What a process has of one MCP server: a connection, made when it is needed, and made anew."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from crew.call.record import CutOff, Equipment
from crew.content import Content
from crew.errors import ToolError
from crew.mcp.connection import Connection, Lost, NotSent, Refused, Useless
from crew.mcp.content import content_of, words_of
from crew.mcp.definition import IDEMPOTENCY_KEY, MCP
from crew.mcp.progress import Progress, Report
from crew.message import Json

__all__ = ["Session", "session_of"]

_SHORTEST_SECRET = 6

T = TypeVar("T")


class _Late(Exception):
    """The server has not answered in time."""


def session_of(server: MCP, equipment: Equipment) -> "Session":
    """Return what a process has of a server."""
    return equipment.keep((Session, server.key), lambda: Session(server))


class Session:
    """One server, as a process talks to it; closed with the process."""

    def __init__(self, server: MCP) -> None:
        self._server = server
        self._connection: Connection | None = None
        self._ending: list[Connection] = []
        self._is_silent = False
        """Whether the server has not answered in time when it was asked last."""

    def connect(self) -> Connection:
        """Return a connection, which is made now, and need not be there yet.

        Raises:
            ExtraMissing: the SDK is not installed.
        """
        if self._connection is None or not self._connection.is_open:
            self._let_go()
            self._connection, self._is_silent = Connection(self._server), False
        return self._connection

    async def listing(self) -> list[dict[str, Json]]:
        """Return the tools of the server, as MCP's JSON has them.

        Raises:
            ToolError: it does not tell, or not in time.
        """
        return await self._in_time("list its tools", Connection.listing, is_repeatable=True)

    async def call(
        self,
        tool: str,
        arguments: dict[str, Json],
        *,
        effect: str,
        key: str = "",
        report: Report | None = None,
    ) -> Content:
        """Call a tool, and return its result as a model reads it.

        Args:
            tool: its name at the server.
            arguments: what the model gave.
            effect: what a repeated call does; one that acts once is sent once.
            key: by which the server could tell that a call is made again.
            report: gets lines about how far it is, numbered from 0.

        Raises:
            ToolError: it failed.
            CutOff: it acts once, and nobody knows whether it did.
        """
        meta = {IDEMPOTENCY_KEY: key} if key else {}

        progress = None if report is None else Progress(report, self._masked)

        async def made(connection: Connection) -> dict[str, Json]:
            return await connection.call(tool, arguments, meta, progress)

        result = await self._in_time(tool, made, tool=tool, is_repeatable=effect != "once")
        if result.get("isError"):
            said = words_of(result) or "it does not say why"
            raise ToolError(message=self._masked(f"{tool} failed: {said}"), tool=tool)
        return content_of(result)

    async def close(self) -> None:
        """End the connection, and wait for its end and those of earlier ones."""
        self._let_go()
        while self._ending:
            await self._ending.pop().ended()

    def _let_go(self) -> None:
        if self._connection is not None:
            self._connection.end(at_once=self._is_silent)
            self._ending = [each for each in self._ending if not each.has_ended]
            self._ending.append(self._connection)
            self._connection = None

    async def _in_time(
        self,
        what: str,
        ask: Callable[[Connection], Awaitable[T]],
        *,
        tool: str = "",
        is_repeatable: bool,
    ) -> T:
        """Ask something of the server, once more where the first connection was of no use.

        Raises:
            ToolError: there is no answer, or it is an error.
            CutOff: it must not be repeated, and may have happened.
        """
        for is_last in (False, True):
            try:
                return await self._tried(what, ask, tool)
            except Refused as error:
                raise self._told(what, error) from error
            except (NotSent, Lost, _Late) as error:
                problem = self._told(what, error)
                if not is_repeatable and not isinstance(error, NotSent):
                    raise CutOff(problem.message) from error
                if is_last or isinstance(error, (Useless, _Late)):
                    raise problem from error
        raise AssertionError("the last of two tries returns or raises")

    async def _tried(self, what: str, ask: Callable[[Connection], Awaitable[T]], tool: str) -> T:
        """Ask something on the connection that there is; one that is not made in time is given up.

        Raises:
            NotSent, Lost, Refused, ToolError: there is no answer.
            _Late: it has not come in time.
        """
        seconds = self._server.timeout
        connection = self.connect()
        try:
            async with asyncio.timeout(seconds):
                await connection.made()
                if tool:
                    await connection.knows(tool)
        except TimeoutError as error:
            if connection is self._connection:
                self._is_silent = True
                self._let_go()
            late = _Late(f"no connection within its timeout of {seconds} s")
            raise self._told(what, late) from error
        try:
            async with asyncio.timeout(seconds):
                answer = await ask(connection)
        except TimeoutError as error:
            self._is_silent = True
            raise _Late(f"no answer within its timeout of {seconds} s") from error
        self._is_silent = False
        return answer

    def _told(self, what: str, error: Exception) -> ToolError:
        words = f"MCP server {self._server.label!r} ({what}): {error}"
        return ToolError(message=self._masked(words), tool=what)

    def _masked(self, words: str) -> str:
        """Return words without what the user has given the server in confidence."""
        given = (*self._server.env.values(), *self._server.headers.values())
        for secret in (word for value in given for word in (value, value.rpartition(" ")[2])):
            if len(secret) >= _SHORTEST_SECRET:
                words = words.replace(secret, "***")
        return words
