"""A bit of the file turns over: what is read is the truth, or an error says what is damaged."""

import asyncio
import json
import random
import shutil
import sqlite3
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from crew import RunFailed, Runtime, StoreError
from crew.journal import OPEN
from crew.journal.sqlite import SqliteStore
from tests.core.flows import Count, Question, loop, research
from tests.faults.shop import ORDER, World, shop

FLIPS = 500
SECONDS = 5.0


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """A folder with `whole.db`, with `logged.db` and its log, and what is true of both."""
    folder = tmp_path_factory.mktemp("kept")
    asyncio.run(_write(folder))
    return folder, asyncio.run(_read(folder / "whole.db"))


async def _write(folder: Path) -> None:
    store = SqliteStore(folder / "whole.db")
    flows = [shop(World()), research(), loop(30)]
    async with Runtime(store, workflows=flows) as runtime:
        for flow, value in zip(flows, (ORDER, Question(text="c"), Count(n=0)), strict=True):
            for turn in range(3):
                key = f"key {turn}" if flow is not flows[2] else None
                thread = "a thread" if flow is flows[1] else None
                await (await runtime.start(flow, value, key=key, thread=thread)).result()
    for suffix in ("", "-wal"):
        shutil.copy(folder / f"whole.db{suffix}", folder / f"logged.db{suffix}")
    store.close()


async def _read(path: Path) -> dict[str, Any]:
    """Return all that can be read of each run: its row, events and result, or what says why not."""
    found: dict[str, Any] = {}
    async with Runtime(f"sqlite:///{path}", worker=False) as runtime:
        for run in await runtime.runs():
            try:
                found[run.id] = await _everything(runtime, run)
            except StoreError as error:
                found[run.id] = error
    return found


async def _everything(runtime: Runtime, run: Any) -> Any:
    row = runtime.store.run(run.id)
    events = [asdict(event) for event in await run.recorded()]
    if row is None or row.status in OPEN:
        return row, events, None
    try:
        return row, events, await asyncio.wait_for(run.result(), SECONDS)
    except RunFailed as error:
        return row, events, str(error)


def _flips(path: Path, count: int, seed: int) -> Iterator[tuple[int, int]]:
    chance = random.Random(seed)
    for _ in range(count):
        yield chance.randrange(path.stat().st_size), 1 << chance.randrange(8)


def _flip(path: Path, place: int, bit: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= bit
    path.write_bytes(data)


async def _read_flipped(kept: Path, name: str, suffix: str, flip: tuple[int, int]) -> Any:
    """Return what is read of a copy in which one bit turned over."""
    path = kept / "copy" / "runs.db"
    shutil.rmtree(path.parent, ignore_errors=True)
    path.parent.mkdir()
    for each in ("", "-wal"):
        if (source := kept / f"{name}{each}").exists():
            shutil.copy(source, f"{path}{each}")
    _flip(Path(f"{path}{suffix}"), *flip)
    try:
        return await _read(path)
    except StoreError as error:
        return error
