"""A runtime: a store, and the runs that this process drives."""

import asyncio
import logging
import math
import secrets
from collections.abc import Coroutine, Sequence
from contextvars import Context as Variables
from typing import Any, Self, cast

from crew.call.attempt import STOP_SECONDS
from crew.call.lineage import task_factory
from crew.call.timers import watch
from crew.config import AgentsPlace, Settings, load_settings
from crew.errors import StoreError
from crew.fold import Origin, folded
from crew.graph import Workflow
from crew.hosts import Hosts
from crew.hosts.local import LocalHosts
from crew.journal import Busy, RunRow, Store
from crew.journal.notes import Note
from crew.journal.opening import open_store
from crew.journal.reading import JournalReader
from crew.journal.writer import Writer
from crew.message import Json, Message
from crew.run.acceptance import Acceptance
from crew.run.account_rows import AccountRows
from crew.run.asked import OpenQuestions
from crew.run.calls import RunCalls
from crew.run.children import ChildRuns
from crew.run.dependencies import Dependencies
from crew.run.followers import Followers
from crew.run.heart import Heart
from crew.run.loaded import LoadedCode
from crew.run.other_runtimes import REASONS, OtherRuntimes, Reason
from crew.run.owned import TAKE_SECONDS
from crew.run.surroundings import Children
from crew.run.tenant import Tenant
from crew.run.worker import Worker
from crew.run.workflows import Workflows
from crew.telemetry import Metrics, Telemetry
from crew.telemetry.setup import configure
from crew.thread import Conversations, Thread

LOG = logging.getLogger(__name__)

