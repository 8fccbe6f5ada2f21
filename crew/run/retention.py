"""What is kept of a store, and for how long: pruning what is old, erasing what must go."""

import asyncio
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import field

from crew.define import define, frozen
from crew.errors import InputInvalid, StoreError
from crew.journal import OPEN, Busy, Remove, RemoveNotes, RunRow, Store
from crew.journal.writer import Writer

BATCH = 64
"""Runs removed in one transaction, so that nobody waits long for it; a conversation goes whole."""
SCRUB_SECONDS = 30.0


@frozen
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
    return await _remove(writer, [unit.removal(tenant, is_unused=True) for unit in going], going)


async def erase(store: Store, writer: Writer, tenant: str, thread: str | None) -> Removed:
    """Remove a thread, or everything of a tenant, for good; see `Runtime.erase`."""
    runs, threads = 0, {thread}
    # What was accepted or forked meanwhile is found by the next look, which says what is open.
    while units := _erasable(store, tenant, thread):
        removals = [unit.removal(tenant, is_unused=False) for unit in units]
        runs += (await _remove(writer, removals, units)).runs
        threads |= {row.thread for unit in units for row in unit.rows}
    # Also those of runs that were pruned: notes outlive them.
    of_threads = None if thread is None else tuple(name for name in threads if name is not None)
    await writer.execute(RemoveNotes(tenant, of_threads))
    await _scrub(store)
    return Removed(runs)


def _erasable(store: Store, tenant: str, thread: str | None) -> list["_Unit"]:
    """Return what is to be erased and is there.

    Raises:
        InputInvalid: a run of it has not ended.
    """
    rows, threads = _all_rows(store, tenant), store.threads(tenant)
    if thread is None:
        units = _units(rows, threads)
    else:
        chosen = _with_descendants(rows, thread)
        units = [_Unit(thread, 0.0, chosen)] if chosen or thread in threads else []
    if open_runs := [row.id for unit in units for row in unit.rows if row.status in OPEN]:
        raise InputInvalid(
            message=f"{len(open_runs)} of these runs have not ended (such as {open_runs[0]}); "
            "cancel them first: `crew cancel`"
        )
    return units


def _with_descendants(rows: list[RunRow], thread: str) -> list[RunRow]:
    """Return a thread's runs with their forks, which hold what they stand on, and children."""
    going = {row.number for row in rows if row.thread == thread}
    while more := {
        row.number
        for row in rows
        if row.number not in going and (row.base in going or _parent_in(row, rows, going))
    }:
        going |= more
    return [row for row in rows if row.number in going]


def _parent_in(row: RunRow, rows: Iterable[RunRow], going: set[int]) -> bool:
    return row.parent is not None and any(
        other.id == row.parent and other.number in going for other in rows
    )


def _all_rows(store: Store, tenant: str) -> list[RunRow]:
    return store.runs(tenant=tenant, limit=1 << 31)


@define
class _Unit:
    """What is kept or goes together: a conversation, or a run, with its children."""

    thread: str | None
    described_at: float
    rows: list[RunRow] = field(default_factory=list)

    @property
    def last_use(self) -> float:
        return max([self.described_at, *(row.updated_at for row in self.rows)])

    def removal(self, tenant: str, *, is_unused: bool) -> Remove:
        """Return what removes it; `is_unused`: only if it is as it was read here."""
        numbers = tuple(row.number for row in self.rows)
        return Remove(numbers, tenant, self.thread, self.described_at if is_unused else None)


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


async def _remove(writer: Writer, removals: Sequence[Remove], units: Sequence[_Unit]) -> Removed:
    """Carry removals out; each decides in its own transaction whether it may."""
    ids = {row.number: row.id for unit in units for row in unit.rows}
    gone, in_use = set[int](), set[int]()
    # The newest first: a fork is newer than its base, which can go only when the fork has.
    left = sorted(removals, key=lambda item: min(item.numbers, default=0), reverse=True)
    while left:
        before = len(gone)
        for batch in _batches(left):
            results = [writer.submit(removal) for removal in batch]
            for removal, done in zip(batch, results, strict=True):
                if (removed := _removed_by(await done)) is None:
                    in_use |= set(removal.numbers)
                else:
                    gone |= removed
        # What stayed for a fork that has gone since can go now.
        left = [item for item in left if not (gone | in_use).issuperset(item.numbers)]
        if len(gone) == before:
            break
    kept = sorted(set(ids) - gone - in_use)
    return Removed(len(gone), tuple(ids[number] for number in kept))


def _removed_by(result: object) -> set[int] | None:
    if isinstance(result, Exception):
        raise result
    assert result is None or isinstance(result, tuple)
    return None if result is None else set(result)


def _batches(removals: Sequence[Remove]) -> Iterator[list[Remove]]:
    batch, runs = list[Remove](), 0
    for removal in removals:
        batch.append(removal)
        runs += len(removal.numbers) or 1
        if runs >= BATCH:
            yield batch
            batch, runs = list[Remove](), 0
    if batch:
        yield batch


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
