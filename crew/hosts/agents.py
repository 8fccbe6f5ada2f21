"""Agent hosts: actors in which the work of agents is done, and the run host's way to them."""

import asyncio
import hashlib
import time
from dataclasses import asdict, field
from typing import Any

from crew.call.record import AgentTask, Calls, Equipment, Performer
from crew.config import Settings
from crew.define import define, frozen
from crew.errors import CrewError
from crew.graph import Workflow
from crew.hosts import HostLost, Place, Resources, here
from crew.hosts.actors import (
    ACTOR,
    MANY,
    ctl,
    hash_of,
    host_name,
    library_hash,
    retire_others,
    started,
    stop_this_host,
)
from crew.hosts.cluster import ray_module, unwrapped
from crew.hosts.collector import look_less
from crew.hosts.link import Answer, Door, Link, Message
from crew.hosts.peer import ActorPeer, Deliver, Peer, Standing, open_door, reach
from crew.hosts.remote import RemoteCalls, task_data, task_from
from crew.hosts.travel import agent_bytes
from crew.message import Json


class AgentHost:
    """A process in which one agent's work runs, many tasks at once."""

    async def __init__(self, settings: Settings, idle: float | None) -> None:
        self._equipment = Equipment(settings)
        self._agents: dict[str, Performer] = {}
        self._tasks: dict[tuple[str, str], asyncio.Task[Any]] = {}
        self._last_use = time.monotonic()
        self._door: Door | None = None
        self._error: CrewError | None = None
        try:
            self._door = await open_door(settings, lambda: Link(self._handle, lambda link: None))
        except CrewError as error:
            # Not raised: an actor that dies in its constructor hides why.
            self._error = error
        self._watching = asyncio.create_task(self._stop_when_idle(idle))
        look_less()

    @ctl
    async def where(self) -> Standing:
        if self._error is not None:
            raise self._error
        return Standing(here(), self._door.address if self._door else None)

    async def learn(self, digest: str, shipped: bytes) -> None:
        """Know an agent by the digest of its bytes."""
        self._last_use = time.monotonic()
        if digest not in self._agents:
            self._agents[digest] = ray_module().cloudpickle.loads(shipped)

    async def deliver(self, message: Message, run_host: Any) -> Answer:
        """Carry out a message of a run host that has no link to this one."""
        return await self._handle(ActorPeer(run_host, lambda: None), message)

    async def _handle(self, peer: Peer, message: Message) -> Answer:
        """Do an agent's task; an older dispatch of the same task is stopped first."""
        self._last_use = time.monotonic()
        run, epoch, path = message.run, message.epoch, message.path
        if (older := self._tasks.get((run, path))) is not None:
            older.cancel()
        agent = self._agents[message.body["agent"]]
        about = peer.work(run, epoch, path)
        task = task_from(run, epoch, path, message.body["task"])
        work = asyncio.current_task()
        assert work is not None
        self._tasks[run, path] = work
        try:
            return Answer(await agent.perform(task, RemoteCalls(about, run), self._equipment))
        finally:
            about.close()
            self._last_use = time.monotonic()
            if self._tasks.get((run, path)) is work:
                del self._tasks[run, path]

    async def retire(self) -> None:
        """Newer code is there: end what is under way, then stop."""
        while self._tasks:
            await asyncio.wait(set(self._tasks.values()))
        await self._equipment.close()
        stop_this_host()

    async def _stop_when_idle(self, idle: float | None) -> None:
        while idle is not None:
            await asyncio.sleep(idle / 10)
            if not self._tasks and time.monotonic() - self._last_use > idle:
                await self.retire()


@frozen
class _Shipped:
    """An agent as bytes, their digest, and the name of the host for its code."""

    agent: Performer  # kept, so that its id stays its own
    data: bytes
    digest: str
    host: str


@define
class _Started:
    """A host that is up, in one of its incarnations."""

    actor: Any
    place: Place
    peer: Peer
    learnt: dict[str, "asyncio.Future[None]"] = field(default_factory=dict)
    knows: set[str] = field(default_factory=set)
    """The digests of agents that it has."""


