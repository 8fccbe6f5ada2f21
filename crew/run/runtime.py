"""A runtime: a store, and the runs that this process drives."""

import asyncio
import hashlib
import logging
import secrets
import time
from collections.abc import Mapping, Sequence
from contextvars import Context as Variables
from typing import Any, Self, cast

from crew.budget import Budget
from crew.config import AgentsPlace, Settings, load_settings
from crew.errors import (
    CrewError,
    InputInvalid,
    OutputInvalid,
    RunCancelled,
    RuntimeLeft,
    StoreError,
)
from crew.event import RunStarted
from crew.graph import Workflow
from crew.hosts import Hosts
from crew.hosts.local import LocalHosts
from crew.journal import (
    OPEN,
    PARKED,
    Busy,
    Clear,
    NewRun,
    RunRow,
    Started,
    Store,
    StoredEvent,
    WhenBusy,
)
from crew.journal.opening import open_store
from crew.journal.writer import OpenRun, Writer, seal
from crew.lineage import task_factory
from crew.message import Json
from crew.run.calls import RunCalls
from crew.run.cancels import MOST_CHILDREN
from crew.run.fork import new_fork
from crew.run.handle import Run
from crew.run.heart import Heart
from crew.run.owned import TAKE_SECONDS
from crew.run.tenant import Tenant
from crew.run.worker import Worker
from crew.telemetry import Metrics, Telemetry
from crew.telemetry.setup import configure
from crew.thread import Conversations, Thread
from crew.value import canonical

LOG = logging.getLogger(__name__)

_Tail = asyncio.Future[Sequence[StoredEvent] | None]
"""What somebody who follows a run waits for: events just written, or None after a while."""

LOOK_SECONDS = 0.05
"""How often a runtime looks for what other processes wrote."""


