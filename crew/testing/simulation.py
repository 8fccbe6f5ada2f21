"""A workflow run under faults: crashes at every place, and what has to hold all the same."""

import asyncio
import contextlib
import functools
import random
from collections.abc import Callable, Coroutine, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Self, TypeVar

from crew.errors import AskError, EffectUnknown, RunFailed, StoreError
from crew.event import Event
from crew.graph import Workflow
from crew.journal.memory import MemoryStore
from crew.run import Question, Run, Runtime
from crew.run.poison import DEATHS_TO_PARK
from crew.testing.faulty_store import FaultyStore
from crew.testing.scheduler import SeededLoop

T = TypeVar("T")

LOOK_SECONDS = 120.0
"""How often a simulated runtime looks for work, in virtual seconds."""
MOST_CRASHES = DEATHS_TO_PARK - 1
"""How often one simulated run is crashed: once more, with nothing done, and it would be parked."""

_UNDECIDED = object()


class SimulationFailed(AssertionError):
    """A simulated run did not keep what a journal promises; `seed` makes it happen again."""

    def __init__(self, seed: int, crashes: Sequence[int], problem: str) -> None:
        super().__init__(f"seed {seed}, crashed after events {list(crashes)}: {problem}")
        self.seed = seed
        self.crashes = tuple(crashes)


@dataclass(frozen=True, slots=True)
class Simulated:
    """What a simulation did. It may be awaited, so that async tests read as they should."""

    seeds: int
    crashes: int
    output: Any

    def __await__(self) -> Generator[Any, None, Self]:
        yield from ()
        return self


def simulate(
    workflow: Workflow,
    input: Any = None,  # noqa: A002  the public surface fixes the name
    *,
    seeds: int | Sequence[int] = 100,
    answer: Callable[[Question], Any] | None = None,
) -> Simulated:
    """Run a workflow undisturbed, then once for each seed under faults, and compare.

    Each seed chooses an order of everything that is ready, in virtual time, so that an hour's sleep
    takes no time; where the process is killed (up to twice), so that what was not committed
    by then is lost and a new runtime goes on from the rest; which commits fail without anybody
    knowing whether they were written; and which letters come late, or twice. Every such run must
    end as the undisturbed one did, without doing anything again whose completion was recorded; or
    it stops because a crash hid whether an effect happened, and its policy is to fail. Works from
    a plain test, and from an async one (where it may be awaited).

    Args:
        workflow: its models should be scripted by the request (a callable), since a crash may ask
            twice for what was in flight; nothing in it may wait for the world outside.
        input: what each run is started with.
        seeds: how many, or which.
        answer: what a person says to a question; needed if the workflow asks.

    Raises:
        SimulationFailed: a promise was broken; the message names the seed.
    """
    chosen = range(seeds) if isinstance(seeds, int) else seeds
    work = functools.partial(_simulate, workflow, input, chosen, answer)
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return work()
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(work).result()


Answer = Callable[[Question], Any]


def _simulate(
    workflow: Workflow, value: Any, seeds: Sequence[int], answer: Answer | None
) -> Simulated:
    expected, events = _on_loop(0, _undisturbed(workflow, value, answer))
    crashes = 0
    for seed in seeds:
        case = _Case(workflow, value, answer, random.Random(seed))  # noqa: S311  repeatable
        problem = _on_loop(seed, case.run(events, expected))
        crashes += len(case.places)
        if problem:
            raise SimulationFailed(seed, case.places, problem)
    return Simulated(len(seeds), crashes, expected)


def _on_loop(seed: int, work: Coroutine[Any, Any, T]) -> T:
    with asyncio.Runner(loop_factory=lambda: SeededLoop(seed)) as runner:
        return runner.run(work)


async def _undisturbed(workflow: Workflow, value: Any, answer: Answer | None) -> tuple[Any, int]:
    async with Runtime(MemoryStore(), workflows=[workflow], look_seconds=LOOK_SECONDS) as runtime:
        run = await runtime.start(workflow, value)
        output = await _result(run, answer)
        return output, len(await run.recorded())


class _Case:
    """One seed: a run with crashes and faults."""

    def __init__(
        self, workflow: Workflow, value: Any, answer: Answer | None, chance: random.Random
    ) -> None:
        self._workflow, self._value, self._answer = workflow, value, answer
        self._chance = chance
        self.places: list[int] = []

    async def run(self, events: int, expected: Any) -> str:
        """Return what went wrong, or nothing."""
        self.places.append(self._chance.randint(1, events))
        kept = MemoryStore()
        store = FaultyStore(kept, after=self.places[0], chance=self._chance)
        run_id, output = await self._start(store)
        if run_id is None:
            return ""  # it was never accepted, so nothing was promised
        while store.is_down:
            more = self._chance.randint(1, events)
            store.restart(after=more if len(self.places) < MOST_CRASHES else 1 << 30)
            kept.forget_owners()
            output = await self._go_on(store, run_id)
            if store.is_down:
                self.places.append(more)
        async with Runtime(kept, worker=False) as looking:
            recorded = await (await looking.get(run_id)).recorded()
        return _problem(recorded, output, expected)

    def _runtime(self, store: Any) -> Runtime:
        return Runtime(store, workflows=[self._workflow], look_seconds=LOOK_SECONDS)

    async def _start(self, store: Any) -> tuple[str | None, Any]:
        async with self._runtime(store) as runtime:
            try:
                run = await runtime.start(self._workflow, self._value)
            except StoreError:
                return None, None
            return run.id, await self._until_down(store, run)

    async def _go_on(self, store: Any, run_id: str) -> Any:
        async with self._runtime(store) as runtime:
            return await self._until_down(store, await runtime.get(run_id))

    async def _until_down(self, store: Any, run: Run) -> Any:
        """Return the output, or None once the process is taken to be killed."""
        while not store.is_down:
            try:
                return await _result(run, self._answer)
            except StoreError:
                await asyncio.sleep(1)  # a fault of a moment: the worker goes on by itself
        return None


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


def _problem(events: Sequence[Event], output: Any, expected: Any) -> str:
    if output is not _UNDECIDED and output != expected:
        return f"the output is {output!r}, undisturbed it is {expected!r}"
    done: set[str] = set()
    for event in events:
        phase = event.kind.rpartition(".")[2]
        if phase == "completed":
            done.add(event.path)
        elif phase == "started" and event.path in done:
            return f"{event.path} was started again (event {event.offset}) after it had completed"
    return ""