class AgentHosts:
    """Agents' work goes to Ray actors, one per agent definition; used inside a run host.

    Args:
        settings: those of the hosts.
        workflow: whose agents they are.
        idle: after how many seconds without work a host stops, if it does.
        deliver: carries out what agents ask of their runs.
    """

    def __init__(
        self, settings: Settings, workflow: Workflow, idle: float | None, deliver: Deliver
    ) -> None:
        self._settings = settings
        self._workflow = workflow
        self._idle = idle
        self._deliver = deliver
        self._shipped: dict[int, _Shipped] = {}
        self._started: dict[str, asyncio.Task[_Started]] = {}
        self._up: dict[str, _Started] = {}
        """Those that are there, by their names."""

    async def place(self, agent: Performer, task: AgentTask) -> Place:
        shipped = self._ship(agent)
        host = self._at_hand(shipped) or await self._host(shipped)
        return host.place

    async def perform(self, agent: Performer, task: AgentTask, calls: Calls) -> dict[str, Json]:
        shipped = self._ship(agent)
        host = self._at_hand(shipped) or await self._host(shipped)
        body = {"agent": shipped.digest, "task": task_data(task)}
        answer = await host.peer.ask(Message("perform", task.run, task.epoch, task.path, body))
        result: dict[str, Json] = answer.body
        return result

    async def close(self) -> None:
        """Leave agent hosts as they are: the next run host finds them by name."""
        for starting in self._started.values():
            if starting.done() and not starting.cancelled() and starting.exception() is None:
                starting.result().peer.close()
            starting.cancel()

    def _at_hand(self, shipped: _Shipped) -> _Started | None:
        """Return the host of an agent if it is up and knows it, as for most tasks."""
        host = self._up.get(shipped.host)
        return host if host is not None and shipped.digest in host.knows else None

    async def _host(self, shipped: _Shipped) -> _Started:
        """Return the host of an agent, up and knowing it: whoever asks meanwhile waits, too."""
        starting = self._started.get(shipped.host)
        if starting is None:
            starting = asyncio.create_task(self._start(shipped.host, shipped.agent))
            self._started[shipped.host] = starting
            starting.add_done_callback(lambda task: self._forget_failed(shipped.host, task))
        host = await asyncio.shield(starting)
        learning = host.learnt.get(shipped.digest)
        if learning is None:
            learn = unwrapped(host.actor.learn.remote(shipped.digest, shipped.data))
            learning = host.learnt[shipped.digest] = asyncio.ensure_future(learn)
        try:
            await asyncio.shield(learning)
        except HostLost:
            self._gone(shipped.host, starting)
            raise
        if self._started.get(shipped.host) is starting:
            host.knows.add(shipped.digest)
            self._up[shipped.host] = host
        return host

    async def _start(self, name: str, agent: Performer) -> _Started:
        """Start a host, or find it; one that is being restarted is waited for.

        Raises:
            CrewError: it does not come up.
        """
        resources = getattr(agent, "resources", None) or Resources()
        actor, standing = await started(lambda: self._actor(name, resources), name)
        await retire_others(name)
        mine = asyncio.current_task()
        peer = await reach(
            standing, actor, self._settings, self._deliver, lambda: self._gone(name, mine)
        )
        return _Started(actor, standing.place, peer)

    def _gone(self, name: str, started: "asyncio.Task[Any] | None") -> None:
        """Start another host of this name, for whoever asks next."""
        if self._started.get(name) is started:
            del self._started[name]
            self._up.pop(name, None)

    def _forget_failed(self, name: str, starting: "asyncio.Task[_Started]") -> None:
        if starting.cancelled() or starting.exception() is not None:
            self._gone(name, starting)

    def _ship(self, agent: Performer) -> _Shipped:
        known = self._shipped.get(id(agent))
        if known is None:
            data = agent_bytes(agent, ray_module().cloudpickle.dumps)
            code = hash_of(library_hash(), agent.definition(), repr(asdict(self._settings)))
            name = host_name("agent", self._workflow, agent.name, code)
            digest = hashlib.sha256(data).hexdigest()
            known = self._shipped[id(agent)] = _Shipped(agent, data, digest, name)
        return known

    def _actor(self, name: str, resources: Resources) -> Any:
        actor = ray_module().remote(concurrency_groups={"ctl": 64})(AgentHost)
        return actor.options(
            **ACTOR,
            name=name,
            num_cpus=resources.cpu,
            num_gpus=resources.gpu,
            memory=resources.memory or None,
            resources=resources.custom or None,
            max_concurrency=MANY,
        ).remote(self._settings, self._idle)
