"""A bit of the file turns over: what is read is the truth, or an error says what is damaged."""

import asyncio
import random
import shutil
import sqlite3
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from crew import RunFailed, RunNotFound, Runtime, StoreError
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
    path = folder / "whole.db"
    return folder, asyncio.run(_read(path, asyncio.run(_ids(path))))


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


async def _ids(path: Path) -> list[str]:
    async with Runtime(f"sqlite:///{path}", worker=False) as runtime:
        return [run.id for run in await runtime.runs()]


async def _read(path: Path, ids: list[str]) -> dict[str, Any]:
    """Return all that can be read of each run: its row, events and result, or what says why not."""
    found: dict[str, Any] = {}
    async with Runtime(f"sqlite:///{path}", worker=False) as runtime:
        for run_id in ids:
            try:
                found[run_id] = await _everything(runtime, await runtime.get(run_id))
            except (StoreError, RunNotFound) as error:
                found[run_id] = error
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


async def _read_flipped(kept: Path, name: str, ids: list[str], *flip: Any) -> dict[str, Any]:
    """Return what is read of a copy in which one bit turned over."""
    path, (suffix, place, bit) = kept / "copy" / "runs.db", flip
    shutil.rmtree(path.parent, ignore_errors=True)
    path.parent.mkdir()
    for each in ("", "-wal"):
        if (source := kept / f"{name}{each}").exists():
            shutil.copy(source, f"{path}{each}")
    _flip(Path(f"{path}{suffix}"), place, bit)
    try:
        return await _read(path, ids)
    except StoreError as error:
        return dict.fromkeys(ids, error)


def _is_prefix(read: Any, true: Any) -> bool:
    """Whether a run is read as it once was: it has the first of its events, or was not there."""
    if isinstance(read, RunNotFound):
        return True
    return read[1] == true[1][: len(read[1])] and read[0].offset == len(read[1])


async def _try(kept: Any, name: str, suffix: str, count: int, seed: int) -> Counter[str]:
    """Flip so many bits; return how the runs were read then."""
    folder, truth = kept
    found: Counter[str] = Counter()
    for place, bit in _flips(folder / f"{name}{suffix}", count, seed):
        read = await _read_flipped(folder, name, list(truth), suffix, place, bit)
        wrong = {key: value for key, value in read.items() if value != truth[key]}
        errors = sum(isinstance(value, StoreError) for value in wrong.values())
        if not wrong:
            found["changed nothing"] += 1
        elif errors == len(wrong):
            found["damaged all runs" if errors == len(truth) else "damaged some runs"] += 1
        elif all(_is_prefix(value, truth[key]) for key, value in wrong.items()):
            found["lost the newest"] += 1
        else:
            raise AssertionError(f"bit {bit} of byte {place} of {name}{suffix}: {wrong}")
    return found


async def test_a_flipped_bit_is_never_read_as_history(kept):
    found = await _try(kept, "whole.db", "", FLIPS, seed=1)
    _report("in the file", found)
    assert not found["lost the newest"]
    assert found["damaged some runs"] > found["damaged all runs"]


async def test_a_flipped_bit_of_the_log_is_never_read_as_history(kept):
    """SQLite takes it for the end of its log, as after a power cut: the newest part may be lost."""
    found = await _try(kept, "logged.db", "-wal", FLIPS, seed=1)
    _report("in the log", found)
    assert found["lost the newest"] + found["changed nothing"] > found.total() / 2


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", range(2, 8))
async def test_none_of_many_flipped_bits_is_read_as_history(kept, seed):
    found = await _try(kept, "whole.db", "", FLIPS, seed)
    _report("in the file", found)
    assert not found["lost the newest"]


def _report(where: str, found: Counter[str]) -> None:
    how = ", ".join(f"{count} {what}" for what, count in sorted(found.items()))
    print(f"{found.total()} flipped bits {where}: {how}")  # noqa: T201  it is what is asked for


async def test_a_damaged_event_leaves_the_other_runs_alone(kept):
    folder, truth = kept
    path = folder / "one.db"
    shutil.copy(folder / "whole.db", path)
    db = sqlite3.connect(path)
    (first,) = db.execute("SELECT min(id) FROM segments WHERE id >> 32 = 1").fetchone()
    db.execute("UPDATE segments SET crc = crc + 1 WHERE id = ?", (first,))
    db.commit()
    db.close()
    read = await _read(path, list(truth))
    (damaged,) = (key for key in truth if read[key] != truth[key])
    assert truth[damaged][0].number == 1
    assert f"damaged at event {first - (1 << 32)}" in str(read[damaged])
