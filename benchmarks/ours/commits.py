"""Effects, each with its intent on disk before it happens, as many as a process makes in a time.

Prints a line once it has made its first, and begins with the next line that it reads.
"""

import asyncio
import json
import sys
import time

from crew import Context, Runtime, workflow

RUNS = 4
"""At once in each process: they share commits."""


async def act(number: int) -> int:
    return number


@workflow
async def acting(ctx: Context, until: float) -> int:
    done = 0
    while not done or time.time() < until:
        await ctx.effect(act, done, key=f"act {done}")
        done += 1
    return done


async def main(url: str, seconds: float) -> None:
    async with Runtime(url, workflows=[acting]) as runtime:
        await (await runtime.start(acting, 0.0)).result()
        print(flush=True)
        sys.stdin.readline()
        until = time.time() + seconds
        runs = [await runtime.start(acting, until) for _ in range(RUNS)]
        print(json.dumps(sum([await run.result() for run in runs])))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], float(sys.argv[2])))
