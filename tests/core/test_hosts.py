"""Hosts that die at their work, and what a run host asks of the runtime that it holds."""

import asyncio
import gc

import pytest

from crew import Agent, Budget, Context, Fenced, RunFailed, Runtime, workflow
from crew.config import Settings
from crew.hosts import HostLost
from crew.hosts.collector import MOST_NEW, look_less
from crew.hosts.local import LocalHosts
from crew.journal import Take
from crew.journal.memory import MemoryStore
from crew.run.calls import RunCalls
from crew.run.driver import Driver
from crew.run.runtime import hosted
from crew.testing import ScriptedModel

FINDER = Agent("finder", model=ScriptedModel(lambda request: "found"))


@workflow
async def finding(ctx: Context, text: str) -> str:
    return (await ctx.run(FINDER, text)).output


class DyingHosts(LocalHosts):
    """Hosts of which so many die at their work, one after the other."""

    def __init__(self, deaths: int) -> None:
        super().__init__(Settings())
        self.deaths = deaths

    async def perform(self, agent, task, calls):
        self.deaths -= 1
        if self.deaths >= 0:
            raise HostLost("killed")
        return await super().perform(agent, task, calls)


async def test_work_whose_host_died_is_done_by_another_one():
    async with Runtime(":memory:", hosts=DyingHosts(2)) as runtime:
        run = await runtime.start(finding, "x")
        assert await run.result() == "found"
        told = [event.data["text"] async for event in run.events() if "text" in event.data]
    assert told[:2] == ["host lost: killed"] * 2


async def test_work_that_kills_its_hosts_is_not_tried_for_ever():
    async with Runtime(":memory:", hosts=DyingHosts(1000)) as runtime:
        run = await runtime.start(finding, "x")
        with pytest.raises(RunFailed, match="8 hosts of agent 'finder' died one after the other"):
            await run.result()


class Answering(LocalHosts):
    """Hosts that answer by what `work` does with the task and the calls of its run."""

    def __init__(self, work) -> None:
        super().__init__(Settings())
        self.work = work

    async def perform(self, agent, task, calls):
        return {"output": await self.work(task, calls), "messages": [], "usage": {}}


async def test_a_host_reaches_the_run_it_works_for_under_its_own_epoch_alone(url):
    async def work(task, calls):
        with pytest.raises(Fenced):
            runtime.calls_of(task.run, task.epoch + 1)
        return "same" if runtime.calls_of(task.run, task.epoch).run_id == calls.run_id else "other"

    async with hosted(url, Settings(), finding, Answering(work)) as runtime:
        assert await (await runtime.start(finding, "x")).result() == "same"


async def test_a_call_that_one_dispatch_completed_stays_so_though_another_begins_it():
    async def work(task, calls):
        call = (f"{task.path}/look.0", "tool", "look", {})
        assert await calls.begin(*call) is None
        await calls.complete(*call[:2], {"result": "first"})
        await calls.restart(*call)  # by a dispatch that saw it as begun
        return (await calls.begin(*call)).result["result"]

    async with Runtime(":memory:", hosts=Answering(work)) as runtime:
        assert await (await runtime.start(finding, "x")).result() == "first"


async def test_a_host_that_is_retired_ends_what_it_has_and_takes_nothing_more(url):
    go_on = asyncio.Event()

    async def work(task, calls):
        await go_on.wait()
        return "done"

    async with hosted(url, Settings(), finding, Answering(work)) as host:
        run = await host.start(finding, "x")
        draining = asyncio.create_task(host.drain())
        assert host.active() == 1
        asyncio.get_running_loop().call_later(0.05, go_on.set)
        await draining
        assert (host.active(), await run.status()) == (0, "completed")
        async with Runtime(url, worker=False) as other:
            later = await other.start(finding, "later")
            await asyncio.sleep(0.15)
            assert await later.status() == "running"


