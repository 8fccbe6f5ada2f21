"""A pair of sockets between a parent and a worker, over which each may ask the other."""

import asyncio
import contextlib
import pickle
import socket
from collections.abc import Awaitable, Callable
from typing import Any, Self, TypeAlias

__all__ = ["Answers", "Link"]

Answers: TypeAlias = Callable[..., Awaitable[object]]
"""Answers what the other end asks: is given a word, and what goes with it."""

_SIZE_BYTES = 4
_REPLY = ""


class Link:
    """One end.

    Messages are pickled: the other end is this very program, and nobody else has the sockets.

    Args:
        reader: of the socket.
        writer: of it.
        answers: what is asked is carried out in the order in which it arrives, to its first await.
    """

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, answers: Answers
    ) -> None:
        self._reader, self._writer, self._answers = reader, writer, answers
        self._asked: dict[int, asyncio.Future[Any]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._last = 0
        self._is_open = True

    @classmethod
    async def over(cls, end: socket.socket, answers: Answers) -> Self:
        """Open a link over a connected socket, which is its own from here on."""
        return cls(*await asyncio.open_unix_connection(sock=end), answers)

    async def ask(self, word: str, *facts: object) -> Any:
        """Ask the other end, and return what it answers.

        Raises:
            ConnectionError: it is gone.
        """
        if not self._is_open:
            raise ConnectionResetError
        self._last += 1
        number, answer = self._last, asyncio.get_running_loop().create_future()
        self._asked[number] = answer
        self._send(number, word, facts)
        try:
            return await answer
        finally:
            del self._asked[number]

    def notify(self, word: str, *facts: object) -> None:
        """Say something that wants no answer; lost if the other end is gone."""
        self._send(0, word, facts)

    async def serve(self) -> None:
        """Answer until the other end is gone."""
        try:
            with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
                while True:
                    self._arrived(*await self._message())
        finally:
            self._is_open = False
            for answer in self._asked.values():
                if not answer.done():
                    answer.set_exception(ConnectionResetError())
            self._writer.close()
            # What was asked last is carried out too, before whoever asked is taken to be gone.
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _message(self) -> tuple[int, str, tuple[Any, ...]]:
        size = int.from_bytes(await self._reader.readexactly(_SIZE_BYTES))
        return pickle.loads(await self._reader.readexactly(size))  # noqa: S301  it is our own

    def _arrived(self, number: int, word: str, facts: tuple[Any, ...]) -> None:
        if word == _REPLY:
            answer = self._asked.get(number)
            if answer is not None and not answer.done():
                answer.set_result(facts[0])
            return
        task = asyncio.create_task(self._answer(number, word, facts))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, number: int, word: str, facts: tuple[Any, ...]) -> None:
        result = await self._answers(word, *facts)
        if number:
            self._send(number, _REPLY, (result,))

    def _send(self, number: int, word: str, facts: tuple[object, ...]) -> None:
        if self._is_open:
            body = pickle.dumps((number, word, facts))
            self._writer.write(len(body).to_bytes(_SIZE_BYTES) + body)
