"""Hosts on Ray: actors in which runs are driven and agents work.

A run host holds runs: it owns their journals, and executes their steps. An agent host holds the
work of one agent, of many runs at once; it keeps no truth, but asks its run's host to append, and
waits for durability before anything leaves. Both are detached, named, asynchronous actors that Ray
restarts; a name carries the hash of the code it runs, so that new code starts new hosts, and the
old ones end what they have and stop.

Calls are never retried by Ray (`max_task_retries=0`): a retry would repeat what the journal holds.
"""

import asyncio
import copy
import functools
import hashlib
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Protocol, Self, cast

from crew.budget import Allowance
from crew.call.record import AgentTask, Calls, Equipment, Performer
from crew.config import Settings
from crew.errors import CrewError, Fenced, StoreError
from crew.event import CallKind, Failure
from crew.fold.calls import Record
from crew.graph import Workflow
from crew.hosts import HostLost, Hosts, Place, Resources, here
from crew.hosts.cluster import (
    NAMESPACE,
    connect,
    disconnect,
    ray_module,
    settled,
    travelling,
    unwrapped,
)
from crew.message import Json
from crew.telemetry import Metrics

IDLE_SECONDS = 600.0
"""After so long without work a host on a joined cluster stops."""
START_SECONDS = 120.0
"""How long a host may take to start before its resources are taken to be missing."""

_RUN_HOST_CPUS = 0.1
_MANY = 10_000


_ACTOR: dict[str, Any] = {
    "namespace": NAMESPACE,
    "lifetime": "detached",
    "get_if_exists": True,
    "max_restarts": -1,
    "max_task_retries": 0,
}


def _ctl(method: Any) -> Any:
    """Put an actor's method into the group with a loop of its own, which no work can block."""
    method.__ray_concurrency_group__ = "ctl"
    return method


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
        await _answered(host.where.remote(), name)
        self._hosts[name] = host
        await _retire_others(name)

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
        code = _hash(library_hash(), workflow.code_hash(), repr(asdict(self._settings)))
        return _host_name("run", workflow, _hash(self._store_url), code)

    def _run_host(self, name: str, workflow: Workflow) -> Any:
        ray = ray_module()
        actor = ray.remote(concurrency_groups={"ctl": 64})(RunHost)
        with travelling(workflow):
            shipped = ray.cloudpickle.dumps((workflow, self._make))
        return actor.options(
            **_ACTOR, name=name, num_cpus=_RUN_HOST_CPUS, max_concurrency=_MANY
        ).remote(self._store_url, self._settings, shipped, _idle(started=self._started))


class RunHost:
    """A process that owns runs and drives them."""

    async def __init__(
        self, store_url: str, settings: Settings, shipped: bytes, idle: float | None
    ) -> None:
        self._error: CrewError | None = None
        self._last_use = time.monotonic()
        workflow, make = ray_module().cloudpickle.loads(shipped)
        hosts = RayHosts(settings, workflow, idle)
        self._worker: Worker = make(store_url, settings, workflow, hosts)
        try:
            await self._worker.__aenter__()
        except CrewError as error:
            # Not raised: an actor that dies in its constructor hides why.
            self._error = error
        self._watching = asyncio.create_task(self._stop_when_idle(idle))

    async def call(self, verb: str, run: str, epoch: int, arguments: tuple[Any, ...]) -> Any:
        """Carry out one method of `Calls` for an agent host that works on `run` under `epoch`."""
        self._last_use = time.monotonic()
        return await getattr(self._worker.calls_of(run, epoch), verb)(*arguments)

    async def look(self) -> None:
        self._last_use = time.monotonic()
        self._worker.look()

    async def lost_of(self, number: int) -> StoreError | None:
        return self._worker.lost_of(number)

    async def metrics(self) -> Metrics:
        # A copy: what is returned is pickled in another thread.
        return copy.deepcopy(self._worker.metrics())

    @_ctl
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
        _stop_this_host()

    async def _stop_when_idle(self, idle: float | None) -> None:
        while idle is not None:
            await asyncio.sleep(idle / 10)
            if self._worker.active():
                self._last_use = time.monotonic()
            elif time.monotonic() - self._last_use > idle:
                await self.leave()
                _stop_this_host()


