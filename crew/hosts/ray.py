"""Hosts on Ray: actors in which runs are driven and agents work.

A run host holds runs: it owns their journals, and executes their steps. An agent host holds the
work of one agent, of many runs at once; it keeps no truth, but asks its run's host to append, and
waits for durability before anything leaves. Both are detached, named, asynchronous actors that Ray
restarts; a name carries the hash of the code it runs, so that new code starts new hosts, and the
old ones end what they have and stop.
"""

import asyncio
import copy
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Protocol, Self

from crew.call.record import Calls
from crew.config import Settings
from crew.errors import CrewError, StoreError
from crew.graph import Workflow
from crew.hosts import HostLost, Hosts, Place, here
from crew.hosts.actors import (
    ACTOR,
    MANY,
    answered,
    ctl,
    hash_of,
    host_name,
    library_hash,
    retire_others,
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
from crew.hosts.link import Answer, Message
from crew.hosts.remote import carry_out
from crew.telemetry import Metrics

IDLE_SECONDS = 600.0
"""After so long without work a host on a joined cluster stops."""
_RUN_HOST_CPUS = 0.1


class Worker(Protocol):
    """What a run host holds: a runtime that drives runs."""

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
        self, settings: Settings, store_url: str, make: MakeWorker, *, started: bool
    ) -> None:
        self._settings = replace(settings, docs=str(Path(settings.docs).absolute()))
        if not settings.docs:
            self._settings = settings
        self._store_url = store_url
        self._make = make
        self._started = started
        self._hosts: dict[str, Any] = {}

    @classmethod
    async def join(cls, settings: Settings, store_url: str, make: MakeWorker) -> Self:
        """Join the cluster of the settings, or start a quiet one on this machine.

        Raises:
            ExtraMissing: Ray is not installed.
            CrewError: no cluster answers at that address.
        """
        started = await asyncio.to_thread(connect, settings.ray_address)
        return cls(settings, store_url, make, started=started)

    async def serve(self, workflow: Workflow) -> None:
        """Have a run host that runs exactly this code; hosts of its older code drain."""
        name = self._name(workflow)
        if name in self._hosts:
            return
        host = await asyncio.to_thread(self._run_host, name, workflow)
        await answered(host.where.remote(), name)
        self._hosts[name] = host
        await retire_others(name)

    async def wake(self) -> None:
        """Let the run hosts look for new runs and letters at once."""
        for host in self._hosts.values():
            host.look.remote()

    async def raise_lost(self, number: int) -> None:
        """Raise what made a host let a run go, such as a store that fails; else do nothing."""
        for host in self._hosts.values():
            try:
                error = await unwrapped(host.lost_of.remote(number))
            except HostLost:
                continue  # it is being restarted, and takes its runs again
            if error is not None:
                raise error

    async def metrics(self) -> list[Metrics]:
        """Return what each run host counted; one that is being restarted is left out."""
        asked = [unwrapped(host.metrics.remote()) for host in self._hosts.values()]
        answers = await asyncio.gather(*asked, return_exceptions=True)
        return [answer for answer in answers if isinstance(answer, Metrics)]

    async def close(self) -> None:
        """Leave the cluster; one that was started here ends with its hosts."""
        if not self._started:
            return
        leaving = [host.leave.remote() for host in self._hosts.values()]
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
            shipped = ray.cloudpickle.dumps((workflow, self._make))
        return actor.options(
            **ACTOR, name=name, num_cpus=_RUN_HOST_CPUS, max_concurrency=MANY
        ).remote(self._store_url, self._settings, shipped, _idle(started=self._started))


class RunHost:
    """A process that owns runs and drives them."""

    async def __init__(
        self, store_url: str, settings: Settings, shipped: bytes, idle: float | None
    ) -> None:
        self._error: CrewError | None = None
        self._last_use = time.monotonic()
        workflow, make = ray_module().cloudpickle.loads(shipped)
        hosts = AgentHosts(settings, workflow, idle, self._carry_out)
        self._worker: Worker = make(store_url, settings, workflow, hosts)
        try:
            await self._worker.__aenter__()
        except CrewError as error:
            # Not raised: an actor that dies in its constructor hides why.
            self._error = error
        look_less()
        self._watching = asyncio.create_task(self._stop_when_idle(idle))

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
    async def where(self) -> Place:
        if self._error is not None:
            raise self._error
        return here()

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
