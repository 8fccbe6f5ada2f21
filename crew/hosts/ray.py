"""Hosts on Ray: actors in which runs are driven and agents work.

A run host holds runs: it owns their journals, and executes their steps. An agent host holds the
work of one agent, of many runs at once; it keeps no truth, but asks its run's host to append, and
waits for durability before anything leaves. Both are detached, named, asynchronous actors that Ray
restarts; a name carries the hash of the code it runs, so that new code starts new hosts, and the
old ones end what they have and stop.
"""

import asyncio
import copy
import functools
import logging
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Protocol, Self

from crew.call.record import Calls
from crew.config import Settings
from crew.define import define, frozen
from crew.errors import CrewError, StoreError
from crew.graph import Workflow
from crew.hosts import HostLost, Hosts, here
from crew.hosts.actors import (
    ACTOR,
    AGAIN_SECONDS,
    MANY,
    START_SECONDS,
    ctl,
    hash_of,
    host_name,
    in_pieces,
    is_there,
    library_hash,
    retire_others,
    started,
    stop_this_host,
)
from crew.hosts.agents import AgentHosts
from crew.hosts.cluster import (
    connect,
    disconnect,
    ray_module,
    settled,
    travelling,
    unwrapped,
)
from crew.hosts.collector import look_less
from crew.hosts.link import Answer, Door, Link, Message
from crew.hosts.notices import Notices, Runtimes
from crew.hosts.peer import Standing, linked, open_door
from crew.hosts.remote import carry_out
from crew.hosts.travel import workflow_bytes
from crew.telemetry import Metrics

IDLE_SECONDS = 600.0
"""After so long without work a host on a joined cluster stops."""
LINK_SECONDS = 0.5
"""How long a start waits for a link to its host; later ones use it once it is there."""
_RUN_HOST_CPUS = 0.1

logger = logging.getLogger(__name__)


class Worker(Protocol):
    """What a run host holds: a runtime that drives runs."""

    @property
    def other_runtimes(self) -> Runtimes: ...

    async def __aenter__(self) -> Any: ...
    async def __aexit__(self, *exc: object) -> None: ...
    def calls_of(self, run: str, epoch: int) -> Calls: ...
    def look(self) -> None: ...
    def lost_of(self, number: int) -> StoreError | None: ...
    def active(self) -> int: ...
    def metrics(self) -> Metrics: ...
    async def drain(self) -> None: ...


MakeWorker = Callable[[str, Settings, Workflow, Hosts], Worker]


