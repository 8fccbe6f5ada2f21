"""Notices of runs over a link: what two runtimes that share a store tell each other."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Protocol

from crew.hosts import HostLost
from crew.hosts.link import Link, Message
from crew.message import Json

VERB = "notices"

Notice = Sequence[Json]


class Runtimes(Protocol):
    """The other runtimes, as one of them knows them."""

    name: str
    """Its own."""

    def receive(
        self,
        name: str,
        notices: Sequence[Notice],
        send: Callable[[Sequence[Notice]], bool],
    ) -> None:
        """Act upon notices of another one, which `send` reaches."""
        ...

    def lose(self, name: str) -> None:
        """Forget another one, which is gone."""
        ...


class Notices:
    """The notices that go over the links of one process.

    Args:
        runtimes: those at the other ends.
    """

    def __init__(self, runtimes: Runtimes) -> None:
        self._runtimes = runtimes
        self._names: dict[Link, str] = {}
        self._sending = set[asyncio.Task[None]]()

    def meet(self, link: Link, name: str) -> None:
        """Know who is at the other end of a link."""
        self.take(link, Message(VERB, body=[name, []]))

    def take(self, link: Link, message: Message) -> None:
        """Act upon a message with notices.

        Raises:
            ValueError: it is another one.
        """
        if message.verb != VERB:
            raise ValueError(f"{message.verb!r} is nothing that a runtime tells another")
        name, notices = message.body
        self._names[link] = name
        self._runtimes.receive(name, notices, lambda more: self._start_sending(link, more))

    def part(self, link: Link) -> None:
        """Forget who was at the other end of a link that is over."""
        if (name := self._names.pop(link, None)) is not None:
            self._runtimes.lose(name)

    def _start_sending(self, link: Link, notices: Sequence[Notice]) -> bool:
        if link.is_over:
            return False
        sending = asyncio.get_running_loop().create_task(self._send(link, notices))
        self._sending.add(sending)
        sending.add_done_callback(self._sending.discard)
        return True

    async def _send(self, link: Link, notices: Sequence[Notice]) -> None:
        try:
            await link.send(Message(VERB, body=[self._runtimes.name, notices]), 0)
        except HostLost:
            self.part(link)
