"""A workflow run under faults: crashes at every place, and what has to hold all the same."""

import asyncio
import random
from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Self

from crew.errors import EffectUnknown, RunFailed, StoreError
from crew.event import Event
from crew.graph import Workflow
from crew.journal import Append, NewRun, Operation, Store
from crew.journal.memory import MemoryStore
from crew.run import Run, Runtime

MOST_CRASHES = 3
"""How often one simulated run is crashed, at most."""

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


class CrashingStore:
    """A store that stops writing after so many events, as when its process is killed.

    What was committed stays; everything after is refused, until `restart`.
    """

    def __init__(self, store: Store, *, after: int) -> None:
        self._store = store
        self._left = after
        self.is_down = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def commit(self, operations: Sequence[Operation]) -> list[object]:
        size = sum(
            len(operation.events) if isinstance(operation, Append) else 1
            for operation in operations
            if isinstance(operation, Append | NewRun)
        )
        if self.is_down or size > self._left:
            self.is_down = True
            raise StoreError(message="simulated crash")
        self._left -= size
        return self._store.commit(operations)

    def restart(self, *, after: int) -> None:
        """Let writes through again, for so many events."""
        self.is_down, self._left = False, after


def simulate(
    workflow: Workflow,
    input: Any = None,  # noqa: A002  the public surface fixes the name
    *,
    seeds: int | Sequence[int] = 100,
) -> Simulated:
    """Run a workflow undisturbed, then once for each seed with crashes, and compare.

    Each seed chooses where its run is cut off: what was not committed by then is lost, and a new
    runtime goes on from the rest, up to three times. Every such run must end as the undisturbed
    one did, without doing anything again whose completion was recorded; or it stops because a crash
    hid whether an effect happened, and its policy is to fail. Works from a plain test,
    and from an async one (where it may be awaited).

    Args:
        workflow: its models should be scripted by the request (a callable), since a crash may ask
            twice for what was in flight.
        input: what each run is started with.
        seeds: how many, or which.

    Raises:
        SimulationFailed: a promise was broken; the message names the seed.
    """
    chosen = range(seeds) if isinstance(seeds, int) else seeds
    work = _simulate(workflow, input, chosen)
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, work).result()


async def _simulate(workflow: Workflow, value: Any, seeds: Sequence[int]) -> Simulated:
    expected, events = await _undisturbed(workflow, value)
    crashes = 0
    for seed in seeds:
        chance = random.Random(seed)  # noqa: S311  it has to be repeatable, not secret
        places, problem = await _crashed(workflow, value, chance, events, expected)
        crashes += len(places)
        if problem:
            raise SimulationFailed(seed, places, problem)
    return Simulated(len(seeds), crashes, expected)


async def _undisturbed(workflow: Workflow, value: Any) -> tuple[Any, int]:
    async with Runtime(MemoryStore(), workflows=[workflow]) as runtime:
        run = await runtime.start(workflow, value)
        output = await run.result()
        return output, len(await run.recorded())


async def _crashed(
    workflow: Workflow, value: Any, chance: random.Random, events: int, expected: Any
) -> tuple[list[int], str]:
    """Run once, with crashes; return after how many events they came, and what went wrong."""
    places = [chance.randint(1, events)]
    kept = MemoryStore()
    store = CrashingStore(kept, after=places[0])
    run_id, output = await _start(store, workflow, value)
    if run_id is None:
        return places, ""  # it was never accepted, so nothing was promised
    while store.is_down:
        more = chance.randint(1, events) if len(places) < MOST_CRASHES else 1 << 30
        store.restart(after=more)
        kept.forget_owners()
        output = await _go_on(store, workflow, run_id)
        if store.is_down:
            places.append(more)
    async with Runtime(kept, worker=False) as looking:
        recorded = await (await looking.get(run_id)).recorded()
    return places, _problem(recorded, output, expected)


async def _start(store: Any, workflow: Workflow, value: Any) -> tuple[str | None, Any]:
    async with Runtime(store, workflows=[workflow]) as runtime:
        try:
            run = await runtime.start(workflow, value)
        except StoreError:
            return None, None
        return run.id, await _result(run)


async def _go_on(store: Any, workflow: Workflow, run_id: str) -> Any:
    async with Runtime(store, workflows=[workflow]) as runtime:
        return await _result(await runtime.get(run_id))


async def _result(run: Run) -> Any:
    """Return a run's output; None if the store went down, `_UNDECIDED` if an effect is unknown."""
    try:
        return await run.result()
    except StoreError:
        return None
    except RunFailed as error:
        if error.cause_type != EffectUnknown.__name__:
            raise
        return _UNDECIDED


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
