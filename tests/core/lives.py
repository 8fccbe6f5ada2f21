"""The lives of a run in tests: it waits, is gone on with by another runtime, and is replayed."""

import asyncio
import contextlib
from typing import Any

import pytest

from crew import Runtime

SECONDS = 20.0
"""What a machine under load may take for what takes milliseconds."""
stores = pytest.mark.parametrize("url", ["sqlite", "postgres"], indirect=True)


async def until(run: Any, *statuses: str) -> str:
    """Return a run's status once it is one of these."""
    async with asyncio.timeout(SECONDS):
        while (status := await run.status()) not in statuses:
            await asyncio.sleep(0.01)
        return status


async def result(run: Any) -> Any:
    async with asyncio.timeout(SECONDS):
        return await run.result()


async def left_waiting(url: str, *flows: Any, value: Any = 0) -> str:
    """Start a run of the first flow; leave its runtime once it waits for a person."""
    async with Runtime(url, workflows=flows) as runtime:
        run = await runtime.start(flows[0], value)
        async with asyncio.timeout(SECONDS):
            while not await run.questions():
                await asyncio.sleep(0.01)
        await until(run, "waiting")
        return run.id


async def answered(url: str, *flows: Any, run: str) -> tuple[Any, list[Any]]:
    """Answer `go` to a run in a runtime of its own; return what it gives, and its events."""
    async with Runtime(url, workflows=flows) as runtime:
        found = await runtime.get(run)
        await found.answer("go", True)
        return await result(found), await found.recorded()


async def restarted(url: str, *flows: Any, value: Any = 0) -> Any:
    """Return what a run gives that was left while it waited, and answered elsewhere."""
    output, _ = await answered(url, *flows, run=await left_waiting(url, *flows, value=value))
    return output


async def replayed(url: str, *flows: Any, value: Any = 0) -> tuple[Any, Any]:
    """Return what a run gives live, and what by its journal alone."""
    async with Runtime(url, workflows=flows) as runtime:
        run = await runtime.start(flows[0], value)
        await until(run, "waiting", "completed", "failed")
        with contextlib.suppress(Exception):
            await run.answer("go", True)
        live = await result(run)
        return live, await result(await runtime.replay(run.id))
