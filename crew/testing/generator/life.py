"""One life of a process that runs a random program: from its start to its end, kill or stop."""

import asyncio
import contextlib
import json
import math
import re
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import cast

from crew.budget import Budget
from crew.clock import wall_clock
from crew.config import Settings
from crew.errors import AskError, Diverged, RunCancelled, RunFailed, StoreError
from crew.graph import Workflow
from crew.journal import OPEN, Append, Operation, Started, Store, StoredEvent, Take
from crew.journal.reading import JournalReader
from crew.run import Run, Runtime
from crew.testing.faulty_store import CrashingStore
from crew.testing.generator.books import is_at, place_of
from crew.testing.generator.branch import Start
from crew.testing.generator.history import History, key_of, read
from crew.testing.generator.letters import answer_to, is_unanswered
from crew.testing.generator.spending import given
from crew.testing.generator.world import ProgramLoop, World, go_on_in
from crew.testing.quiet import quiet
from crew.testing.scheduler import Stuck

NEVER = 1 << 30
"""More events than any program has."""
LOOK_SECONDS = 120.0
MOST_SECONDS = 100_000.0
"""Virtual seconds that a life may take."""
_SETTINGS = Settings()
_RUN_ID = re.compile(r"\br[0-9a-f]{16}\b")


@dataclass(frozen=True, slots=True)
class Fault:
    """One commit fails: the next one after so many events.

    Nothing `is_written` of it, as on a full disk, or all of it, and the answer was lost.
    """

    after: int
    is_written: bool


