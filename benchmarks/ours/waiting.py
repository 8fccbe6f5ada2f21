"""Ours: many runs that wait for a person; what they cost the process, and how long an answer takes.

    waiting.py FOLDER SIZES...

Prints of each size the bytes and the allocated blocks that a waiting run keeps in the process when
it has left, and the milliseconds from an answer to the run's result, answers in random order.
"""

import asyncio
import gc
import json
import os
import random
import statistics
import sys
import time
from pathlib import Path

from crew import Context, Runtime, workflow

folder, sizes = sys.argv[1], [int(size) for size in sys.argv[2:]]
ANSWERS = 50
LINGER_SECONDS = 1.0
TOGETHER = 500
LEAVE_LIMIT = 60.0
STILL = 500  # blocks; fewer in a second is not a run that leaves


@workflow
async def approve(ctx: Context, n: int) -> bool:
    return await ctx.ask(bool, f"May {n} go?", key="go")


async def start(runtime: Runtime, numbers: range) -> list:
    runs = []
    for first in range(0, len(numbers), TOGETHER):
        some = numbers[first : first + TOGETHER]
        runs += await asyncio.gather(*(runtime.start(approve, n) for n in some))
    return runs


async def left(runtime: Runtime, names: list[str]) -> float:
    """Wait until runs wait and are out of memory; return the seconds it took."""
    began = time.perf_counter()
    for name in names:
        run = await runtime.get(name)
        while await run.status() != "waiting":  # noqa: ASYNC110  nothing tells from outside
            await asyncio.sleep(0.01)
    await asyncio.sleep(2 * LINGER_SECONDS)
    most = kept()[1]
    while time.perf_counter() - began < LEAVE_LIMIT:
        await asyncio.sleep(LINGER_SECONDS)
        now = kept()[1]
        if now > most - STILL:
            break
        most = now
    return time.perf_counter() - began


def kept() -> tuple[int, int]:
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE"), sys.getallocatedblocks()


async def answered(run) -> float:
    began = time.perf_counter()
    await run.answer("go", True)
    assert await run.result()
    return 1e3 * (time.perf_counter() - began)


async def main() -> None:
    source, found, waiting = random.Random(17), {}, []
    async with Runtime(f"sqlite:///{folder}/ours.db") as runtime:
        warm = await start(runtime, range(ANSWERS))
        await left(runtime, [run.id for run in warm])
        for run in warm:
            await answered(run)
        await asyncio.sleep(2 * LINGER_SECONDS)
        before = kept()
        for size in sizes:
            began, new = time.perf_counter(), size - len(waiting)
            waiting += [run.id for run in await start(runtime, range(len(waiting), size))]
            started = (time.perf_counter() - began) / new
            leaving = await left(runtime, [waiting[0], waiting[-1]])
            after = kept()
            taken = []
            for _ in range(ANSWERS):
                name = waiting.pop(source.randrange(len(waiting)))
                taken.append(await answered(await runtime.get(name)))
            found[str(size)] = {
                "bytes": (after[0] - before[0]) / size,
                # Less the run's id, which this program keeps.
                "blocks": (after[1] - before[1]) / size - 1,
                "start_us": 1e6 * started,
                "leave_s": leaving,
                "answer_ms": statistics.median(taken),
                "answer_ms_worst": max(taken),
            }
    print(json.dumps(found))


asyncio.run(main())
