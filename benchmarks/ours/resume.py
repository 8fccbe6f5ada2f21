"""Ours: a run that is killed when `steps` are finished, and a fresh process that goes on with it.

    resume.py FOLDER STEPS write|resume graph|code

`write` says "ready" when all steps are on disk and the next one is entered, and waits for its
SIGKILL. `resume` prints the milliseconds from before the store is opened to the next step's body.
"""

import asyncio
import json
import os
import sys
import time

from pydantic import BaseModel

from crew import Context, Graph, Runtime, workflow
from crew.journal.sqlite import SqliteStore

folder, steps, phase, shape = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4]
began = 0.0


class Count(BaseModel):
    n: int


class Done(BaseModel):
    n: int


counting = Graph("counting", input=Count, output=Done, max_steps=2 * steps)


@counting.node
async def count(value: Count) -> Count | Done:
    if value.n == steps:
        await arrived()
    return Done(n=value.n) if value.n > steps else Count(n=value.n + 1)


@workflow
async def coded(ctx: Context, start: int) -> int:
    for n in range(start, steps):
        await ctx.run(tick, n)
    return await ctx.run(last, steps)


def tick(n: int) -> int:
    return n + 1


async def last(n: int) -> int:
    await arrived()
    return n


async def arrived() -> None:
    if phase == "resume":
        print(json.dumps({"ms": 1e3 * (time.perf_counter() - began)}), flush=True)
        os._exit(0)
    await asyncio.sleep(0.2)  # longer than a commit may be put off
    print("ready", flush=True)
    await asyncio.sleep(60)


async def main() -> None:
    global began  # noqa: PLW0603  the clock of this process
    flow = counting if shape == "graph" else coded
    began = time.perf_counter()
    async with Runtime(SqliteStore(f"{folder}/ours.db"), workflows=[flow]) as runtime:
        if phase == "write":
            await runtime.start(flow, Count(n=0) if shape == "graph" else 0)
        await asyncio.sleep(600)


asyncio.run(main())
