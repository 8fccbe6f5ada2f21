"""How the two ends of a link find each other: one listens, the other dials, both know the token.

The token itself never goes over the wire: each end proves that it knows it by a keyed hash of what
the other end made up.

Source: challenge and response, RFC 2195; HMAC, RFC 2104.
"""

import asyncio
import hashlib
import hmac
import ipaddress
import logging
import secrets
import ssl
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from typing import Self, cast

from crew.define import frozen
from crew.errors import LinkRefused
from crew.hosts import HostLost
from crew.hosts.link.frame import Decoder, Garbage, Item, encode, frame_of
from crew.hosts.link.link import Link

VERSION = 1
"""Of what goes over a link; ends of different releases do not talk."""
GREETING_SECONDS = 5.0
"""Within so many both ends have shown that they know the token."""
GREETING_BYTES = 4096
"""More of a frame is not taken from somebody who has not."""
_CHALLENGE_BYTES = 32

logger = logging.getLogger(__name__)


@frozen
class Address:
    """Where a door is, and what whoever comes must know."""

    host: str
    port: int
    token: str = ""


class Door:
    """Lets in whoever knows the token, and gives each a link."""

    def __init__(self, server: asyncio.Server, address: Address) -> None:
        self.address = address
        self._server = server

    @classmethod
    async def open(
        cls,
        link: Callable[[], Link],
        *,
        host: str = "127.0.0.1",
        ports: Iterable[int] = (0,),
        token: str = "",
        tls: ssl.SSLContext | None = None,
    ) -> Self:
        """Listen at the first port that is free.

        Args:
            link: makes the link of each end that comes.
            host: the address of an interface of this machine.
            ports: those that may be used; 0 is any.
            token: what the other end must know; without one only this machine is let in.
            tls: with which certificate what goes over it is encrypted.

        Raises:
            LinkRefused: no port is free, or the address is open to others and there is no token.
        """
        if not token and not ipaddress.ip_address(host).is_loopback:
            raise LinkRefused(message=f"a link at {host} wants a token; without one use 127.0.0.1")
        loop = asyncio.get_running_loop()
        for port in ports:
            try:
                server = await loop.create_server(
                    lambda: _Listening(token, link), host, port, ssl=tls
                )
            except OSError:
                continue
            taken = server.sockets[0].getsockname()[1]
            return cls(server, Address(host, taken, token))
        raise LinkRefused(message=f"no port of {list(ports)} is free at {host}")

    async def close(self) -> None:
        """Let nobody in any more; links that were made stay."""
        self._server.close()
        await self._server.wait_closed()


async def dial(
    address: Address, link: Callable[[], Link], *, tls: ssl.SSLContext | None = None
) -> Link:
    """Return a link to who listens at an address.

    Raises:
        HostLost: nobody does, or it went away meanwhile.
        LinkRefused: the ends do not know each other, or are of two releases.
    """
    loop = asyncio.get_running_loop()
    made: asyncio.Future[Link] = loop.create_future()
    try:
        transport, _ = await loop.create_connection(
            lambda: _Dialling(address.token, link, made), address.host, address.port, ssl=tls
        )
    except OSError as error:
        raise HostLost(f"nobody listens at {address.host}:{address.port} ({error})") from error
    try:
        return await made
    except BaseException:
        transport.abort()  # also where whoever dials is cancelled just when there is a link
        raise


class _Greeting(asyncio.Protocol, ABC):
    """An end of a stream until both have shown that they know the token."""

    def __init__(self, token: str, link: Callable[[], Link]) -> None:
        self._token = token
        self._link = link
        self._challenge = secrets.token_hex(_CHALLENGE_BYTES)
        self._decoder = Decoder(GREETING_BYTES)
        self._transport: asyncio.Transport | None = None
        self._clock: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        loop = asyncio.get_running_loop()
        self._clock = loop.call_later(GREETING_SECONDS, self._refuse, "no greeting came")

    def data_received(self, data: bytes) -> None:
        try:
            for items in self._decoder.feed(data):
                for item in items:
                    self._take(item)
                if self._transport is None:
                    return
        except (Garbage, ValueError) as garbage:
            self._refuse(str(garbage))

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop()

    @abstractmethod
    def _take(self, item: Item) -> None: ...

    def _say(self, kind: str, *fields: str) -> None:
        if self._transport is not None:
            self._transport.write(frame_of([encode(Item(kind, VERSION, fields))]))

    def _refuse(self, reason: str) -> None:
        if self._transport is not None:
            self._say("refused", reason)
            self._transport.close()
        self._stop()

    def _stop(self) -> None:
        self._transport = None
        if self._clock is not None:
            self._clock.cancel()

    def _hand_over(self) -> Link:
        """Let a link go on with the stream."""
        transport, link = self._transport, self._link()
        assert transport is not None
        self._stop()
        transport.set_protocol(link)
        link.connection_made(transport)
        link.data_received(self._decoder.rest())
        return link

    def _proof(self, end: str, challenge: str) -> str:
        """Return what only an end that knows the token can say; not the same for both."""
        made = hmac.new(self._token.encode(), f"{end} {challenge}".encode(), hashlib.sha256)
        return made.hexdigest()

    def _is_proof(self, said: str, end: str, challenge: str) -> bool:
        return hmac.compare_digest(said.encode(), self._proof(end, challenge).encode())


class _Listening(_Greeting):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._say("hello", self._challenge)

    def _take(self, item: Item) -> None:
        match item:
            case Item("proof", number, (str(proof), str(challenge))) if number == VERSION:
                if not self._is_proof(proof, "dials", self._challenge):
                    self._refuse("its token is another one")
                    return
                self._say("welcome", self._proof("listens", challenge))
                self._hand_over()
            case Item("proof", number):
                self._refuse(f"links of version {number}; here they are of {VERSION}")
            case _:
                raise Garbage(f"no greeting: {item.kind!r}")

    def _refuse(self, reason: str) -> None:
        if self._transport is not None:
            peer = self._transport.get_extra_info("peername")
            logger.warning("link.refused", extra={"peer": str(peer), "reason": reason})
        super()._refuse(reason)


class _Dialling(_Greeting):
    def __init__(self, token: str, link: Callable[[], Link], made: "asyncio.Future[Link]") -> None:
        super().__init__(token, link)
        self._made = made

    def _take(self, item: Item) -> None:
        match item:
            case Item("hello", number, (str(challenge),)) if number == VERSION:
                self._say("proof", self._proof("dials", challenge), self._challenge)
            case Item("welcome", _, (str(proof),)):
                if not self._is_proof(proof, "listens", self._challenge):
                    self._refuse("its token is another one")
                elif not self._made.done():
                    self._made.set_result(self._hand_over())
            case Item("refused", _, (str(reason),)):
                self._fail(LinkRefused(message=f"the link was refused: {reason}"))
            case _:
                self._refuse(f"links of version {item.number}; here they are of {VERSION}")

    def _refuse(self, reason: str) -> None:
        super()._refuse(reason)
        self._fail(LinkRefused(message=f"who listens there was refused: {reason}"))

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._fail(HostLost("who listens there went away"))

    def _fail(self, error: Exception) -> None:
        if not self._made.done():
            self._made.set_exception(error)
