"""Ours: calls of an instant agent, and tokens that agents stream, in Ray hosts or in this process.

    hosts.py FOLDER ray|local WORK…

A WORK is `alone=N`: N calls, one after the other; `map=N`: N at once; or `tokens=N`: N answers that
are streamed at once, as fast as they can be. Prints of each the seconds of wall time and, of this
process and its hosts together, of processor time: of a call alone the median, else of all.
"""

import asyncio
import json
import os
import statistics
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from crew import Agent, Context, Runtime, workflow
from crew.llm import ModelReply, ModelRequest
from crew.testing import ScriptedModel

folder, place, *works = sys.argv[1:]
WARM = 20
TOKEN = " word"
TOKENS = 2_000
TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")


def agreed(_request: ModelRequest) -> str:
    return "agreed"


class Speaker:
    """A model that says TOKENS tokens, each in a pass of the loop of its own."""

    name = "speaker"

    async def complete(self, request: ModelRequest, *, on_text: Any = None) -> ModelReply:
        for _ in range(TOKENS):
            if on_text is not None:
                on_text(TOKEN)
            await asyncio.sleep(0)
        return ModelReply(TOKEN * TOKENS)

    async def close(self) -> None:
        """Nothing is open."""


agent: Agent[str] = Agent("agent", model=ScriptedModel(agreed))
speaker: Agent[str] = Agent("speaker", model=Speaker())


@workflow
async def alone(ctx: Context, calls: int) -> float:
    taken = []
    for n in range(calls):
        began = time.perf_counter()
        await ctx.run(agent, f"turn {n}")
        taken.append(time.perf_counter() - began)
    return statistics.median(taken)


@workflow
async def mapped(ctx: Context, calls: int) -> float:
    began = time.perf_counter()
    await ctx.map(agent, [f"turn {n}" for n in range(calls)])
    return time.perf_counter() - began


@workflow
async def spoken(ctx: Context, streams: int) -> int:
    said = (ctx.run(speaker, f"stream {n}", emit=True) for n in range(streams))
    return len(await asyncio.gather(*said))


async def read(runtime: Runtime, streams: int) -> float:
    """Return the seconds from the start of a run to the end of all that it says."""
    began, missing = time.perf_counter(), streams * TOKENS * len(TOKEN)
    run = await runtime.start(spoken, streams)
    async for event in run.events():
        if event.kind == "text.emitted":
            missing -= len(event.data["text"])
    assert not missing
    return time.perf_counter() - began


async def done(runtime: Runtime, work: str) -> dict[str, float]:
    name, _, size = work.partition("=")
    before = processor_seconds()
    if name == "tokens":
        wall = await read(runtime, int(size))
    else:
        run = await runtime.start({"alone": alone, "map": mapped}[name], int(size))
        wall = await run.result()
    return {"wall": wall, "cpu": processor_seconds() - before}


def processor_seconds() -> float:
    """Return the processor time of this process, and of all beneath it that are there."""
    parents, ticks = dict[int, int](), dict[int, int]()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            fields = stat.read_text().rpartition(")")[2].split()
            parents[int(stat.parent.name)] = int(fields[1])
            ticks[int(stat.parent.name)] = int(fields[11]) + int(fields[12])
    mine = {os.getpid()}
    while more := {pid for pid, parent in parents.items() if parent in mine} - mine:
        mine |= more
    return sum(ticks.get(pid, 0) for pid in mine) / TICKS_A_SECOND


async def main() -> None:
    found = dict[str, dict[str, float]]()
    async with Runtime(f"sqlite:///{folder}/ours.db", agents=place) as runtime:
        for work in works:
            await done(runtime, f"{work.partition('=')[0]}={WARM}")
            found[work] = await done(runtime, work)
    print(json.dumps(found))


asyncio.run(main())