class Runtime(Tenant):
    """Starts, drives and finds runs.

    Args:
        store: `sqlite:///path`, `:memory:`, a store that its caller closes, or what the settings
            say.
        workflows: those whose unfinished runs this runtime takes over; each started one joins.
        agents: `local`: agents run in this process; `ray`: runs and agents live in Ray hosts.
        tenant: who the runs and threads belong to.
        worker: whether it drives runs; without, it only reads, starts and answers.
        takes_over: whether it goes on with runs that others left; without, it drives those alone
            that it starts, forks or resumes itself.
        settings: what is in force; by default read from `crew.toml` and `CREW_*`.
        hosts: where agents' work executes, for a process that is itself a host.
        look_seconds: how often it looks for what other processes wrote.

    Use it as `async with Runtime(…) as runtime:`. On leaving, runs that have not ended stay in the
    store, and the next worker goes on with them.
    """

    def __init__(
        self,
        store: str | Store | None = None,
        *,
        workflows: Sequence[Workflow] = (),
        agents: AgentsPlace | None = None,
        tenant: str = "default",
        worker: bool = True,
        takes_over: bool = True,
        settings: Settings | None = None,
        hosts: Hosts | None = None,
        look_seconds: float = LOOK_SECONDS,
    ) -> None:
        super().__init__(self, tenant)
        url = store if store is None or isinstance(store, str) else store.url
        self.settings = settings or load_settings(store=url, agents=agents)
        self.store_url = url or self.settings.store
        self._given_store = None if store is None or isinstance(store, str) else store
        self.agents: AgentsPlace = agents or self.settings.agents
        self.worker = worker
        self.hosts: Hosts = hosts or LocalHosts(self.settings)
        self._workflows = {(item.name, item.version): item for item in workflows}
        self._tails: dict[int, set[_Tail]] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._look_now = asyncio.Event()
        self._fleet: Any = None
        self.telemetry = Telemetry()
        self._worker = Worker(
            self,
            secrets.token_hex(8),
            takes_over=self._drives and takes_over,
            lease=self.settings.lease,
        )
        self._heart: Heart | None = None
        self._look_seconds = look_seconds
        self._open = False

    async def __aenter__(self) -> Self:
        for workflow in self._workflows.values():
            workflow.build()
        asyncio.get_running_loop().set_task_factory(cast("Any", task_factory))
        self.store: Store = self._given_store or _opened(self.store_url)
        self.telemetry.add_spans()
        self.writer = Writer(self.store, on_commit=self._committed, observer=self.telemetry)
        self.conversations = Conversations(self.store)
        try:
            if self.agents == "ray":
                await self._join_fleet()
            if self._drives:
                self._heart = Heart(self.store, self._worker.owned.owner, self.settings.lease)
        except BaseException:
            await self._close()
            raise
        self._open = True
        self.spawn(self._watch())
        return self

    async def __aexit__(self, *exc: object) -> None:
        for task in list(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        await self._worker.release()
        # Only now: what waits in a step for a child has been stopped, and sees no error.
        self._open = False
        self._end_waiters()
        await self._close()

    def _end_waiters(self) -> None:
        """Tell those who follow a run that nobody will wake them any more."""
        for future in [future for waiting in self._tails.values() for future in waiting]:
            if not future.done():
                future.set_exception(RuntimeLeft())

    async def _close(self) -> None:
        if self._heart is not None:
            self._heart.stop()
        if self._fleet is not None:
            await self._fleet.close()
        await self.hosts.close()
        if self._given_store is None:
            self.store.close()

    @property
    def _drives(self) -> bool:
        return self.worker and self.agents == "local"

    async def _join_fleet(self) -> None:
        from crew.hosts.ray import Fleet

        if self.store_url in (":memory:", "memory:"):
            raise StoreError(
                message="agents='ray' needs a store that several processes can open, not :memory:; "
                "use sqlite:///path or leave it out"
            )
        self._fleet = await Fleet.join(self.settings, self.store.url, hosted)
        if self.worker:
            for workflow in self._workflows.values():
                await self._fleet.serve(workflow)

    def of(self, tenant: str) -> Tenant:
        """Return what one tenant may do here; the runtime itself acts as the one it was given."""
        return Tenant(self, tenant)

    # What a tenant asks of its runtime.

    async def begin(
        self,
        tenant: str,
        workflow: Workflow,
        value: Any,
        *,
        thread: str | None,
        key: str | None,
        budget: Budget | None,
        when_busy: WhenBusy,
        parent: str | None = None,
        metadata: Mapping[str, Json] | None = None,
    ) -> Run:
        workflow.build()
        self._workflows[workflow.name, workflow.version] = workflow
        stored = encode_input(workflow, value)
        if self._fleet is not None and self.worker:
            await self._fleet.serve(workflow)
        new = self._new_run(
            tenant, workflow, stored, thread, key, budget, when_busy, parent, metadata
        )
        started = await self._accepted(new)
        if started.is_new and new.owner is not None:
            await self._worker.taking.drive(started.row, workflow)
        elif started.row.status in OPEN:
            await self.poke(started.row)
        if when_busy == "cancel":
            await self._cancel_turns(started.row)
        return Run(self, started.row)

    async def _accepted(self, new: NewRun) -> Started:
        try:
            return cast("Started", await self.writer.execute(new))
        except (StoreError, asyncio.CancelledError):
            self._worker.owned.doubt()  # it may be there, with nobody to drive it
            raise

    def _new_run(
        self,
        tenant: str,
        workflow: Workflow,
        stored: Json,
        thread: str | None,
        key: str | None,
        budget: Budget | None,
        when_busy: WhenBusy,
        parent: str | None,
        metadata: Mapping[str, Json] | None,
    ) -> NewRun:
        run_id = f"r{secrets.token_hex(8)}"
        event = RunStarted(
            workflow=workflow.name,
            version=workflow.version,
            input=stored,
            thread=thread,
            budget=budget.tokens if budget else None,
            budget_calls=budget.calls if budget else None,
            budget_seconds=budget.seconds if budget else None,
            code=workflow.code_hash(),
            parent=parent,
            metadata=dict(metadata) if metadata else None,
        )
        return NewRun(
            id=run_id,
            tenant=tenant,
            workflow=workflow.name,
            version=workflow.version,
            key=key,
            input_hash=_hash(stored) if key is not None else "",
            thread=thread,
            parent=parent,
            # A turn may have to wait for an earlier one, so it starts without an owner.
            owner=self._worker.owned.owner if self._drives and thread is None else None,
            when_busy=when_busy,
            first=seal(OpenRun(run_id, 0, 1, 0, 0), 1, event),
            at=time.time(),
        )

    async def _cancel_turns(self, newest: RunRow) -> None:
        """Let the earlier turns of a thread see the cancel that came with the newest one."""
        for row in self.store.turns(newest.tenant, newest.thread or ""):
            if row.status in OPEN and row.number < newest.number:
                await self.cancel_unowned(row)
                await self.poke(row)

    async def begin_fork(
        self, row: RunRow, *, at: int | None, live: bool, override: Mapping[str, Any], effects: bool
    ) -> Run:
        new, workflow = new_fork(
            self.store,
            row,
            self.known_workflow(row),
            at=at,
            live=live,
            override=override,
            effects=effects,
            owner=self._worker.owned.owner if self._drives else None,
        )
        self._workflows[workflow.name, workflow.version] = workflow
        if self._fleet is not None and self.worker:
            await self._fleet.serve(workflow)
        started = await self._accepted(new)
        if new.owner is not None:
            await self._worker.taking.drive(started.row, workflow)
        else:
            await self.poke(started.row)
        return Run(self, started.row)

    async def go_on(self, run_id: str) -> None:
        row = self.store.run(run_id)
        assert row is not None
        if row.status not in OPEN or self._worker.owned.drives(row.number):
            return
        if (error := self._worker.owned.unreadable.get(row.number)) is not None:
            raise error
        workflow = self.known_workflow(row)
        if self._fleet is not None:
            await self._fleet.serve(workflow)
            await self._fleet.wake()
        elif (
            row.owner in (None, PARKED, self._worker.owned.owner)
            or self.store.sign(cast("str", row.owner)).dead
        ):
            await self._worker.taking.take(row, explicit=True)

    def known_workflow(self, row: RunRow) -> Workflow:
        workflow = self.workflow_of(row)
        if workflow is None:
            raise InputInvalid(
                message=f"run {row.id} is of workflow {row.workflow!r} version {row.version}, "
                "which this runtime does not know; give it in `workflows=`"
            )
        return workflow

    # What handles and drivers ask of their runtime.

    def workflow_of(self, row: RunRow) -> Workflow | None:
        return self._workflows.get((row.workflow, row.version))

    def known(self) -> list[tuple[str, str]]:
        return list(self._workflows)

    def check_answer(self, number: int, path: str, value: Json) -> bool:
        self._worker.check_answer(number, path, value)
        row = self.store.numbered(number)
        return self._drives and row is not None and self.workflow_of(row) is not None

    async def grown(self, number: int, after: int) -> Sequence[StoredEvent]:
        if (error := self._worker.owned.lost.get(number)) is not None:
            raise error
        if not self._open:
            raise RuntimeLeft
        if self._worker.owned.durable(number) > after:
            return ()  # it grew since somebody looked
        future: _Tail = asyncio.get_running_loop().create_future()
        self._tails.setdefault(number, set()).add(future)
        try:
            written = await future
            if written is None and self._fleet is not None:
                await self._fleet.raise_lost(number)
            return written or ()
        finally:
            waiting = self._tails.get(number, set())
            waiting.discard(future)
            if not waiting:
                self._tails.pop(number, None)

    async def poke(self, row: RunRow) -> None:
        self._look_now.set()
        if self._fleet is not None:
            await self._fleet.wake()

    async def cancel_unowned(self, row: RunRow) -> bool:
        return await self._worker.cancels.of_unowned(row)

    def read_thread(self, row: RunRow) -> Thread:
        return self.conversations.before(row)

    async def run_child(
        self, parent: RunRow, path: str, workflow: Workflow, value: object, budget: Budget | None
    ) -> dict[str, Json]:
        run = await self.begin(
            parent.tenant,
            workflow,
            value,
            thread=None,
            key=_child_key(parent, path),
            budget=budget,
            when_busy="queue",
            parent=parent.id,
        )
        try:
            output = await run.result()
        except RunCancelled as error:
            raise CrewError(message=f"the child run {run.id} was cancelled") from error
        usage = await run.usage()
        return {"run": run.id, "output": workflow.output_codec.encode(output), "usage": usage}

    async def cancel_child(self, parent: RunRow, path: str) -> None:
        # Behind a start that is still on its way to the store, if there is one.
        await self.writer.execute(Clear(parent.number, parent.epoch, ()))
        for row in self.store.runs(parent=parent.id, status=OPEN, limit=MOST_CHILDREN):
            if row.key == _child_key(parent, path):
                await Run(self, row).cancel()

    # What a run host asks of the runtime that it holds.

    def calls_of(self, run: str, epoch: int) -> RunCalls:
        """Return the calls of a run; see `Worker.calls_of`."""
        return self._worker.calls_of(run, epoch)

    def lost_of(self, number: int) -> StoreError | None:
        """Return why a run is not driven here any more, or None."""
        return self._worker.owned.lost.get(number)

    def active(self) -> int:
        """Return how many runs are under way here; see `Worker.active`."""
        return self._worker.active()

    async def drain(self) -> None:
        """Take no further run, and return when those under way have ended or wait."""
        await self._worker.drain()

    def metrics(self) -> Metrics:
        """Count from now on, and return what was counted in this process."""
        return self.telemetry.count()

    async def all_metrics(self) -> list[Metrics]:
        """Return what was counted here and in each of the hosts that drive runs for it."""
        hosts = [] if self._fleet is None else await self._fleet.metrics()
        return [self.metrics(), *hosts]

    def look(self) -> None:
        """Look for new runs and letters now."""
        self._look_now.set()

    async def _watch(self) -> None:
        """Look for letters, for runs without an owner, and for what other processes wrote."""
        seen, last_take, last_wake = -1, 0.0, 0.0
        while True:
            try:
                self._look_now.clear()
                changed = self.store.changed()
                if changed != seen:
                    self.wake(*self._tails)
                await self._worker.letters.read()
                now = asyncio.get_running_loop().time()
                if now - last_wake > TAKE_SECONDS:
                    last_wake = now
                    for number in self._tails:
                        self._wake(number, None)
                if changed != seen or now - last_take > TAKE_SECONDS:
                    last_take = now
                    await self._worker.take_over()
                seen = changed
            except (StoreError, Busy):
                self._worker.blink()
                await asyncio.sleep(TAKE_SECONDS)  # it shows where somebody waits for the store
            except Exception:
                # Whatever one run brings up, the others must not be left alone.
                LOG.exception("looking for work failed; it is tried again")
                await asyncio.sleep(TAKE_SECONDS)
            try:
                async with asyncio.timeout(self._look_seconds):
                    await self._look_now.wait()
                seen = -1
            except TimeoutError:
                continue

    def _committed(self, grown: Mapping[int, Sequence[StoredEvent]]) -> None:
        for number, events in grown.items():
            self._wake(number, events)

    def wake(self, *numbers: int) -> None:
        for number in numbers:
            self._wake(number, ())

    def _wake(self, number: int, written: Sequence[StoredEvent] | None) -> None:
        for future in self._tails.get(number, ()):
            if not future.done():
                future.set_result(written)

    def spawn(self, work: Any) -> None:
        # In a clean context: it is no task of the step in which it became necessary.
        task = asyncio.get_running_loop().create_task(work, context=Variables())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def hosted(store_url: str, settings: Settings, workflow: Workflow, hosts: Hosts) -> Runtime:
    """Return the runtime that a run host holds: it drives here, and sends agents' work out."""
    configure(settings)
    runtime = Runtime(
        store_url, workflows=[workflow], agents="local", settings=settings, hosts=hosts
    )
    runtime.metrics()
    return runtime


def encode_input(workflow: Workflow, value: Any) -> Json:
    """Return a run's input as JSON: of the input's type, or JSON that validates as it.

    Raises:
        InputInvalid: it is neither.
    """
    try:
        return workflow.input_codec.taken(value)
    except OutputInvalid as error:
        raise InputInvalid(message=str(error)) from error


def _child_key(parent: RunRow, path: str) -> str:
    return f"child:{parent.id}:{path}"


def _hash(stored: Json) -> str:
    return hashlib.sha256(canonical(stored).encode("utf-8", "surrogatepass")).hexdigest()


def _opened(url: str) -> Store:
    try:
        return open_store(url)
    except Busy as error:
        raise StoreError(
            message=f"{url} is locked by another process; try again, or find it with `lsof`"
        ) from error
