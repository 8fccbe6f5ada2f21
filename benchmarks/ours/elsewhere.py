"""Ours: runs that are started in one process and driven in another, one after the other.

    elsewhere.py URL RUNS              started here, driven in a process of its own
    elsewhere.py URL RUNS --ray        started here, driven in a host on Ray
    elsewhere.py URL --drive           drives what is started elsewhere, until its input ends

Prints the milliseconds from `runtime.start` to `run.result()` of each run, as one JSON list.
"""

import asyncio
import json
import subprocess
import sys
import time

from crew import Runtime, workflow

FIRST = 5
"""Runs that are not counted: whatever is found out first is found out in them."""
PAUSE_SECONDS = 0.03


@workflow
async def hello(name: str) -> str:
    return f"Hello, {name}"


async def measure(url: str, runs: int, *, ray: bool) -> list[float]:
    found = list[float]()
    async with Runtime(url, agents="ray" if ray else "local", worker=ray) as runtime:
        for number in range(FIRST + runs):
            await asyncio.sleep(PAUSE_SECONDS)
            began = time.perf_counter()
            run = await runtime.start(hello, str(number))
            assert await run.result() == f"Hello, {number}"
            found.append(1e3 * (time.perf_counter() - began))
    return found[FIRST:]


async def drive(url: str) -> None:
    async with Runtime(url, workflows=[hello]):
        print(flush=True)
        await asyncio.to_thread(sys.stdin.readline)


def main() -> None:
    url, runs, *options = sys.argv[1:]
    if runs == "--drive":
        asyncio.run(drive(url))
    elif options:
        print(json.dumps(asyncio.run(measure(url, int(runs), ray=True))))
    else:
        command = [sys.executable, __file__, url, "--drive"]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        with subprocess.Popen(command, text=True, **pipes) as driver:
            assert driver.stdout is not None
            driver.stdout.readline()
            print(json.dumps(asyncio.run(measure(url, int(runs), ray=False))))
            driver.communicate("\n")


if __name__ == "__main__":
    main()
