"""A plan made into a real graph, and run: undisturbed, and with a crash in the middle."""

import asyncio
import functools
import operator
from collections import Counter
from collections.abc import Coroutine
from dataclasses import dataclass, field
from random import Random
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, create_model

from crew import Append, Context, Graph, Retry, Runtime
from crew.errors import RunFailed, StoreError
from crew.journal.memory import MemoryStore
from crew.testing import CrashingStore, SeededLoop
from tests.programs.graphs import NodePlan, Plan, State, Taken, Value, decide, digest, key_of
from tests.programs.interpreter import MOST_STEPS, Ended

T = TypeVar("T")
EVERYTHING = 1 << 30
LONGEST_SECONDS = 60.0
"""After how many virtual seconds a run is taken to be stuck."""


class Broken(Exception):
    """A node fails for good."""


class Shared(BaseModel):
    notes: Annotated[list[int], Append()] = []
    last: int = 0


@dataclass(slots=True)
class Log:
    """What the nodes of a graph did."""

    steps: Counter[tuple[str, object]] = field(default_factory=Counter)
    failed: Counter[tuple[str, object]] = field(default_factory=Counter)
    running: Counter[str] = field(default_factory=Counter)
    most: Counter[str] = field(default_factory=Counter)

    def enter(self, node: str) -> None:
        self.running[node] += 1
        assert self.steps.total() < 10 * MOST_STEPS, "it does not end"
        self.most[node] = max(self.most[node], self.running[node])


@functools.cache
def model(name: str) -> type[BaseModel]:
    return create_model(name, n=(int, ...), fuel=(int, ...))


def graph_of(plan: Plan, log: Log) -> Graph:
    """Return the graph that a plan describes; its nodes write down what they did."""
    graph = Graph(
        f"graph{plan.seed}",
        input=_union(plan.inputs),
        output=_union(plan.outputs),
        state=Shared if plan.has_state else None,
        max_steps=plan.max_steps,
    )
    for node in plan.nodes:
        graph.node(
            _function(plan, node, log),
            retry=Retry(attempts=node.attempts, first_delay=0.05),
            concurrency=node.concurrency,
            after=node.after,
            broadcast=node.broadcast,
        )
    return graph


def _union(names: tuple[str, ...]) -> Any:
    """Return the union of some types; of none, None."""
    return functools.reduce(operator.or_, [model(name) for name in names]) if names else None


def _function(plan: Plan, node: NodePlan, log: Log) -> Any:
    async def work(ctx: Any, value: Any) -> Any:
        taken = _value(value)
        log.enter(node.name)
        try:
            return await _work(plan, node, log, ctx, taken)
        finally:
            log.running[node.name] -= 1

    taken, given = _union(node.takes), _union(node.gives)
    given = list[given] if node.fans_out else given
    work.__name__ = node.name
    work.__annotations__ = {
        "ctx": Context,
        "value": list[taken] if node.joins else taken,
        "return": given | None if given and (node.may_end or node.back) else given,
    }
    return work


async def _work(plan: Plan, node: NodePlan, log: Log, ctx: Context, taken: Taken) -> Any:
    key = (node.name, key_of(plan, taken))
    await asyncio.sleep(digest(plan.seed, *key) % 4 / 100)
    shared = ctx.state if plan.has_state else Shared()
    decision = decide(plan, node, taken, State(tuple(shared.notes), shared.last))
    if decision.notes:
        ctx.patch(notes=list(decision.notes))
    if decision.last is not None:
        ctx.patch(last=decision.last)
    if decision.breaks:
        raise Broken(node.name)
    if log.failed[key] < node.failures:
        log.failed[key] += 1
        raise OSError("for a while")  # what this attempt patched is void
    log.steps[key] += 1
    return _models(decision.result)


def _value(value: Any) -> Taken:
    if isinstance(value, list):
        return [Value(type(item).__name__, item.n, item.fuel) for item in value]
    return Value(type(value).__name__, value.n, value.fuel)


def _models(result: Value | list[Value] | None) -> Any:
    if isinstance(result, list):
        return [_models(item) for item in result]
    return None if result is None else model(result.type)(n=result.n, fuel=result.fuel)


@dataclass(slots=True)
class Ran:
    """How a run ended, how many events it has, and the steps that began again once completed."""

    end: Ended | None
    events: int
    repeated: list[str]


def run(plan: Plan, graph: Graph) -> Ran:
    """Run a graph undisturbed."""
    return _on_loop(plan.seed, _run(graph, plan, MemoryStore()))


def run_with_a_crash(plan: Plan, graph: Graph, events: int) -> Ran:
    """Run a graph until its process dies after a random one of its events, then go on."""
    after = Random(plan.seed).randint(2, max(2, events - 1))
    return _on_loop(plan.seed + 1, _crash(graph, plan, after))


def _on_loop(seed: int, work: Coroutine[Any, Any, T]) -> T:
    with asyncio.Runner(loop_factory=lambda: SeededLoop(seed)) as runner:
        return runner.run(work)


async def _run(graph: Graph, plan: Plan, store: Any) -> Ran:
    async with Runtime(store, workflows=[graph]) as runtime:
        run = await runtime.start(graph, _models(plan.start))
        return await _ran(run)


async def _crash(graph: Graph, plan: Plan, after: int) -> Ran:
    kept = MemoryStore()
    store = CrashingStore(kept, after=after)
    async with Runtime(store, workflows=[graph]) as runtime:
        run = await runtime.start(graph, _models(plan.start))
        ran = await _ran(run)
    if not store.is_down:
        return ran
    store.restart(after=EVERYTHING)
    kept.forget_owners()
    async with Runtime(store, workflows=[graph]) as runtime:
        return await _ran(await runtime.get(run.id))


async def _ran(run: Any) -> Ran:
    end: Ended | None
    try:
        async with asyncio.timeout(LONGEST_SECONDS):
            output = await run.result()
        end = Ended("output", Value(type(output).__name__, output.n, output.fuel))
    except RunFailed as error:
        end = Ended(error.cause_type)
    except TimeoutError:
        end = Ended("stuck")
    except StoreError:
        end = None
    recorded = await run.recorded()
    return Ran(end, len(recorded), _repeated(recorded))


def _repeated(events: list[Any]) -> list[str]:
    done: set[str] = set()
    again: list[str] = []
    for event in events:
        if event.kind == "step.completed":
            done.add(event.path)
        elif event.kind == "step.started" and event.path in done:
            again.append(event.path)
    return again