async def test_a_run_that_another_worker_took_is_let_go():
    store, go_on = MemoryStore(), asyncio.Event()

    async def work(task, calls):
        await go_on.wait()
        return "done"

    async with Runtime(store, hosts=Answering(work)) as runtime:
        run = await runtime.start(finding, "x")
        row = store.run(run.id)
        store.claim_owner("other")
        store.commit([Take(row.number, "other", row.owner)])
        go_on.set()
        with pytest.raises(TimeoutError):  # it is the other's to end, and followed until then
            await asyncio.wait_for(run.result(), 0.3)
        assert (runtime.active(), runtime.lost_of(row.number)) == (0, None)
        assert store.run(run.id).owner == "other"


async def test_a_host_calls_for_the_attempt_that_goes_on_alone():
    async def work(task, calls):
        hosted = runtime.calls_of(task.run, task.epoch)
        call = (f"{task.path}/look.0", "tool", "look", {})
        assert await hosted.begin(*call) is None
        await hosted.complete(*call[:2], {"result": "found"})
        with pytest.raises(asyncio.CancelledError):
            await hosted.begin(task.path.replace("]", "]~2", 1), "model", "model", {})
        return (await hosted.begin(*call)).result["result"]

    async with Runtime(":memory:", hosts=Answering(work)) as runtime:
        assert await (await runtime.start(finding, "x")).result() == "found"


class Asked:
    """The calls of a run, of which it notes the names."""

    def __init__(self, calls, names: list[str]) -> None:
        self.calls, self.names = calls, names

    def __getattr__(self, name: str):
        self.names.append(name)
        return getattr(self.calls, name)


class Watched(LocalHosts):
    """Hosts that note what agents ask of their runs."""

    def __init__(self) -> None:
        super().__init__(Settings())
        self.names: list[str] = []

    async def perform(self, agent, task, calls):
        return await super().perform(agent, task, Asked(calls, self.names))


async def asked_under(budget: Budget | None, of_call: Budget | None = None) -> list[str]:
    hosts = Watched()

    @workflow
    async def flow(ctx: Context, text: str) -> str:
        return (await ctx.run(FINDER, text, budget=of_call)).output

    async with Runtime(":memory:", hosts=hosts) as runtime:
        assert await (await runtime.start(flow, "x", budget=budget)).result() == "found"
    return hosts.names


@pytest.mark.parametrize("budget", [None, Budget(calls=3), Budget(seconds=60)])
async def test_an_agent_asks_for_no_allowance_where_no_tokens_are_limited(budget):
    assert await asked_under(budget) == ["begin", "complete"]


async def test_an_agent_asks_for_an_allowance_under_a_budget_of_its_run_or_its_call():
    budget = Budget(tokens=10_000)
    for names in (await asked_under(budget), await asked_under(None, budget)):
        assert sorted(names) == ["allowance", "begin", "complete"]


def drivers() -> list[Driver | RunCalls]:
    return [item for item in gc.get_objects() if isinstance(item, Driver | RunCalls)]


async def test_the_driver_of_a_run_that_ended_needs_no_garbage_collector():
    async with Runtime(":memory:") as runtime:
        await (await runtime.start(finding, "warm")).result()
        await asyncio.sleep(0.05)
        gc.collect()
        others = drivers()
        known = {id(item) for item in others}
        gc.disable()
        try:
            for number in range(20):
                await (await runtime.start(finding, f"{number}")).result()
            async with asyncio.timeout(10):
                while {id(item) for item in drivers()} - known:
                    await asyncio.sleep(0.05)
        finally:
            gc.enable()
    del others


def test_a_host_leaves_alone_what_was_there_before_it_and_looks_less_often():
    before = gc.get_threshold()
    try:
        look_less()
        assert gc.get_freeze_count() > 0
        assert gc.get_threshold() == (MOST_NEW, *before[1:])
    finally:
        gc.unfreeze()
        gc.set_threshold(*before)