class AgentHost:
    """A process in which one agent's work runs, many tasks at once."""

    async def __init__(self, settings: Settings, idle: float | None) -> None:
        self._equipment = Equipment(settings)
        self._agents: dict[bytes, Performer] = {}
        self._tasks: dict[tuple[str, str], asyncio.Task[dict[str, Json]]] = {}
        self._last_use = time.monotonic()
        self._watching = asyncio.create_task(self._stop_when_idle(idle))

    @_ctl
    async def where(self) -> Place:
        return here()

    async def perform(self, shipped: bytes, task: AgentTask, run_host: Any) -> dict[str, Json]:
        """Do an agent's task; an older dispatch of the same task is stopped first."""
        self._last_use = time.monotonic()
        place = (task.run, task.path)
        if (older := self._tasks.get(place)) is not None:
            older.cancel()
        agent = self._agents.get(shipped)
        if agent is None:
            agent = self._agents[shipped] = ray_module().cloudpickle.loads(shipped)
        calls = RemoteCalls(run_host, task.run, task.epoch)
        work = asyncio.ensure_future(agent.perform(task, calls, self._equipment))
        self._tasks[place] = work
        try:
            return await work
        except asyncio.CancelledError:
            work.cancel()
            raise
        finally:
            self._last_use = time.monotonic()
            if self._tasks.get(place) is work:
                del self._tasks[place]

    async def retire(self) -> None:
        """Newer code is there: end what is under way, then stop."""
        while self._tasks:
            await asyncio.wait(set(self._tasks.values()))
        await self._equipment.close()
        _stop_this_host()

    async def _stop_when_idle(self, idle: float | None) -> None:
        while idle is not None:
            await asyncio.sleep(idle / 10)
            if not self._tasks and time.monotonic() - self._last_use > idle:
                await self.retire()


class RemoteCalls:
    """The journal of a run, seen from an agent host: each method asks the run's host."""

    def __init__(self, run_host: Any, run: str, epoch: int) -> None:
        self._run_host, self._run, self._epoch = run_host, run, epoch

    async def begin(
        self, path: str, call: CallKind, fingerprint: str, data: dict[str, Json]
    ) -> Record | None:
        return cast("Record | None", await self._ask("begin", path, call, fingerprint, data))

    async def restart(
        self, path: str, call: CallKind, fingerprint: str, data: dict[str, Json]
    ) -> None:
        await self._ask("restart", path, call, fingerprint, data)

    async def allowance(self, path: str, needed: int) -> Allowance | None:
        return cast("Allowance | None", await self._ask("allowance", path, needed))

    async def complete(self, path: str, call: CallKind, data: dict[str, Json]) -> None:
        await self._ask("complete", path, call, data)

    async def fail(
        self, path: str, call: CallKind, error: Failure, usage: dict[str, int] | None = None
    ) -> None:
        await self._ask("fail", path, call, error, usage)

    async def mark_unknown(self, path: str, call: CallKind) -> None:
        await self._ask("mark_unknown", path, call)

    async def emit_text(self, path: str, text: str) -> None:
        await self._ask("emit_text", path, text)

    async def discard_text(self, path: str) -> None:
        await self._ask("discard_text", path)

    async def _ask(self, verb: str, *arguments: Any) -> Any:
        try:
            return await unwrapped(
                self._run_host.call.remote(verb, self._run, self._epoch, arguments)
            )
        except HostLost as lost:
            # Whoever drives the run next dispatches this task again, under a new epoch.
            raise Fenced(run=self._run, message=f"the host of run {self._run} is gone") from lost


