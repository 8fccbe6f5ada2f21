"""Ours: a loop of no-op steps, `runs` at once, in SQLite with synchronous=FULL (the default)."""

import asyncio
import json
import sys
import time

from pydantic import BaseModel

from crew import Graph, Runtime

folder, steps, runs = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])


class Count(BaseModel):
    n: int


class Done(BaseModel):
    n: int


loop = Graph("loop", input=Count, output=Done, max_steps=10 * steps)


@loop.node
async def count(value: Count) -> Count | Done:
    return Done(n=value.n) if value.n + 1 >= steps else Count(n=value.n + 1)


async def one(runtime: Runtime) -> None:
    await (await runtime.start(loop, Count(n=0))).result()


async def main() -> None:
    async with Runtime(f"sqlite:///{folder}/ours.db") as runtime:
        await one(runtime)
        began, cpu = time.perf_counter(), time.process_time()
        await asyncio.gather(*(one(runtime) for _ in range(runs)))
        wall, cpu = time.perf_counter() - began, time.process_time() - cpu
    per_step = 1e6 / (steps * runs)
    print(json.dumps({"wall": wall * per_step, "cpu": cpu * per_step}))


asyncio.run(main())
