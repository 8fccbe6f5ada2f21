"""Whatever the disk does: what was shown stays, and the run ends as it would have."""

import asyncio
import random
import sqlite3
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from crew import RunFailed, Runtime, StoreError
from crew.event import Event
from crew.graph import Workflow
from crew.journal.sqlite import SqliteStore
from tests.faults.disk import HITS, Disk, Fault
from tests.faults.shop import ORDER, World, shop

PATIENCE = 3.0
"""Seconds in which a worker whose store works again is to go on by itself."""
SECONDS_TO_END = 20.0
LEAST = 60
"""How many faults of each kind are tried, at least."""
LASTING = ("fsync", "full", "write")


@dataclass
class Seen:
    """What the first process showed: an accepted run, its events and its output."""

    run_id: str | None = None
    events: list[Event] = field(default_factory=list)
    output: Any = None
    ended: str = "died"


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The I/Os of a run on a disk that works, and its output."""
    return asyncio.run(_undisturbed(tmp_path_factory.mktemp("undisturbed") / "runs.db"))


async def _undisturbed(path: Path) -> tuple[list[str], Any]:
    with Disk() as disk:
        seen = await _first_life(path, disk, shop(World()))
    return disk.ios, seen.output


@pytest.mark.parametrize("lasting", [False, True])
@pytest.mark.parametrize("kind", HITS)
async def test_a_fault_loses_nothing_that_was_shown(kind, lasting, undisturbed, tmp_path):
    faults = _faults(kind, undisturbed[0], lasting=lasting)
    chosen = random.Random(kind).sample(faults, min(len(faults), 25))
    _report(await _try(chosen, undisturbed[1], tmp_path), kind, lasting=lasting)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("lasting", [False, True])
@pytest.mark.parametrize("kind", HITS)
async def test_a_fault_anywhere_loses_nothing_that_was_shown(kind, lasting, undisturbed, tmp_path):
    faults = _faults(kind, undisturbed[0], lasting=lasting)
    _report(await _try(faults, undisturbed[1], tmp_path), kind, lasting=lasting)


def _faults(kind: str, ios: list[str], *, lasting: bool) -> list[Fault]:
    if lasting and kind not in LASTING:
        pytest.skip("one is enough: the power is gone")
    places = [at for at, what in enumerate(ios, start=1) if what in HITS[kind]]
    assert places, f"nothing to fail by {kind}"
    seeds = range(max(1, LEAST // len(places)))
    return [Fault(kind, at, lasting, seed=at + 1001 * seed) for at in places for seed in seeds]


async def _try(faults: list[Fault], expected: Any, folder: Path) -> Counter[str]:
    """Run once with each fault; return how the runs went that were struck."""
    found: Counter[str] = Counter()
    for number, fault in enumerate(faults):
        world = World()
        with Disk(fault) as disk:
            path = folder / str(number) / "runs.db"
            seen = await _first_life(path, disk, shop(world))
        if not disk.struck:
            continue
        before = world.acts.copy()
        problem = await _second_life(path, seen, world, before, expected)
        assert not problem, f"{fault}: {problem}"
        found[seen.ended] += 1
    return found


def _report(found: Counter[str], kind: str, *, lasting: bool) -> None:
    how = ", ".join(f"{count} {what}" for what, count in sorted(found.items()))
    name = f"{kind}, lasting" if lasting else kind
    print(f"{found.total()} faults by {name}: {how}; all recovered")  # noqa: T201  it is asked for
    assert found.total()


async def _first_life(path: Path, disk: Disk, flow: Workflow) -> Seen:
    """Run until the end or until the store fails for good; then the power or the process goes."""
    seen = Seen()
    try:
        store = SqliteStore(path, opener=disk.connect)
    except StoreError:
        disk.cut_power()
        return seen
    try:
        await _live(store, flow, disk, seen)
    finally:
        if disk.is_off or (disk.fault and disk.fault.seed % 2):
            disk.cut_power()
        store.close()
    return seen


async def _live(store: SqliteStore, flow: Workflow, disk: Disk, seen: Seen) -> None:
    async with Runtime(store, workflows=[flow]) as runtime:
        try:
            run = await runtime.start(flow, ORDER, key="once")
        except StoreError:
            return
        seen.run_id = run.id
        following = asyncio.create_task(_follow(run, seen))
        await _result(run, disk, seen)
        following.cancel()
        await asyncio.wait([following])


async def _follow(run: Any, seen: Seen) -> None:
    try:
        async for event in run.events():
            seen.events.append(event)
    except StoreError:
        return  # what was shown until here is what counts


async def _result(run: Any, disk: Disk, seen: Seen) -> None:
    deadline = time.monotonic() + PATIENCE
    while not seen.output:
        try:
            seen.output = await asyncio.wait_for(run.result(), SECONDS_TO_END)
            seen.ended = "went on by themselves"
        except RunFailed as error:
            if error.cause_type != "EffectUnknown":
                raise
            seen.ended = "stopped at an effect that is unknown"
            return
        except StoreError:
            lasting = disk.is_off or (disk.fault and disk.fault.lasting)
            if lasting or time.monotonic() > deadline:
                return
            await asyncio.sleep(0.01)


async def _second_life(
    path: Path, seen: Seen, world: World, before: Counter[tuple[str, str]], expected: Any
) -> str:
    """Let a new process on a sound disk go on; return which promise was broken."""
    output = None
    async with Runtime(f"sqlite:///{path}", workflows=[shop(world)]) as runtime:
        run = await runtime.start(shop(world), ORDER, key="once")
        if seen.run_id not in (None, run.id):
            return "an accepted run was lost"
        try:
            output = await asyncio.wait_for(run.result(), SECONDS_TO_END)
        except RunFailed as error:
            if error.cause_type != "EffectUnknown":
                return f"the run failed: {error}"
        events = await run.recorded()
        (row,) = runtime.store.runs()
    if [event.offset for event in events] != list(range(1, row.offset + 1)):
        return "the journal is not dense"
    if events[: len(seen.events)] != seen.events:
        return "events that were shown are gone, or are others now"
    if seen.output is not None and output != seen.output:
        return "an output that was shown is gone, or is another one now"
    if output not in (None, expected):
        return f"the output is {output!r}, undisturbed it is {expected!r}"
    return _acts_problem(seen, world, before, output) or _file_problem(path)


def _acts_problem(seen: Seen, world: World, before: Counter[tuple[str, str]], output: Any) -> str:
    counts = Counter(name for name, _ in world.acts)
    sent = [count for (name, _), count in world.acts.items() if name == "send"]
    if sum(sent) > 1:
        return "an effect that may not be repeated was"
    if output is not None and counts != {"pay": len(ORDER.names), "send": 1}:
        return f"effects were lost, or repeated under another key: {world.acts}"
    keys = {e.path: e.data["idempotency_key"] for e in seen.events if e.kind == "effect.started"}
    for done in (event.path for event in seen.events if event.kind == "effect.completed"):
        for act in (("pay", keys[done]), ("send", keys[done])):
            if world.acts[act] != before[act]:
                return f"{done} was repeated, though it was recorded that it had happened"
    return ""


def _file_problem(path: Path) -> str:
    db = sqlite3.connect(path)
    (state,) = db.execute("PRAGMA integrity_check").fetchone()
    db.close()
    return "" if state == "ok" else f"the file is damaged: {state}"
