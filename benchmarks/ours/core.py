"""Ours: pieces of work for the core, done one at a time as their names come in by stdin.

    core.py FOLDER WHERE

FOLDER is for its stores, WHERE is the checkout that `crew` has to come from. For each name it
prints what it measured as one JSON object: microseconds of wall time and of processor time a unit.
"""

import asyncio
import gc
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import BaseModel

import crew
from crew import Agent, Context, Graph, Runtime, workflow
from crew.llm import ModelRequest
from crew.testing import ScriptedModel
from crew.value import Codec

FOLDER, WHERE = sys.argv[1], sys.argv[2]
STEPS = 1_000
CALLS = 1_000
GATHERED = 2_000
MAPPED = 4_000
BRANCHES = (1_000, 10_000)
TURNS = 200
IMPORTS = 3
VALUES = 20_000

Figures = dict[str, tuple[float, float]]


class Taken:
    """Where a measured block leaves what it took, in microseconds a unit."""

    figure = (0.0, 0.0)


@contextmanager
def measured(units: int) -> Iterator[Taken]:
    taken = Taken()
    gc.collect()
    wall, cpu = time.perf_counter(), time.process_time()
    yield taken
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    taken.figure = (1e6 * wall / units, 1e6 * cpu / units)


async def run_of(flow: Any, given: object, units: int, *names: str) -> Figures:
    """Run a workflow on a new file, and then replay it if there is a second name for that."""
    found: Figures = {}
    with tempfile.TemporaryDirectory(dir=FOLDER) as folder:
        async with Runtime(f"sqlite:///{folder}/core.db", workflows=[flow]) as runtime:
            with measured(units) as live:
                run = await runtime.start(flow, given)
                await run.result()
            found[names[0]] = live.figure
            for name in names[1:]:
                with measured(units) as again:
                    await runtime.replay(run.id)
                found[name] = again.figure
    return found


class Count(BaseModel):
    n: int
    of: int


class Done(BaseModel):
    n: int


chain = Graph("chain", input=Count, output=Done, max_steps=10 * STEPS)


@chain.node
async def count(value: Count) -> Count | Done:
    if value.n + 1 >= value.of:
        return Done(n=value.n)
    return Count(n=value.n + 1, of=value.of)


async def step() -> Figures:
    return await run_of(chain, Count(n=0, of=STEPS), STEPS, "a durable step")


async def tick(n: int) -> int:
    return n + 1


async def ticks(ctx: Context, calls: int) -> int:
    for n in range(calls):
        await ctx.run(tick, n)
    return calls


@workflow
async def in_sequence(ctx: Context, calls: int) -> int:
    return await ticks(ctx, calls)


@workflow
async def in_two_tasks(ctx: Context, calls: int) -> int:
    tasks = [asyncio.create_task(ticks(ctx, calls // 2)) for _ in range(2)]
    return sum([await task for task in tasks])


@workflow
async def gathered(ctx: Context, calls: int) -> int:
    return len(await asyncio.gather(*(ctx.run(tick, n) for n in range(calls))))


@workflow
async def mapped(ctx: Context, calls: int) -> int:
    return len(await ctx.map(tick, range(calls)))


async def call() -> Figures:
    return await run_of(in_sequence, CALLS, CALLS, "a call, one task", "a call, one task, replay")


async def two_tasks() -> Figures:
    names = ("a call, two tasks", "a call, two tasks, replay")
    return await run_of(in_two_tasks, CALLS, CALLS, *names)


async def gather() -> Figures:
    names = (f"a call, {GATHERED:,} by gather", f"a call, {GATHERED:,} by gather, replay")
    return await run_of(gathered, GATHERED, GATHERED, *names)


async def mapping() -> Figures:
    names = (f"a call, {MAPPED:,} by map", f"a call, {MAPPED:,} by map, replay")
    return await run_of(mapped, MAPPED, MAPPED, *names)


class Wide(BaseModel):
    branches: int


class Branch(BaseModel):
    n: int


class Result(BaseModel):
    n: int


fan = Graph("fan", input=Wide, output=Done)


@fan.node
async def spread(wide: Wide) -> list[Branch]:
    return [Branch(n=n) for n in range(wide.branches)]


@fan.node
async def work(branch: Branch) -> Result:
    return Result(n=branch.n)


@fan.node
async def join(results: list[Result]) -> Done:
    return Done(n=len(results))


async def fan_out() -> Figures:
    found: Figures = {}
    for branches in BRANCHES:
        name = f"a branch, fan-out of {branches:,}"
        found |= await run_of(fan, Wide(branches=branches), branches, name)
    return found


def agreed(_request: ModelRequest) -> str:
    return "agreed"


agent = Agent("agent", model=ScriptedModel(agreed))


@workflow
async def turns(ctx: Context, calls: int) -> int:
    for n in range(calls):
        await ctx.run(agent, f"turn {n}")
    return calls


@workflow
async def turns_at_once(ctx: Context, calls: int) -> int:
    return len(await asyncio.gather(*(ctx.run(agent, f"turn {n}") for n in range(calls))))


async def agents() -> Figures:
    return await run_of(turns, TURNS, TURNS, "an agent's call, in sequence") | await run_of(
        turns_at_once, TURNS, TURNS, f"an agent's call, {TURNS} at once"
    )


class Two(BaseModel):
    name: str
    size: int


async def value() -> Figures:
    codec, two = Codec(Two, where="a benchmark"), Two(name="a", size=1)
    with measured(VALUES) as taken:
        for _ in range(VALUES):
            codec.passed_on(two)
    return {"a value of two fields, passed on": taken.figure}


async def imported() -> Figures:
    """Take the fastest of a few processes, start and end included; its processor time is theirs."""
    first_call = Path(__file__).with_name("first_call.py")
    return {
        "import crew, a process": _process("-c", "import crew"),
        "an agent's first call, a process": _process(str(first_call)),
    }


def _process(*program: str) -> tuple[float, float]:
    best = (float("inf"), float("inf"))
    for _ in range(IMPORTS):
        wall, cpu = time.perf_counter(), _of_children()
        subprocess.run([sys.executable, *program], check=True)
        taken = 1e6 * (time.perf_counter() - wall), 1e6 * (_of_children() - cpu)
        best = min(best[0], taken[0]), min(best[1], taken[1])
    return best


def _of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


WORKS: dict[str, Callable[[], Coroutine[Any, Any, Figures]]] = {
    "step": step,
    "call": call,
    "tasks": two_tasks,
    "gather": gather,
    "map": mapping,
    "fan_out": fan_out,
    "import": imported,
    "agent": agents,
    "value": value,
}


def main() -> None:
    assert Path(crew.__file__).is_relative_to(WHERE), f"crew came from {crew.__file__}"
    for line in sys.stdin:
        print(json.dumps(asyncio.run(WORKS[line.strip()]())), flush=True)


main()
