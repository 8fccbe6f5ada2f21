"""The host at the other end: over a link, or by calls of its actor where no port is open to it."""

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from crew.config import Settings
from crew.define import frozen
from crew.hosts import HostLost, Place
from crew.hosts.cluster import address_of_node, ray_module, unwrapped
from crew.hosts.link import Address, Answer, Door, Link, Message, Work, dial
from crew.hosts.link.link import Handler
from crew.hosts.link.tls import contexts

DIAL_SECONDS = 5.0
"""After so long a port that does not answer is taken to be closed."""

Deliver = Callable[[Message], Awaitable[Answer]]

logger = logging.getLogger(__name__)


class Peer(Protocol):
    """Carries messages to a host."""

    async def ask(self, message: Message) -> Answer:
        """Return what it answers; see `Link.ask`."""
        ...

    def work(self, run: str, epoch: int, path: str) -> Work: ...

    def close(self) -> None: ...


@frozen
class Standing:
    """Where a host is, and its door, if it has one."""

    place: Place
    address: Address | None


class ActorPeer:
    """Carries messages by calls of an actor: each waits for its answer, also what is only sent.

    Args:
        actor: of the other host.
        over: called when it is found to be gone.
    """

    def __init__(self, actor: Any, over: Callable[[], None]) -> None:
        self._actor = actor
        self._over = over

    async def ask(self, message: Message) -> Answer:
        ray = ray_module()
        ref = self._actor.deliver.remote(message, ray.get_runtime_context().current_actor)
        try:
            answer: Answer = await unwrapped(ref)
        except asyncio.CancelledError:
            ray.cancel(ref)
            raise
        except HostLost:
            self._over()
            raise
        return answer

    async def send(self, message: Message, work: int) -> None:
        await self.ask(message)

    def work(self, run: str, epoch: int, path: str) -> Work:
        return Work(self, 0, run, epoch, path)

    def forget(self, work: int) -> None:
        """What was sent has been answered."""

    def close(self) -> None:
        """Nothing is open."""


async def open_door(settings: Settings, link: Callable[[], Link]) -> Door | None:
    """Let other hosts in, unless the settings say that no port is open between them.

    Raises:
        LinkRefused: none of the ports is free.
        SettingsInvalid: the certificate cannot be read.
    """
    if not settings.ports:
        return None
    listens, _ = contexts(settings.link_tls)
    host, token = address_of_node(), secrets.token_hex(32)
    return await Door.open(link, host=host, ports=settings.ports, token=token, tls=listens)


async def reach(
    standing: Standing,
    actor: Any,
    settings: Settings,
    deliver: Deliver,
    over: Callable[[], None],
) -> Peer:
    """Return what carries messages to a host and back.

    Args:
        standing: where it is.
        actor: the host.
        settings: how the door is reached.
        deliver: carries out what it asks.
        over: called when it is gone.

    Raises:
        LinkRefused: another release listens there.
    """
    link = await linked(
        standing, settings, lambda link, message: deliver(message), lambda link: over()
    )
    return link or ActorPeer(actor, over)


async def linked(
    standing: Standing, settings: Settings, handler: Handler, over: Callable[[Link], None]
) -> Link | None:
    """Return a link to a host, or None if no port is open to it.

    Args:
        standing: where it is.
        settings: how the door is reached.
        handler: carries out what it asks or sends.
        over: called when the link has ended.

    Raises:
        LinkRefused: another release listens there.
    """
    if standing.address is None:
        return None
    _, dials = contexts(settings.link_tls)
    try:
        async with asyncio.timeout(DIAL_SECONDS):
            return await dial(standing.address, lambda: Link(handler, over), tls=dials)
    except (HostLost, TimeoutError) as error:
        facts = {"host": standing.address.host, "port": standing.address.port}
        logger.warning("link.closed", extra={**facts, "error": str(error)})
        return None
