"""What is kept of a store, and for how long: pruning what is old, erasing what must go."""

import asyncio
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from crew.errors import InputInvalid, StoreError
from crew.journal import OPEN, Busy, ForgetThreads, Remove, RunRow, Store
from crew.journal.writer import Writer

BATCH = 64
"""Runs removed in one transaction, so that nobody waits long for it."""
SCRUB_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Removed:
    """What pruning or erasing did: how many runs went, and which stay since forks need them."""

    runs: int
    kept_for_forks: tuple[str, ...] = ()


async def prune(
    store: Store, writer: Writer, tenant: str, *, older_than: float | None, keep: int | None
) -> Removed:
    """Remove what has ended and is old; see `Runtime.prune`."""
    if older_than is None and keep is None:
        raise InputInvalid(message="say what to prune: older_than=seconds, keep=count, or both")
    units = _units(_all_rows(store, tenant), store.threads(tenant))
    ended = [unit for unit in units if all(row.status not in OPEN for row in unit.rows)]
    ended.sort(key=lambda unit: unit.last_use, reverse=True)
    before = time.time() - older_than if older_than is not None else None
    going = [
        unit
        for place, unit in enumerate(ended)
        if (before is None or unit.last_use < before) and (keep is None or place >= keep)
    ]
    removed = await _remove(writer, [row for unit in going for row in unit.rows])
    threads = [unit.thread for unit in going if unit.thread is not None]
    await writer.execute(ForgetThreads(tenant, tuple(threads)))
    return removed


async def erase(store: Store, writer: Writer, tenant: str, thread: str | None) -> Removed:
    """Remove a thread, or everything of a tenant, for good; see `Runtime.erase`."""
    rows = _all_rows(store, tenant)
    going = {row.number for row in rows if thread is None or row.thread == thread}
    # Forks hold what they stand on, and children what they were given.
    while more := {
        row.number
        for row in rows
        if row.number not in going and (row.base in going or _parent_in(row, rows, going))
    }:
        going |= more
    chosen = [row for row in rows if row.number in going]
    if open_runs := [row.id for row in chosen if row.status in OPEN]:
        raise InputInvalid(
            message=f"{len(open_runs)} of these runs have not ended (such as {open_runs[0]}); "
            "cancel them first: `crew cancel`"
        )
    removed = await _remove(writer, chosen)
    threads = (thread,) if thread is not None else tuple(store.threads(tenant))
    await writer.execute(ForgetThreads(tenant, threads))
    await _scrub(store)
    return removed


def _parent_in(row: RunRow, rows: Iterable[RunRow], going: set[int]) -> bool:
    return row.parent is not None and any(
        other.id == row.parent and other.number in going for other in rows
    )


def _all_rows(store: Store, tenant: str) -> list[RunRow]:
    return store.runs(tenant=tenant, limit=1 << 31)


@dataclass(slots=True)
class _Unit:
    """What is kept or goes together: a conversation, or a run, with its children."""

    thread: str | None
    described_at: float
    rows: list[RunRow] = field(default_factory=list)

    @property
    def last_use(self) -> float:
        return max([self.described_at, *(row.updated_at for row in self.rows)])


def _units(rows: list[RunRow], threads: Mapping[str, float]) -> list[_Unit]:
    roots: dict[str, str] = {row.id: row.parent for row in rows if row.parent is not None}

    def root_of(run: str) -> str:
        while (parent := roots.get(run)) is not None:
            run = parent
        return run

    by_id = {row.id: row for row in rows}
    units = {("thread", name): _Unit(name, at) for name, at in threads.items()}
    for row in rows:
        root = by_id.get(root_of(row.id), row)
        name = ("thread", root.thread) if root.thread is not None else ("run", root.id)
        units.setdefault(name, _Unit(root.thread, 0.0)).rows.append(row)
    return list(units.values())


async def _remove(writer: Writer, rows: list[RunRow]) -> Removed:
    ids = {row.number: row.id for row in rows}
    gone: set[int] = set()
    # The newest first: a fork is newer than its base, which can go only when the fork has.
    left = sorted(ids, reverse=True)
    for first in range(0, len(left), BATCH):
        removed = await writer.execute(Remove(tuple(left[first : first + BATCH])))
        assert isinstance(removed, tuple)
        gone |= set(removed)
    return Removed(len(gone), tuple(ids[number] for number in sorted(set(ids) - gone)))


async def _scrub(store: Store) -> None:
    deadline = time.monotonic() + SCRUB_SECONDS
    while True:
        try:
            store.scrub()
        except Busy as error:
            if time.monotonic() > deadline:
                raise StoreError(
                    message="the runs are removed, but what they left in free pages could not be "
                    f"overwritten, since other processes use the store ({error}); erase again "
                    "when they are idle"
                ) from error
            await asyncio.sleep(0.05)
        else:
            return
