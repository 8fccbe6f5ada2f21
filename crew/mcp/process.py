"""A server that is a process of ours: started, talked with in lines, and ended with its children.

The SDK's own way reads a line of any length, and copies what it has with each piece; here one that
does not end is no message, and the end of the server.
"""

import asyncio
import os
import signal
from asyncio.subprocess import PIPE, SubprocessStreamProtocol
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

__all__ = ["Process"]

MOST_LINE_BYTES = 16 << 20
"""Of one message, such as a picture as base64."""
GRACE_SECONDS = 2.0
"""For a server to end once nobody talks to it, then after SIGTERM, then after SIGKILL."""
MOST_LAST_WORDS = 2_000
_LAST_WORDS_SECONDS = 0.2
"""For what is left of them to be read; a child that lives on may hold them open."""

Parse = Callable[[bytes], Any]
Dump = Callable[[Any], bytes]


class Process:
    """One server.

    Args:
        command: the program.
        arguments: its own.
        env: all of its environment.
    """

    def __init__(self, command: str, arguments: Sequence[str], env: dict[str, str]) -> None:
        self._words, self._env = (command, *arguments), env
        self._last = b""
        self._number = 0
        """Of the process and its group; 0 while there is none."""

    @asynccontextmanager
    async def started(self, parse: Parse, dump: Dump) -> AsyncIterator[tuple[Any, Any]]:
        """Start it, and yield the streams that the SDK reads and writes.

        Args:
            parse: makes a message of a line, or an error.
            dump: makes a line of a message, without its end.

        Raises:
            OSError: there is no such program, or it may not be started.
        """
        loop = asyncio.get_running_loop()
        # As asyncio.create_subprocess_exec does, which hides what has to be closed.
        transport, protocol = await loop.subprocess_exec(
            lambda: SubprocessStreamProtocol(limit=MOST_LINE_BYTES, loop=loop),
            *self._words,
            env=self._env,
            stdin=PIPE,
            stdout=PIPE,
            stderr=PIPE,
            start_new_session=True,
        )
        process = asyncio.subprocess.Process(transport, protocol, loop)
        self._number = process.pid
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        telling = asyncio.create_task(self._listen(process.stderr))
        try:
            yield _Lines(process.stdout, parse), _Writing(process.stdin, dump)
        finally:
            await self._end(process)
            await asyncio.wait({telling}, timeout=_LAST_WORDS_SECONDS)
            telling.cancel()
            transport.close()
            await asyncio.wait({telling})

    def kill(self) -> None:
        """End it at once, with its children: it is of no use."""
        self._signal(signal.SIGKILL)

    def last_words(self) -> str:
        """Return the last that it wrote to its standard error, on one line."""
        return " ".join(self._last.decode(errors="replace").split())

    def _signal(self, number: signal.Signals) -> None:
        if self._number:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._number, number)

    async def _end(self, process: asyncio.subprocess.Process) -> None:
        """Let it end; kill it if it does not.

        Source: the shutdown of stdio in MCP's specification.
        """
        assert process.stdin is not None
        process.stdin.close()
        for number in (None, signal.SIGTERM, signal.SIGKILL):
            if number is not None:
                self._signal(number)
            with suppress(TimeoutError):
                async with asyncio.timeout(GRACE_SECONDS):
                    await process.wait()
                    break
        self._number = 0  # it may be another's from now on

    async def _listen(self, stream: asyncio.StreamReader) -> None:
        """Keep the last words; whatever is written is read, so that nothing holds it up."""
        while read := await stream.read(1 << 16):
            self._last = (self._last + read)[-MOST_LAST_WORDS:]


class _Stream:
    """What the SDK expects of a stream beside its messages."""

    async def aclose(self) -> None:
        """Nothing: the process is ended as a whole."""

    async def __aenter__(self) -> "_Stream":
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.aclose()


class _Lines(_Stream):
    """Messages from a process, a line each."""

    def __init__(self, stream: asyncio.StreamReader, parse: Parse) -> None:
        self._stream, self._parse = stream, parse

    def __aiter__(self) -> "_Lines":
        return self

    async def __anext__(self) -> Any:
        try:
            line = await self._stream.readline()
        except ValueError as error:
            raise StopAsyncIteration from error  # it does not end
        except OSError as error:
            raise StopAsyncIteration from error
        if not line.endswith(b"\n"):
            raise StopAsyncIteration
        return self._parse(line)


class _Writing(_Stream):
    """Messages to a process."""

    def __init__(self, stream: asyncio.StreamWriter, dump: Dump) -> None:
        self._stream, self._dump = stream, dump

    async def send(self, item: Any) -> None:
        self._stream.write(self._dump(item) + b"\n")
        await self._stream.drain()
