"""A workflow run under faults: crashes at every place, and what has to hold all the same."""

import asyncio
import contextlib
import math
import random
from collections import Counter
from collections.abc import Callable, Coroutine, Generator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Self, TypeVar

from crew.agent import Agent, WithModel
from crew.call.record import AgentTask, Calls, Performer
from crew.config import Settings, load_settings
from crew.errors import AskError, Diverged, EffectUnknown, RunFailed, StoreError
from crew.graph import Workflow
from crew.hosts.local import LocalHosts
from crew.journal import PARKED, Store
from crew.journal.memory import MemoryStore
from crew.llm import Model
from crew.message import Json
from crew.run import Question, Run, Runtime
from crew.run.poison import DEATHS_TO_PARK
from crew.testing.faulty_store import FaultyStore
from crew.testing.promises import Journals, acts_in, broken_in, journals_of
from crew.testing.quiet import quiet
from crew.testing.scheduler import SeededLoop, Stuck

T = TypeVar("T")

LOOK_SECONDS = 120.0
"""How often a simulated runtime looks for work, in virtual seconds."""
MOST_CRASHES = DEATHS_TO_PARK - 1
"""How often one simulated run is crashed: once more, with nothing done, and it would be parked."""
STILL_SECONDS = 2 * 86_400.0
"""Virtual seconds without an event, and with no time to wait for, that show a run to be stuck."""
MOST_SCHEDULES = 50
"""How many undisturbed schedules are tried for an outcome, at most."""
_THREAD = "simulated"
"""A simulated run is the first turn of it, so that its code may keep something with the thread."""

In = TypeVar("In")

_UNDECIDED = object()


class SimulationFailed(AssertionError):
    """A simulated run did not keep what a journal promises; `seed` makes it happen again."""

    def __init__(self, seed: int, crashes: Sequence[int], problem: str) -> None:
        super().__init__(f"{_where(seed, crashes)}: {problem}")
        self.seed = seed
        self.crashes = tuple(crashes)


def _where(seed: int, crashes: Sequence[int]) -> str:
    return f"seed {seed}, " + (f"crashed after events {list(crashes)}" if crashes else "no crash")


@dataclass(frozen=True, slots=True)
class Simulated:
    """What a simulation did. It may be awaited, so that async tests read as they should."""

    seeds: int
    crashes: int
    output: Any

    def __await__(self) -> Generator[Any, None, Self]:
        yield from ()
        return self


Answer = Callable[[Question], Any]


def simulate(
    workflow: Workflow[In, Any],
    input: In | None = None,  # noqa: A002  the public surface fixes the name
    *,
    seeds: int | Sequence[int] = 100,
    answer: Answer | None = None,
    models: Mapping[str, Model] | None = None,
) -> Simulated:
    """Run a workflow undisturbed, then once for each seed under faults, and compare.

    Each seed chooses an order of everything that is ready, in virtual time, so that an hour's sleep
    takes no time; where the process is killed (up to twice), so that what was not committed
    by then is lost and a new runtime goes on from the rest; which commits fail without anybody
    knowing whether they were written; and which letters come late, or twice. Every such run must
    end as an undisturbed one does, without doing anything again whose completion was recorded, and
    without acting more often; its replay must give the same; no task may outlive it. Or it stops
    because a crash hid whether an effect happened, and its policy is to fail. Nothing is logged.
    Each run is the first turn of a thread. Works from a plain test, and from an async one (where it
    may be awaited).

    Args:
        workflow: its models should be scripted by the request (a callable), since a crash may ask
            twice for what was in flight; nothing in it may wait for the world outside.
        input: what each run is started with.
        seeds: how many, or which.
        answer: what a person says to a question; needed if the workflow asks.
        models: what the agents of these names ask in place of their own models, in children too.

    Raises:
        SimulationFailed: a promise was broken, or a run was parked or stuck: nothing happened in
            two virtual days, and no time was waited for. The message names the seed.
        RunFailed: the workflow itself failed; a note names the seed.
    """
    chosen = range(seeds) if isinstance(seeds, int) else seeds
    subject = _Subject(workflow, input, answer, models or {})
    if not _is_on_a_loop():
        return _simulate(subject, chosen)
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(_simulate, subject, chosen).result()


def _is_on_a_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _simulate(subject: "_Subject", seeds: Sequence[int]) -> Simulated:
    crashes = 0
    with quiet():
        output = subject.first()
        for seed in seeds:
            case = _Case(subject, seed)
            if problem := case.problem():
                raise SimulationFailed(seed, case.places, problem)
            crashes += len(case.places)
    return Simulated(len(seeds), crashes, output)