TELL_SECONDS = 10.0
"""How often it is looked for runs whose code nobody has loaded."""
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

    Use it as `async with Runtime(…) as runtime:`, in a notebook as `await Runtime(…).open()`. On
    leaving, runs that have not ended stay in the store, and the next worker goes on with them.
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
        self._tells = worker and takes_over and hosts is None
        self.workflows = Workflows(workflows)
        self._tasks: set[asyncio.Task[Any]] = set()
        self._look_now = asyncio.Event()
        self.fleet: Any = None
        self.telemetry = Telemetry()
        self._worker = Worker(
            self,
            secrets.token_hex(8),
            takes_over=self.drives and takes_over,
            lease=self.settings.lease,
        )
        owned = self._worker.owned
        self.followers = Followers(owned.lost, owned.durable, self._is_here)
        self.other_runtimes = OtherRuntimes(self, owned.owner)
        self._attended: dict[Reason, set[int]] = {}
        """Runs of which others have told, and why."""
        self._attending: dict[Reason, set[int]] = {}
        """Those that are being seen to."""
        self._attendant: asyncio.Task[None] | None = None
        self.acceptance = Acceptance(self, self._worker)
        self.children: Children = ChildRuns(self, self.acceptance)
        self._heart: Heart | None = None
        self._look_seconds = look_seconds

    async def open(self) -> Self:
        """Open it for longer than a block, as for the cells of a notebook; `close` it at the end.

        Raises:
            GraphError: a workflow cannot work.
            StoreError: the store cannot be opened.
        """
        return await self.__aenter__()

    async def close(self) -> None:
        """Leave it; runs that have not ended stay in the store."""
        await self.__aexit__()

    async def __aenter__(self) -> Self:
        self.workflows.build()
        loop = asyncio.get_running_loop()
        loop.set_task_factory(cast("Any", task_factory))
        watch(loop)
        self.store: Store = self._given_store or _opened(self.store_url)
        self.telemetry.add_spans()
        committed = self.followers.committed
        self.writer = Writer(self.store, on_commit=committed, observer=self.telemetry)
        self.accounts = AccountRows(self.store, self.writer)
        self.dependencies = Dependencies()
        self.conversations = Conversations(self.store)
        self.asked = OpenQuestions(self.store)
        self.loaded = LoadedCode(self.store, self._worker.owned.owner, self._taken)
        try:
            if self.agents == "ray":
                await self._join_fleet()
            if self.drives:
                self._heart = Heart(self.store, self._worker.owned.owner, self.settings.lease)
        except BaseException:
            await self._close()
            raise
        self.other_runtimes.open(self.store.sockets)
        self.workflows.joined = self.introduce
        self.workflows.code_of = self._code_of
        self.introduce()
        self.followers.is_open = True
        self.spawn(self._watch())
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._end_tasks()
        await self._worker.release()
        await self._end_tasks(seconds=STOP_SECONDS)  # begun meanwhile, as the cancel of a child
        # Only now: what waits in a step for a child has been stopped, and sees no error.
        self.followers.end()
        self.other_runtimes.close()
        await self.dependencies.close()
        await self._close()

    async def _end_tasks(self, seconds: float = 0) -> None:
        """Wait so long for the ends of the runtime's own tasks, then cancel them."""
        if self._tasks and seconds:
            await asyncio.wait(self._tasks, timeout=seconds)
        for task in list(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _close(self) -> None:
        if self._heart is not None:
            self._heart.stop()
        if self.fleet is not None:
            await self.fleet.close()
        await self.hosts.close()
        if self._given_store is None:
            self.store.close()

    @property
    def drives(self) -> bool:
        """Whether runs are driven in this process."""
        return self.worker and self.agents == "local"

    async def _join_fleet(self) -> None:
        from crew.hosts.ray import Fleet

        if self.store_url in (":memory:", "memory:"):
            raise StoreError(
                message="agents='ray' needs a store that several processes can open, not :memory:; "
                "use sqlite:///path or leave it out"
            )
        self.fleet = await Fleet.join(self.settings, self.store.url, hosted, self.other_runtimes)
        self.followers.raise_lost = self.fleet.raise_lost
        if self.worker:
            for workflow in self.workflows:
                await self.fleet.serve(workflow)

    def of(self, tenant: str) -> Tenant:
        """Return what one tenant may do here; the runtime itself acts as the one it was given."""
        return Tenant(self, tenant)

    # What handles and drivers ask of their runtime.

    def check_answer(self, number: int, path: str, value: Json) -> bool:
        self._worker.check_answer(number, path, value)
        row = self.store.numbered(number)
        return self.drives and row is not None and self.workflows.of(row) is not None

    async def poke(self, row: RunRow, *, is_new: bool = False) -> None:
        if self.drives:
            self._look_now.set()
        if self.fleet is not None:
            await self.fleet.wake()
        if self._worker.owned.drives(row.number):
            return
        if not is_new:
            self.other_runtimes.post(row)
        if not self.drives:
            self.other_runtimes.offer(row, to=self._host_of(row))

    def _host_of(self, row: RunRow) -> str | None:
        """Return the name of the host on Ray that runs exactly the code that is known here."""
        workflow = self.workflows.of(row)
        return None if self.fleet is None or workflow is None else self.fleet.host_of(workflow)

    async def cancel_unowned(self, row: RunRow) -> bool:
        return await self._worker.cancels.of_unowned(row)

    def read_thread(self, row: RunRow) -> Thread:
        return self.conversations.before(row)

    def read_spoken(self, run: int, agent: str) -> tuple[Message, ...]:
        return self.conversations.spoken(run, agent)

    def conversation_of(self, row: RunRow) -> str | None:
        above: RunRow | None = row
        while above is not None and above.thread is None and above.parent is not None:
            above = self.store.run(above.parent)
        return None if above is None else above.thread

    def read_notes(self, tenant: str, scopes: Sequence[str], words: str, limit: int) -> list[Note]:
        return self.store.notes(tenant, scopes, words, limit)

    def _code_of(self, row: RunRow) -> str:
        return folded([JournalReader(self.store, row).one(1)], Origin()).code

    def read_metadata(self, row: RunRow) -> dict[str, Json]:
        return folded([JournalReader(self.store, row).one(1)], Origin()).metadata

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
        hosts = [] if self.fleet is None else await self.fleet.metrics()
        return [self.metrics(), *hosts]

    def look(self) -> None:
        """Look for new runs and letters now."""
        self._look_now.set()

    def hand_out(self, number: int, before: float) -> bool:
        return self._worker.letters.hand_out(number, before)

    def is_loaded(self, row: RunRow) -> bool:
        return self.loaded.has(row)

    def introduce(self) -> None:
        self.other_runtimes.introduce()
        if self._heart is not None:
            self.loaded.show()

    def _taken(self) -> list[tuple[str, str]]:
        """Return names and versions of the workflows of which runs are taken here, or in hosts."""
        if self.fleet is not None and self.worker:
            return self.workflows.names()
        return self.serves() or []

    # What the others of its store tell it.

    def serves(self) -> list[tuple[str, str]] | None:
        if not self.drives:
            return None
        return self.workflows.names() if self._worker.owned.takes_over else []

    def attend(self, number: int, why: Reason) -> None:
        self._attended.setdefault(why, set()).add(number)
        if self._attendant is None or self._attendant.done():
            self._attendant = self.spawn(self._attend())

    async def _attend(self) -> None:
        """See to the runs of which others have told, in the order in which they did."""
        while self._attended:
            self._attending, self._attended = self._attended, dict[Reason, set[int]]()
            asked = {why: self._attending.get(why, set()) for why in REASONS}
            try:
                await self._worker.adopt(asked["adopt"])
                await self._worker.letters.read_some(asked["look"] | asked["take"])
                await self._worker.take(asked["take"])
            except (StoreError, Busy):
                self._look_now.set()  # which tries again
            finally:
                self._attending = {}
            untaken = [
                number for number in asked["take"] | asked["adopt"] if not self._is_here(number)
            ]
            self.followers.wake(*untaken)

    def _is_here(self, number: int) -> bool:
        """Return whether a run is driven here, or about to be."""
        owned = self._worker.owned
        if owned.drives(number) or number in owned.held:
            return True
        comes = (self._attended, self._attending)
        return any(number in each.get(why, ()) for each in comes for why in ("adopt", "take"))

    async def _watch(self) -> None:
        """Look for letters, for runs without an owner, and for what other processes wrote."""
        seen, last_take, last_wake, last_told = -1, 0.0, 0.0, -math.inf
        while True:
            try:
                self._look_now.clear()
                changed = self.store.changed()
                if changed != seen:
                    self.followers.wake_all()
                    self.accounts.wake()
                await self._worker.letters.read()
                now = asyncio.get_running_loop().time()
                if now - last_wake > TAKE_SECONDS:
                    last_wake = now
                    self.followers.remind()
                    self.accounts.wake()
                if changed != seen or now - last_take > TAKE_SECONDS:
                    last_take = now
                    await self._worker.take_over()
                if self._tells and now - last_told > TELL_SECONDS:
                    last_told = now
                    self.loaded.tell()
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

    def spawn(self, work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        # In a clean context: it is no task of the step in which it became necessary.
        task = asyncio.get_running_loop().create_task(work, context=Variables())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def hosted(store_url: str, settings: Settings, workflow: Workflow, hosts: Hosts) -> Runtime:
    """Return the runtime that a run host holds: it drives here, and sends agents' work out."""
    configure(settings)
    runtime = Runtime(
        store_url, workflows=[workflow], agents="local", settings=settings, hosts=hosts
    )
    runtime.metrics()
    return runtime


def _opened(url: str) -> Store:
    try:
        return open_store(url)
    except Busy as error:
        raise StoreError(
            message=f"{url} is locked by another process; try again, or find it with `lsof`"
        ) from error
