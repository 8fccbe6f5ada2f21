"""Which versions of workflows somebody has loaded, as any process on the store can tell."""

import asyncio
import logging

from crew import Context, Runtime, workflow
from tests.core.lives import left_waiting, stores, until


def version(number: str):
    async def triage(ctx: Context, value: int) -> bool:
        return await ctx.ask(bool, "Go?", key="go")

    return workflow(version=number)(triage)


@workflow
async def asking(ctx: Context, value: int) -> bool:
    return await ctx.ask(bool, "Go?", key="go")


@stores
async def test_version_is_loaded_while_somebody_takes_runs_of_it(url):
    run_id = await left_waiting(url, version("1"))
    async with Runtime(url, workflows=[version("2")]) as newer:
        run = await newer.get(run_id)
        assert not await run.is_loaded()
        async with Runtime(url, workflows=[version("1")]):
            assert await run.is_loaded()
        assert not await run.is_loaded()
        assert await (await newer.start(version("2"), 0)).is_loaded()


@stores
async def test_whoever_takes_no_runs_loads_none(url):
    run_id = await left_waiting(url, version("1"))
    async with Runtime(url, worker=False, workflows=[version("1")]) as office:
        assert not await (await office.get(run_id)).is_loaded()
        async with Runtime(url, workflows=[version("1")]):
            assert await (await office.get(run_id)).is_loaded()


@stores
async def test_workflow_that_is_started_is_loaded_from_then_on(url):
    run_id = await left_waiting(url, version("1"))
    async with Runtime(url) as runtime, Runtime(url, worker=False) as office:
        run = await office.get(run_id)
        assert not await run.is_loaded()
        await runtime.start(version("1"), 0)
        assert await run.is_loaded()


async def test_run_of_a_program_that_takes_no_others_is_its_own(tmp_path):
    url = f"sqlite:///{tmp_path}/runs.db"
    gate = asyncio.Event()

    @workflow
    async def waiting(ctx: Context, value: int) -> int:
        await gate.wait()
        return value

    async with Runtime(url, takes_over=False) as runtime, Runtime(url, worker=False) as office:
        run = await runtime.start(waiting, 1)
        assert await (await office.get(run.id)).is_loaded()
        gate.set()
        assert await run.result() == 1


@stores
async def test_runs_that_wait_for_code_are_named_once_in_the_log(url, caplog):
    caplog.set_level(logging.WARNING, "crew.run.loaded")
    ids = [await left_waiting(url, version("1")), await left_waiting(url, asking)]
    caplog.clear()
    async with Runtime(url, workflows=[asking]) as runtime:
        async with asyncio.timeout(20):
            while not caplog.records:
                await asyncio.sleep(0.01)
        runtime.loaded.tell()
        assert [record.run for record in caplog.records] == ids[:1]
        assert "crew serve OLD.py NEW.py" in caplog.records[0].hint
        async with Runtime(url, workflows=[version("1")]) as older:
            assert runtime.loaded.waiting() == []
            run = await older.get(ids[0])
            await run.answer("go", True)
            assert await until(run, "completed")
        assert runtime.loaded.waiting() == []


async def test_name_of_a_dead_process_loads_nothing(tmp_path):
    """Its file is left behind by a kill, without a lock."""
    url = f"sqlite:///{tmp_path}/runs.db"
    run_id = await left_waiting(url, version("1"))
    (tmp_path / "runs.db.owners" / "dead").write_bytes(bytes(8) + b'[["triage", "1"]]')
    async with Runtime(url, worker=False) as office:
        assert not await (await office.get(run_id)).is_loaded()