class Station(CrashingStore):
    """A store that tells of questions, and of the moment in which it goes down, or is full.

    Args:
        store: where things are kept.
        after: after how many events the process is killed.
        stop: after how many it is asked to leave.
        fault: which commit fails, if one does.
        life: of the process; it is told once when one of the first two has come, or a run was
            parked, when the commit has failed, and when a run is taken anew for that.
        loop: on which it is used.
    """

    def __init__(
        self,
        store: Store,
        *,
        after: int,
        stop: int,
        fault: Fault | None,
        life: "Life",
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        super().__init__(store, after=after)
        self._until_stop = stop
        self._fault, self._events, self._has_failed = fault, 0, False
        self._life = life
        self.started = 0
        """The number of the first run that was."""
        self.over = loop.create_future()
        self.asked: asyncio.Queue[tuple[int, str]] = asyncio.Queue()
        self.parked = ""

    def commit(self, operations: Sequence[Operation]) -> list[object]:
        fault = self._fault
        if fault is None or self._events < fault.after:
            return self._commit(operations)
        self._fault, self._has_failed = None, True
        if fault.is_written:
            self._commit(operations)
        self._life.fails()
        raise StoreError(message="simulated fault: nobody knows whether it was written")

    def _commit(self, operations: Sequence[Operation]) -> list[object]:
        try:
            results = super().commit(operations)
        except StoreError:
            self._end()
            raise
        for operation, result in zip(operations, results, strict=True):
            if isinstance(operation, Append):
                self._until_stop -= len(operation.events)
                self._events += len(operation.events)
                for event in operation.events:
                    self._see(operation.number, event)
            elif isinstance(result, Started):
                self._events += 1
                self.started = self.started or result.row.number
            elif isinstance(operation, Take) and self._has_failed:
                self._life.goes_on(self)
        if self._until_stop <= 0 or self.parked:
            self._end()
        return results

    def _see(self, number: int, event: StoredEvent) -> None:
        if event.kind == "ask.opened":
            self.asked.put_nowait((number, event.path))
        elif event.kind == "run.parked":
            self.parked = event.body

    def _end(self) -> None:
        if not self.over.done():
            self.over.set_result(None)
            self._life.ends(self)


@dataclass(slots=True)
class Life:
    """What one life of a process came to."""

    world: World
    number: int = 0
    """The run's, in its store; 0 if it was not accepted."""
    held: History = field(default_factory=History)
    """What was on disk when it began."""
    before: "Life | None" = None
    """The part of the same life before a run was taken anew."""
    has_letters: bool = False
    """Whether people answered before, and it began once it was too late for that."""
    has_failed: bool = False
    """Whether a commit failed."""
    outcome: str = ""
    """How the run ended, as JSON; empty if the life ended before."""
    problems: list[tuple[str, str]] = field(default_factory=list)
    """What went wrong: its kind, and what there is to say."""
    leaving: tuple[float, float] = (math.inf, math.inf)
    """From when to when the process left in good order, in unix seconds."""
    in_flight: list[str] = field(default_factory=list)
    """The calls that were under way when the life ended."""

    def wrong(self, kind: str, detail: str) -> None:
        self.problems.append((kind, detail))

    def parts(self) -> "Iterator[Life]":
        """Yield the parts of this life: what was not on disk of some run was lost between them."""
        if self.before is not None:
            yield from self.before.parts()
        yield self

    def fails(self) -> None:
        """See what was under way when a commit failed."""
        self.has_failed, self.in_flight = True, self._under_way()

    def goes_on(self, station: Station) -> None:
        """Begin another part, since a run begins anew from what is on disk."""
        self.number = self.number or station.started
        self.before = replace(self)
        self.held = read(cast("Store", station), self.number) if self.number else History()
        self.world = go_on_in(self.world.next())

    def ends(self, station: Station) -> None:
        """See what was under way when the store went down, or the process was asked to leave."""
        self.in_flight = self._under_way()
        self.world.is_dead = station.is_down
        self.leaving = (wall_clock(), math.inf)

    def _under_way(self) -> list[str]:
        return [name for name, count in self.world.under_way.items() if count]


def live(
    seed: int,
    world: World,
    store: Store,
    workflow: Workflow,
    *,
    number: int = 0,
    held: History | None = None,
    budget: Budget | None = None,
    kill: int = NEVER,
    stop: int = NEVER,
    fault: Fault | None = None,
    resumed: bool = False,
    began: float | None = None,
) -> Life:
    """Live on a loop of its own, which ends with it.

    Args:
        seed: of the loop.
        world: how long calls take there.
        store: where the run is.
        workflow: the program.
        number: the run to go on with; a new one is started without.
        held: what is on disk of it.
        budget: what a new run may spend.
        kill: after how many events the process is killed.
        stop: after how many it leaves its runtime in good order.
        fault: which commit fails.
        resumed: whether somebody asks for the run, as for one that was parked.
        began: what the wall clock says at first, in unix seconds; the real time by default.
    """
    loop = ProgramLoop(seed, world, limit=MOST_SECONDS, began=began)
    life = Life(world, number, held or History())
    loop.set_exception_handler(lambda loop, context: None)
    asyncio.set_event_loop(loop)
    try:
        with quiet():
            station = Station(
                store,
                after=kill,
                stop=stop,
                fault=fault,
                life=life,
                loop=loop,
            )
            for question in life.held.questions:
                station.asked.put_nowait(question)
            work = _in_runtime(life, station, workflow, budget=budget, resumed=resumed)
            loop.run_until_complete(work)
    except Stuck as stuck:
        life.wrong("stuck", str(stuck))
    finally:
        left = _clean_up(loop)
        asyncio.set_event_loop(None)
        loop.close()
    life.leaving = (life.leaving[0], loop.wall_clock())
    if left and not world.is_dead:
        life.wrong("left", f"{len(left)} tasks outlive the runtime: {left[0]}")
    return life


def _clean_up(loop: ProgramLoop) -> list[str]:
    left = asyncio.all_tasks(loop)
    names = [repr(task.get_coro()) for task in left]
    was_dead, loop.world.is_dead = loop.world.is_dead, True
    for task in left:
        task.cancel()
    if left:
        with contextlib.suppress(Stuck), quiet():
            loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
    loop.world.is_dead = was_dead
    return names


async def _in_runtime(
    life: Life, station: Station, workflow: Workflow, *, budget: Budget | None, resumed: bool
) -> None:
    async with Runtime(
        cast("Store", station), workflows=[workflow], settings=_SETTINGS, look_seconds=LOOK_SECONDS
    ) as runtime:
        try:
            if life.number:
                run_id = station.numbered(life.number).id
                run = await (runtime.resume(run_id) if resumed else runtime.get(run_id))
            else:
                run = await _started(life, station, runtime, workflow, budget)
        except StoreError:
            life.world.is_dead = True
            return
        answering = asyncio.create_task(_answer(station, runtime, life))
        ending = asyncio.create_task(_ended(run))
        await asyncio.wait({ending, station.over}, return_when=asyncio.FIRST_COMPLETED)
        answering.cancel()
        if station.parked:
            life.wrong("parked", station.parked)
        if not ending.done():
            ending.cancel()
        elif not station.is_down:
            life.outcome = ending.result()
            if life.outcome.startswith('["broken"'):
                life.wrong("result", life.outcome)
                return
            await _replay(life, station, runtime, run)
        await asyncio.wait({answering, ending})


async def _started(
    life: Life, station: Station, runtime: Runtime, workflow: Workflow, budget: Budget | None
) -> Run:
    """Start the run; where nobody knows whether it was, once more.

    Raises:
        StoreError: the process is dead.
    """
    key = secrets.token_hex(8)  # whatever the seed: several lives may share a store
    while True:
        try:
            run = await runtime.start(workflow, Start(), budget=given("", budget), key=key)
            life.number = station.run(run.id).number
            return run
        except StoreError:
            if station.is_down:
                raise


async def _ended(run: Run) -> str:
    """Return how a run ends, whatever commits fail meanwhile."""
    while True:
        try:
            return await outcome_of(run)
        except StoreError:
            await asyncio.sleep(1)  # it is taken anew; a dead process waits for nothing


async def outcome_of(run: Run) -> str:
    """Return how a run ends, as JSON.

    Raises:
        StoreError: nobody knows.
    """
    try:
        output = await run.result()
    except RunCancelled:
        return '["cancelled"]'
    except RunFailed as failed:
        said = _RUN_ID.sub("run", failed.cause_message)
        return json.dumps(["failed", failed.cause_type, said])
    except StoreError:
        raise
    except Exception as error:  # noqa: BLE001  whatever it is, it is no way for a run to end
        return json.dumps(["broken", type(error).__name__, str(error)])
    return json.dumps(["completed", output.model_dump()])


async def _replay(life: Life, station: Station, runtime: Runtime, run: Run) -> None:
    before, left = life.world.counts.copy(), _left_behind(station)
    try:
        again = await outcome_of(await runtime.replay(run.id))
    except Diverged as diverged:
        life.wrong("replay", str(diverged))
    except Exception as error:  # noqa: BLE001  it is shown
        life.wrong("replay", f"{type(error).__name__}: {error}")
    else:
        if again != life.outcome:
            life.wrong("replay", f"{life.outcome} is {again} on replay")
    executed = life.world.counts - before
    names = [name for name in executed if not _is_at_any(name, left)]
    if names:
        life.wrong("replay", f"executed {names}")


def _left_behind(station: Station) -> list[str]:
    """Return where the children were called that the run's end has cancelled, and not awaited."""
    store = cast("Store", station)
    rows = station.runs(status=OPEN)
    return [place_of(row, JournalReader(store, row).one(1).data) for row in rows]


def _is_at_any(name: str, places: Sequence[str]) -> bool:
    site = name.partition(":")[2]
    return any(is_at(f"{site}/", place) for place in places)


async def _answer(station: Station, runtime: Runtime, life: Life) -> None:
    """Answer each question after a while, as one person for each."""
    async with asyncio.TaskGroup() as people:
        while True:
            number, path = await station.asked.get()
            people.create_task(_say(station, runtime, life, number, path))


async def _say(station: Station, runtime: Runtime, life: Life, number: int, path: str) -> None:
    if is_unanswered(path):
        return
    await life.world.take_time(f"ask:{key_of(path)}")
    row = station.numbered(number)
    while not station.is_down:
        try:
            await (await runtime.get(row.id)).answer(path, answer_to(path))
        except AskError:
            return  # it was answered before, or is asked no more
        except StoreError:
            continue  # nobody knows whether that was said
        else:
            return