def _on_loop(seed: int, work: Coroutine[Any, Any, T]) -> T:
    """Run on a loop of its own, which cannot hang."""
    loop = SeededLoop(seed, limit=math.inf)
    loop.set_exception_handler(lambda loop, context: None)
    runner = asyncio.Runner(loop_factory=lambda: loop)
    try:
        return runner.run(work)
    finally:
        with contextlib.suppress(Stuck):
            runner.close()


@dataclass(slots=True)
class _Subject:
    """What is simulated, and what its undisturbed schedules come to."""

    workflow: Workflow
    value: Any
    answer: Answer | None
    models: Mapping[str, Model]
    outputs: list[Any] = field(default_factory=list)
    acts: Counter[str] = field(default_factory=Counter)
    """The most acts of each kind that a schedule made."""
    events: int = 0
    _schedules: int = 0

    def first(self) -> Any:
        """Run it undisturbed, and return its output."""
        case = _Case(self, 0, crashes=0)
        if problem := case.problem():
            raise SimulationFailed(0, (), problem)
        return self.outputs[0]

    def has(self, output: Any, acts: Counter[str]) -> bool:
        """Return whether an undisturbed schedule comes to this, looking at more if need be."""
        while output not in self.outputs or not acts <= self.acts:
            if self._schedules >= MOST_SCHEDULES:
                return False
            self._schedules += 1
            with contextlib.suppress(RunFailed):
                _Case(self, self._schedules, crashes=0).problem()
        return True

    def keep(self, output: Any, journals: Journals) -> None:
        """Keep what an undisturbed schedule came to."""
        self.outputs.append(output)
        self.acts |= acts_in(journals)
        self.events = max(self.events, sum(map(len, journals.values())))

    def runtime(self, store: Any, *, worker: bool = True) -> Runtime:
        settings = load_settings()
        return Runtime(
            store,
            workflows=[self.workflow],
            worker=worker,
            settings=settings,
            hosts=_Hosts(settings, self.models),
            look_seconds=LOOK_SECONDS,
        )


class _Hosts(LocalHosts):
    """Agents run here, with the models that stand in for their own."""

    def __init__(self, settings: Settings, models: Mapping[str, Model]) -> None:
        super().__init__(settings)
        self._models = models

    async def perform(self, agent: Performer, task: AgentTask, calls: Calls) -> dict[str, Json]:
        model = self._models.get(agent.name)
        if model is not None and isinstance(agent, Agent):
            agent = WithModel(model)(agent)
        return await super().perform(agent, task, calls)