class Fleet:
    """The hosts of one program's runs, on a cluster that is joined, or started for it."""

    def __init__(
        self,
        settings: Settings,
        store_url: str,
        make: MakeWorker,
        runtimes: Runtimes,
        *,
        started: bool,
    ) -> None:
        self._settings = replace(settings, docs=str(Path(settings.docs).absolute()))
        if not settings.docs:
            self._settings = settings
        self._store_url = store_url
        self._make = make
        self._started = started
        self._notices = Notices(runtimes)
        self._hosts: dict[str, _Host] = {}

    @classmethod
    async def join(
        cls, settings: Settings, store_url: str, make: MakeWorker, runtimes: Runtimes
    ) -> Self:
        """Join the cluster of the settings, or start a quiet one on this machine.

        Args:
            settings: those of the hosts, too.
            store_url: where the runs are.
            make: makes what a run host holds.
            runtimes: gets what the run hosts tell of runs.

        Raises:
            ExtraMissing: Ray is not installed.
            CrewError: no cluster answers at that address.
        """
        started = await asyncio.to_thread(connect, settings.ray_address)
        return cls(settings, store_url, make, runtimes, started=started)

    async def serve(self, workflow: Workflow) -> None:
        """Have a run host that runs exactly this code; hosts of its older code drain."""
        name = self._name(workflow)
        if name in self._hosts:
            return
        # One that is there may be in the midst of a restart; a new one that dies would die again.
        seconds = START_SECONDS if await asyncio.to_thread(is_there, name) else 0.0
        actor, serving = await started(
            lambda: self._run_host(name, workflow), name, seconds=seconds
        )
        if name in self._hosts:
            return  # somebody else has asked for it meanwhile
        host = self._hosts[name] = _Host(actor, serving.owner)
        host.linking = asyncio.create_task(self._link(name, host, serving))
        await asyncio.wait((host.linking,), timeout=LINK_SECONDS)
        await retire_others(name)

    def host_of(self, workflow: Workflow) -> str | None:
        """Return the name of the host that runs exactly this code; None while it is restarted."""
        host = self._hosts.get(self._name(workflow))
        return None if host is None else host.owner

    async def wake(self) -> None:
        """Let those run hosts look for new runs and letters at once to which there is no link."""
        for host in self._hosts.values():
            if host.link is None:
                host.actor.look.remote()

    async def _link(self, name: str, host: "_Host", serving: "Serving") -> None:
        """Open a link to a run host, if a port is open to it."""
        over = functools.partial(self._over, name, host)
        try:
            link = await linked(serving.standing, self._settings, self._heard, over)
        except CrewError as error:
            logger.warning("link.closed", extra={"host": name, "error": str(error)})
            return
        if link is not None and not link.is_over:
            self._notices.meet(link, serving.owner)
            host.link, host.owner = link, serving.owner

    def _over(self, name: str, host: "_Host", link: Link) -> None:
        self._notices.part(link)
        host.link = host.owner = None
        if name in self._hosts:
            host.linking = asyncio.create_task(self._link_again(name, host))

    async def _link_again(self, name: str, host: "_Host") -> None:
        """Open a link to the next incarnation of a run host; forget one that has stopped."""
        try:
            serving = await self._where(name, host.actor)
        except CrewError as error:
            logger.warning("host.broken", extra={"host": name, "error": str(error)})
            serving = None
        if serving is None:
            self._hosts.pop(name, None)  # whoever starts a run next is told why, or gets a new one
        else:
            await self._link(name, host, serving)

    async def _where(self, name: str, actor: Any) -> "Serving | None":
        """Return where a run host is once Ray has restarted it; None if it has stopped."""
        while True:
            try:
                serving: Serving = await unwrapped(actor.where.remote())
            except HostLost:
                if not await asyncio.to_thread(is_there, name):
                    return None
                await asyncio.sleep(AGAIN_SECONDS)
            else:
                return serving

    async def _heard(self, link: Link, message: Message) -> None:
        self._notices.take(link, message)

    async def raise_lost(self, number: int) -> None:
        """Raise what made a host let a run go, such as a store that fails; else do nothing."""
        for host in list(self._hosts.values()):
            try:
                error = await unwrapped(host.actor.lost_of.remote(number))
            except HostLost:
                continue  # it is being restarted, and takes its runs again
            if error is not None:
                raise error

    async def metrics(self) -> list[Metrics]:
        """Return what each run host counted; one that is being restarted is left out."""
        asked = [unwrapped(host.actor.metrics.remote()) for host in self._hosts.values()]
        answers = await asyncio.gather(*asked, return_exceptions=True)
        return [answer for answer in answers if isinstance(answer, Metrics)]

    async def close(self) -> None:
        """Leave the cluster; one that was started here ends with its hosts."""
        hosts, self._hosts = list(self._hosts.values()), dict[str, _Host]()
        await asyncio.gather(*(host.close() for host in hosts))
        if not self._started:
            return
        leaving = [host.actor.leave.remote() for host in hosts]
        if leaving:
            await asyncio.wait([asyncio.ensure_future(settled(ref)) for ref in leaving], timeout=5)
        await asyncio.to_thread(disconnect)

    def _name(self, workflow: Workflow) -> str:
        code = hash_of(library_hash(), workflow.code_hash(), repr(asdict(self._settings)))
        return host_name("run", workflow, hash_of(self._store_url), code)

    def _run_host(self, name: str, workflow: Workflow) -> Any:
        ray = ray_module()
        actor = ray.remote(concurrency_groups={"ctl": 64})(RunHost)
        with travelling(workflow):
            shipped = workflow_bytes(
                workflow, lambda value: ray.cloudpickle.dumps((value, self._make))
            )
        idle = _idle(started=self._started)
        return actor.options(
            **ACTOR, name=name, num_cpus=_RUN_HOST_CPUS, max_concurrency=MANY
        ).remote(self._store_url, self._settings, idle, *in_pieces(shipped))


