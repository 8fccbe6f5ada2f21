"""Runs whose code nobody has loaded: found, named once, and left for who has it."""

import asyncio
import logging
import subprocess
import sys

from crew import Context, Runtime, workflow
from crew.errors import StoreError
from tests.core.lives import SECONDS, left_waiting, result, stores


@workflow
async def asks(ctx: Context, number: int) -> int:
    return number if await ctx.ask(bool, "Go on?", key="go") else 0


@workflow
async def other(ctx: Context, number: int) -> int:
    return number


@stores
async def test_run_without_code_is_found_until_somebody_has_it(url):
    run = await left_waiting(url, asks)
    async with Runtime(url, workflows=[other]) as runtime:
        found = await runtime.get(run)
        assert not await found.is_loaded()
        assert [row.id for row in runtime.loaded.waiting()] == [run]
        async with Runtime(url, workflows=[asks]):
            assert await found.is_loaded()
            assert runtime.loaded.waiting() == []


async def test_who_asks_often_gets_what_was_there_a_moment_ago(tmp_path):
    url = f"sqlite:///{tmp_path}/runs.db"
    run = await left_waiting(url, asks)
    async with Runtime(url, workflows=[other]) as runtime:
        assert [row.id for row in runtime.loaded.waiting_of_late()] == [run]
        await (await runtime.get(run)).cancel()
        assert [row.id for row in runtime.loaded.waiting_of_late()] == [run]
        assert runtime.loaded.waiting() == []


async def test_log_names_each_run_without_code_once(tmp_path, caplog):
    url = f"sqlite:///{tmp_path}/runs.db"
    run = await left_waiting(url, asks)

    def named() -> list[logging.LogRecord]:
        return [each for each in caplog.records if each.message == "run.unloaded"]

    async with Runtime(url, workflows=[other]) as runtime, asyncio.timeout(SECONDS):
        runtime.loaded.tell()
        runtime.loaded.tell()
        async with Runtime(url, workflows=[asks]):
            runtime.loaded.tell()
        runtime.loaded.tell()
    (told,) = named()
    assert told.run == run
    assert "crew serve OLD.py NEW.py" in told.hint


async def test_runtime_may_be_open_for_longer_than_a_block():
    runtime = await Runtime(":memory:", workflows=[other]).open()
    try:
        assert await result(await runtime.start(other, 3)) == 3
    finally:
        await runtime.close()


async def test_what_could_not_be_shown_to_others_is_shown_later(tmp_path, monkeypatch):
    url = f"sqlite:///{tmp_path}/runs.db"
    run = await left_waiting(url, asks)
    async with Runtime(url, workflows=[other]) as looking:
        found = await looking.get(run)
        async with Runtime(url) as runtime:
            with monkeypatch.context() as patched:
                patched.setattr(runtime.store, "serve", refuse)
                await runtime.start(asks, 1)
            assert not await found.is_loaded()
            runtime.loaded.tell()
            assert await found.is_loaded()


def refuse(*_: object) -> None:
    raise StoreError(message="the disk is full")


HOLDING = """
import asyncio, sys
from crew import Context, Runtime, workflow

@workflow
async def asks(ctx: Context, number: int) -> int:
    return number if await ctx.ask(bool, "Go on?", key="go") else 0

async def main() -> None:
    async with Runtime(sys.argv[1], workflows=[asks]):
        print("there", flush=True)
        await asyncio.sleep(3600)

asyncio.run(main())
"""


async def test_process_that_was_killed_has_no_code_loaded_any_more(tmp_path):
    url = f"sqlite:///{tmp_path}/runs.db"
    run = await left_waiting(url, asks)
    holder = subprocess.Popen([sys.executable, "-c", HOLDING, url], stdout=subprocess.PIPE)
    try:
        async with Runtime(url, workflows=[other]) as runtime:
            found = await runtime.get(run)
            assert holder.stdout.readline() == b"there\n"
            assert await found.is_loaded()
            holder.kill()
            holder.wait()
            assert not await found.is_loaded()
    finally:
        holder.kill()
        holder.communicate()