class RayHosts:
    """Agents' work goes to Ray actors, one per agent definition; used inside a run host."""

    def __init__(self, settings: Settings, workflow: Workflow, idle: float | None) -> None:
        self._settings = settings
        self._workflow = workflow
        self._idle = idle
        self._handles: dict[str, Any] = {}
        self._places: dict[str, Place] = {}
        self._shipped: dict[int, tuple[Performer, bytes, str]] = {}

    async def place(self, agent: Performer, task: AgentTask) -> Place:
        _, name = self._ship(agent)
        if name in self._places:
            return self._places[name]
        if name not in self._handles:
            resources = getattr(agent, "resources", None) or Resources()
            self._handles[name] = await asyncio.to_thread(self._agent_host, name, resources)
            await _retire_others(name)
        self._places[name] = await _answered(self._handles[name].where.remote(), name)
        return self._places[name]

    async def perform(self, agent: Performer, task: AgentTask, calls: Calls) -> dict[str, Json]:
        shipped, name = self._ship(agent)
        me = ray_module().get_runtime_context().current_actor
        ref = self._handles[name].perform.remote(shipped, task, me)
        try:
            return cast("dict[str, Json]", await unwrapped(ref))
        except asyncio.CancelledError:
            ray_module().cancel(ref)
            raise
        except HostLost:
            self._places.pop(name, None)
            self._handles.pop(name, None)
            raise

    async def close(self) -> None:
        """Agent hosts outlive the run host: the next one finds them by name."""

    def _ship(self, agent: Performer) -> tuple[bytes, str]:
        """Return an agent as bytes, and the name of the host for its code."""
        known = self._shipped.get(id(agent))
        if known is None:
            shipped = ray_module().cloudpickle.dumps(agent)
            code = _hash(library_hash(), agent.definition(), repr(asdict(self._settings)))
            name = _host_name("agent", self._workflow, agent.name, code)
            # The agent itself is kept, so that its id stays its own.
            known = self._shipped[id(agent)] = (agent, shipped, name)
        return known[1], known[2]

    def _agent_host(self, name: str, resources: Resources) -> Any:
        actor = ray_module().remote(concurrency_groups={"ctl": 64})(AgentHost)
        return actor.options(
            **_ACTOR,
            name=name,
            num_cpus=resources.cpu,
            num_gpus=resources.gpu,
            memory=resources.memory or None,
            resources=resources.custom or None,
            max_concurrency=_MANY,
        ).remote(self._settings, self._idle)


@functools.cache
def library_hash() -> str:
    """Return a hash of this package's own code, which every host's name carries."""
    root = Path(__file__).parent.parent
    return _hash(*(path.read_text(encoding="utf-8") for path in sorted(root.rglob("*.py"))))


def _host_name(kind: str, workflow: Workflow, *parts: str) -> str:
    return ":".join(["crew", kind, f"{workflow.name}@{workflow.version}", *parts])


def _hash(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:10]


def _idle(*, started: bool) -> float | None:
    return None if started else IDLE_SECONDS


async def _answered(ref: Any, name: str) -> Place:
    """Wait for a host's first answer.

    Raises:
        HostLost: it died meanwhile.
        CrewError: no node has what it needs, or it could not open its store.
    """
    try:
        async with asyncio.timeout(START_SECONDS):
            return cast("Place", await unwrapped(ref))
    except TimeoutError as error:
        raise CrewError(
            message=f"host {name} did not start within {START_SECONDS:.0f} s; does any node have "
            "the resources it asks for? `ray status` shows what is free"
        ) from error


async def _retire_others(name: str) -> None:
    """Tell the hosts of the same thing with other code to end what they have, and stop."""
    ray = ray_module()
    same = name.rpartition(":")[0] + ":"
    named = await asyncio.to_thread(ray.util.list_named_actors, all_namespaces=True)
    for item in named:
        other = item["name"]
        if item["namespace"] == NAMESPACE and other.startswith(same) and other != name:
            try:
                handle = await asyncio.to_thread(ray.get_actor, other, namespace=NAMESPACE)
            except ValueError:
                continue  # it stopped by itself since
            handle.retire.remote()


def _stop_this_host() -> None:
    ray = ray_module()
    ray.kill(ray.get_runtime_context().current_actor, no_restart=True)
