"""New code meets runs under way: what fits goes on, what does not is parked and listed."""

import asyncio
from collections import Counter

import pytest

from crew import Context, Runtime, workflow

RUNS = 200
pytestmark = pytest.mark.parametrize("url", ["sqlite", "postgres"], indirect=True)


class Deployed:
    """Releases of two workflows, and what they did."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        self.open = asyncio.Event()

    async def work(self, name: str) -> str:
        self.calls[f"work {name}"] += 1
        return name

    async def other_work(self, name: str) -> str:
        self.calls[f"other work {name}"] += 1
        return name

    async def held(self, name: str) -> str:
        await self.open.wait()
        self.calls[f"held {name}"] += 1
        return name

    def release(self, way: str):
        """The first code; the same with a step more at the end; or with another first call."""

        @workflow(name="running")
        async def running(ctx: Context, name: str) -> str:
            first = self.work if way != "incompatible" else self.other_work
            said = await ctx.run(first, name, key="first")
            await ctx.run(self.held, name)
            return said if way == "first" else await ctx.run(self.work, f"{said} more")

        @workflow(name="asking")
        async def asking(ctx: Context, name: str) -> str:
            first = self.work if way != "incompatible" else self.other_work
            said = await ctx.run(first, name, key="first")
            agreed = await ctx.ask(bool, "Agreed?", key="agreed")
            return f"{said} {agreed}"

        return running, asking


async def started(deployed, url):
    """Start all of them with the first code, and leave them in the middle."""
    running, asking = deployed.release("first")
    async with Runtime(url) as runtime:
        runs = [await runtime.start(running, f"r{n}") for n in range(RUNS)]
        asked = [await runtime.start(asking, f"a{n}") for n in range(RUNS)]
        async with asyncio.timeout(60):
            while sum(deployed.calls.values()) < 2 * RUNS:
                await asyncio.sleep(0.02)
            while await runtime.runs(status="running", limit=RUNS + 1) == []:
                await asyncio.sleep(0.02)
            while len(await runtime.runs(status="waiting")) < RUNS:
                await asyncio.sleep(0.02)
    return [run.id for run in runs], [run.id for run in asked]


async def test_compatible_code_goes_on_without_repeating_a_call(url):
    deployed = Deployed()
    runs, asked = await started(deployed, url)
    deployed.open.set()
    async with Runtime(url, workflows=deployed.release("compatible")) as runtime:
        for run_id in asked:
            await (await runtime.get(run_id)).answer("agreed", True)
        outputs = [await (await runtime.get(run_id)).result() for run_id in (*runs, *asked)]
    expected = [f"r{n} more" for n in range(RUNS)] + [f"a{n} True" for n in range(RUNS)]
    assert outputs == expected
    assert set(deployed.calls.values()) == {1}


async def test_incompatible_code_parks_each_run_with_its_ways_on(url):
    deployed = Deployed()
    runs, asked = await started(deployed, url)
    async with Runtime(url, workflows=deployed.release("incompatible")) as runtime:
        for run_id in asked:
            run = await runtime.get(run_id)
            # Nobody drives a run that waits, so that it meets the new code with its answer.
            await runtime.resume(run.id)
        async with asyncio.timeout(60):
            while len(parked := await listed(runtime)) < 2 * RUNS:
                await asyncio.sleep(0.05)
        assert set(parked) == {*runs, *asked}
        assert all("other_work" in detail and "work:" in detail for detail in parked.values())
        assert not any(name.startswith("other") for name in deployed.calls)
        fork = await runtime.fork(asked[0])
        while not await fork.questions():
            await asyncio.sleep(0.02)
        await fork.answer("agreed", True)
        assert await fork.result() == "a0 True"
    deployed.open.set()
    async with Runtime(url, workflows=deployed.release("first")) as runtime:
        run = await runtime.resume(runs[0])  # the old code is another way on
        assert await run.result() == "r0"
        await (await runtime.get(runs[1])).cancel()
        assert await (await runtime.get(runs[1])).status() == "cancelled"
    counted = {name: count for name, count in deployed.calls.items() if count > 1}
    assert counted == {}


async def listed(runtime) -> dict[str, str]:
    found = {}
    for run in await runtime.runs(status="waiting"):
        last = (await run.recorded())[-1]
        if last.kind == "run.parked":
            found[run.id] = last.data["detail"]
    return found
