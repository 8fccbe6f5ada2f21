"""Processes that share the work of one store, and are killed or stopped at any moment.

    python -m tests.crash.owners URL FOLDER

is one of them: it drives runs until it is ended.
"""

import asyncio
import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

from pydantic import BaseModel

from crew import AskError, Context, Graph, Runtime
from crew.config import Settings
from crew.journal.reading import JournalReader
from crew.run import Run

LEASE = 0.5


class Job(BaseModel):
    name: str


class Done(BaseModel):
    name: str


def job_flow(folder: Path) -> Graph:
    """Steps that take a moment, and two effects that are to be retried, one without a key."""

    def did(label: str) -> str:
        handle = os.open(folder / "done", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        os.write(handle, f"{label}\n".encode())
        os.close(handle)
        return label

    async def nameless(label: str) -> str | None:
        did(label)
        await asyncio.sleep(0.08)
        return label

    async def named(label: str, idempotency_key: str) -> str:
        did(f"{label} {idempotency_key}")
        await asyncio.sleep(0.04)
        return label

    flow = Graph("job", input=Job, output=Done)

    @flow.node
    async def work(ctx: Context, job: Job) -> Done:
        await ctx.run(pause, 0.02)
        await ctx.effect(nameless, f"nameless {job.name}", key="nameless", unknown="retry")
        await ctx.run(pause, 0.03)
        await ctx.effect(named, f"named {job.name}", key="named", unknown="retry")
        return Done(name=job.name)

    return flow


async def pause(seconds: float) -> float:
    await asyncio.sleep(seconds)
    return seconds


class Owners:
    """Two such processes, and somebody who kills and stops them."""

    def __init__(self, url: str, folder: Path, seed: int) -> None:
        self.url, self.folder = url, folder
        self.chance = random.Random(seed)
        self.processes: dict[int, subprocess.Popen[bytes]] = {}

    def start_one(self) -> None:
        command = [sys.executable, "-m", "tests.crash.owners", self.url, str(self.folder)]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
        self.processes[process.pid] = process

    def end(self) -> None:
        for process in self.processes.values():
            process.kill()
            process.wait()

    def owner_of(self, runtime: Runtime, run: Run) -> int | None:
        row = runtime.store.run(run.id)
        assert row is not None
        events = JournalReader(runtime.store, row).every()
        pids = [event.data["pid"] for event in events if event.kind == "run.taken"]
        return pids[-1] if pids and pids[-1] in self.processes else None

    async def one_moment(self, runtime: Runtime, number: int, how: str) -> tuple[Run, str]:
        """Disturb whoever drives a run at a random moment; return the run, and what was broken."""
        flow = job_flow(self.folder)
        run = await runtime.start(flow, Job(name=str(number)))
        deadline = time.monotonic() + 30
        while (pid := self.owner_of(runtime, run)) is None:
            assert time.monotonic() < deadline, "nobody took the run"
            await asyncio.sleep(0.005)
        await asyncio.sleep(self.chance.uniform(0, 0.2))
        if how == "kill":
            process = self.processes.pop(pid)
            process.kill()
            process.wait()
            self.start_one()
        else:
            os.kill(pid, signal.SIGSTOP)
            await asyncio.sleep(self.chance.uniform(0, 3 * LEASE))
            os.kill(pid, signal.SIGCONT)
        await self._finished(run, number)
        # It is declared retryable, so a dead owner's is retried; a stopped one's must not be.
        return run, self.broken(runtime, run, number, most=2 if how == "kill" else 1)

    async def _finished(self, run: Run, number: int) -> None:
        """Answer as somebody who looks, once whoever was stopped has gone on."""
        async with asyncio.timeout(60):
            while await run.status() in ("running", "waiting"):
                if questions := await run.questions():
                    await asyncio.sleep(self.chance.choice((0.3, 1.3)))  # it may leave memory
                    # Meanwhile whoever was stopped may have found itself fenced, and the run ended.
                    with contextlib.suppress(AskError):
                        await run.answer(questions[0].path, f"nameless {number}" in self.done())
                await asyncio.sleep(0.01)
        assert (await run.result()).name == str(number)

    def done(self) -> list[str]:
        log = self.folder / "done"
        return log.read_text().split("\n") if log.exists() else []

    def broken(self, runtime: Runtime, run: Run, number: int, *, most: int) -> str:
        """Return which promise was broken, or nothing."""
        row = runtime.store.run(run.id)
        assert row is not None
        events = JournalReader(runtime.store, row).every(upto=row.offset)
        ends = Counter(event.path for event in events if event.kind.endswith(".completed"))
        if doubled := [path for path, count in ends.items() if count > 1]:
            return f"completed twice: {doubled}"
        times = self.done().count(f"nameless {number}")
        if not 1 <= times <= most:
            return f"the effect without a key happened {times} times"
        keys = {line for line in self.done() if line.startswith(f"named {number} ")}
        return "" if len(keys) == 1 else f"{len(keys)} keys for one effect"


async def disturb(
    url: str, folder: Path, moments: int, seed: int
) -> tuple[list[str], Counter[str]]:
    """Disturb the owners of `moments` runs; return what was broken, and what was seen."""
    owners, broken, seen = Owners(url, folder, seed), list[str](), Counter[str]()
    settings = Settings(store=url, lease=LEASE)
    for _ in range(2):
        owners.start_one()
    try:
        async with Runtime(url, worker=False, settings=settings) as runtime:
            for number in range(moments):
                how = ("kill", "stop")[number % 2]
                run, problem = await owners.one_moment(runtime, number, how)
                broken += [f"moment {number} ({how}): {problem}"] if problem else []
                kinds = [event.kind for event in await run.recorded()]
                seen["moments"] += 1
                seen["taken over"] += kinds.count("run.taken") > 1
                seen["unknown reported"] += "effect.unknown" in kinds
    finally:
        owners.end()
    return broken, seen


async def drive(url: str, folder: Path) -> None:
    async with Runtime(
        url, workflows=[job_flow(folder)], settings=Settings(store=url, lease=LEASE)
    ):
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(drive(sys.argv[1], Path(sys.argv[2])))