@frozen
class Serving:
    """Where a run host is, and under which name it owns runs."""

    standing: Standing
    owner: str


@define
class _Host:
    """A run host, the name under which it owns runs, and the link to it while there is one."""

    actor: Any
    owner: str | None
    link: Link | None = None
    linking: "asyncio.Task[None] | None" = None

    async def close(self) -> None:
        if self.linking is not None:
            self.linking.cancel()
            await asyncio.wait({self.linking})
        if self.link is not None:
            self.link.close()


class RunHost:
    """A process that owns runs and drives them."""

    async def __init__(
        self, store_url: str, settings: Settings, idle: float | None, *shipped: bytes
    ) -> None:
        self._error: CrewError | None = None
        self._last_use = time.monotonic()
        workflow, make = ray_module().cloudpickle.loads(b"".join(shipped))
        hosts = AgentHosts(settings, workflow, idle, self._carry_out)
        self._worker: Worker = make(store_url, settings, workflow, hosts)
        try:
            await self._worker.__aenter__()
        except CrewError as error:
            # Not raised: an actor that dies in its constructor hides why.
            self._error = error
        self._notices = Notices(self._worker.other_runtimes)
        self._door = await self._opened(settings)
        look_less()
        self._watching = asyncio.create_task(self._stop_when_idle(idle))

    async def _opened(self, settings: Settings) -> Door | None:
        """Let the programs in that start runs; where no port is free, they call this actor."""
        try:
            return await open_door(settings, lambda: Link(self._heard, self._notices.part))
        except CrewError as error:
            logger.warning("link.closed", extra={"error": str(error)})
            return None

    async def _heard(self, link: Link, message: Message) -> None:
        self._last_use = time.monotonic()
        self._notices.take(link, message)

    async def deliver(self, message: Message, agent_host: Any) -> Answer:
        """Carry out a message of an agent host to which no link is open."""
        return await self._carry_out(message)

    async def _carry_out(self, message: Message) -> Answer:
        """Carry out a call that an agent makes, which works on a run under an epoch."""
        self._last_use = time.monotonic()
        calls = self._worker.calls_of(message.run, message.epoch)
        return Answer(await carry_out(calls, message.verb, message.body))

    async def look(self) -> None:
        self._last_use = time.monotonic()
        self._worker.look()

    async def lost_of(self, number: int) -> StoreError | None:
        return self._worker.lost_of(number)

    async def metrics(self) -> Metrics:
        # A copy: what is returned is pickled in another thread.
        return copy.deepcopy(self._worker.metrics())

    @ctl
    async def where(self) -> Serving:
        if self._error is not None:
            raise self._error
        address = self._door.address if self._door else None
        return Serving(Standing(here(), address), self._worker.other_runtimes.name)

    async def leave(self) -> None:
        """Give up the runs as their journals have them."""
        await self._worker.__aexit__(None, None, None)

    async def retire(self) -> None:
        """Newer code is there: end what is under way, then stop."""
        await self._worker.drain()
        await self.leave()
        stop_this_host()

    async def _stop_when_idle(self, idle: float | None) -> None:
        while idle is not None:
            await asyncio.sleep(idle / 10)
            if self._worker.active():
                self._last_use = time.monotonic()
            elif time.monotonic() - self._last_use > idle:
                await self.leave()
                stop_this_host()


def _idle(*, started: bool) -> float | None:
    return None if started else IDLE_SECONDS