class _Case:
    """One seed: a run with crashes and faults, or an undisturbed one."""

    def __init__(self, subject: _Subject, seed: int, *, crashes: int = MOST_CRASHES) -> None:
        self._subject, self._seed, self._crashes = subject, seed, crashes
        self._chance = random.Random(seed)  # noqa: S311  repeatable
        self._kept = MemoryStore()
        self._run_id = ""
        self._output: Any = None
        self._ended = False
        self.places: list[int] = []
        """After how many events it was crashed each time."""

    def problem(self) -> str:
        """Run it, and return what was wrong, or nothing."""
        try:
            problem = _on_loop(self._seed, self._run()) or _broken(self._kept)
            if problem or not self._ended:
                return problem
            if not self._crashes:
                self._subject.keep(self._output, journals_of(self._kept))
                return ""
            return self._compared() or _on_loop(self._seed, self._replayed())
        except Stuck as stuck:
            return f"the run is stuck: {stuck}"
        except RunFailed as error:
            error.add_note(f"simulated under {_where(self._seed, self.places)}")
            raise

    async def _run(self) -> str:
        if not self._crashes:
            return await self._live(self._kept)
        self.places.append(self._chance.randint(1, self._subject.events))
        store = FaultyStore(self._kept, after=self.places[0], chance=self._chance)
        problem = await self._live(store)
        while self._run_id and store.is_down and not problem:
            more = self._chance.randint(1, self._subject.events)
            store.restart(after=more if len(self.places) < self._crashes else 1 << 30)
            self._kept.forget_owners()
            problem = await self._live(store)
            if store.is_down:
                self.places.append(more)
        return problem

    async def _live(self, store: Any) -> str:
        """Live until the run ends or the store is down; return a problem."""
        async with self._subject.runtime(store) as runtime:
            try:
                run = await self._handle(runtime)
            except StoreError:
                return ""  # it was never accepted, so nothing was promised
            problem = await self._until_down(store, run)
        left = await _end_what_is_left()
        if left and not problem and self._ended:
            return f"{len(left)} tasks outlive the runtime, the first of {left[0]}"
        return problem

    async def _handle(self, runtime: Runtime) -> Run:
        if self._run_id:
            return await runtime.get(self._run_id)
        run = await runtime.start(self._subject.workflow, self._subject.value, thread=_THREAD)
        self._run_id = run.id
        return run

    async def _until_down(self, store: Any, run: Run) -> str:
        """Wait for the output, or until the process is taken to be killed; return a problem."""
        while not getattr(store, "is_down", False):
            ending = asyncio.ensure_future(_result(run, self._subject.answer))
            watching = asyncio.ensure_future(_watch(store))
            try:
                await asyncio.wait({ending, watching}, return_when=asyncio.FIRST_COMPLETED)
                if watching.done():
                    return watching.result()
                self._output, self._ended = ending.result(), True
                return ""
            except StoreError:
                await asyncio.sleep(1)  # a fault of a moment: the worker goes on by itself
            finally:
                ending.cancel()
                watching.cancel()
                await asyncio.wait({ending, watching})
        return ""

    def _compared(self) -> str:
        if self._output is _UNDECIDED:
            return ""
        subject, output, acts = self._subject, self._output, acts_in(journals_of(self._kept))
        if subject.has(output, acts):
            return ""
        if output not in subject.outputs:
            return f"the output is {output!r}, undisturbed it is {subject.outputs[0]!r}"
        (what, count), *_ = (acts - subject.acts).items()
        most = subject.acts[what]
        return f"{what} was made {most + count} times, undisturbed {most} times at most"

    async def _replayed(self) -> str:
        # What made a node fail may lie outside the journal, and need not happen again.
        failed = any(e.kind == "step.failed" for e in journals_of(self._kept)[self._run_id])
        if self._output is _UNDECIDED or failed:
            return ""
        async with self._subject.runtime(self._kept, worker=False) as runtime:
            try:
                again = await (await runtime.replay(self._run_id)).result()
            except (Diverged, RunFailed) as error:
                return f"its replay fails: {error}"
        if again == self._output:
            return ""
        return f"the output is {self._output!r}, on replay it is {again!r}"


def _broken(store: Store) -> str:
    return next(filter(None, map(broken_in, journals_of(store).values())), "")


async def _watch(store: Any) -> str:
    """Return why no end will come, once that is seen."""
    loop = asyncio.get_running_loop()
    seen, since = -1, loop.time()
    while True:
        rows = store.runs()
        for row in rows:
            if row.owner == PARKED:
                parked = next(e for e in reversed(store.events(row.number)) if "parked" in e.kind)
                return f"run {row.workflow!r} was parked: {parked.body}"
        offsets = sum(row.offset for row in rows)
        if offsets != seen or any(row.due is not None for row in rows):
            seen, since = offsets, loop.time()
        elif loop.time() - since > STILL_SECONDS:
            return "the run is stuck: nothing happened in two days, and no time is waited for"
        await asyncio.sleep(LOOK_SECONDS)


async def _end_what_is_left() -> list[str]:
    """Cancel tasks that outlive a runtime, as the end of its process would; return of what."""
    left = asyncio.all_tasks() - {asyncio.current_task()}
    names = [getattr(task.get_coro(), "__qualname__", "?") for task in left]
    for task in left:
        task.cancel()
    if left:
        await asyncio.wait(left, timeout=LOOK_SECONDS)
    return names


async def _result(run: Run, answer: Answer | None) -> Any:
    """Return a run's output; `_UNDECIDED` if an effect is unknown."""
    answering = asyncio.ensure_future(_keep_answering(run, answer)) if answer else None
    try:
        return await run.result()
    except RunFailed as error:
        if error.cause_type != EffectUnknown.__name__:
            raise
        return _UNDECIDED
    finally:
        if answering is not None:
            answering.cancel()
            await asyncio.wait([answering])


async def _keep_answering(run: Run, answer: Answer) -> None:
    while True:
        for question in await run.questions():
            with contextlib.suppress(AskError, StoreError):
                await run.answer(question.path, answer(question))
        await asyncio.sleep(LOOK_SECONDS)
