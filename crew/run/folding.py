"""A run brought to where its journal ends, from the store or from how it was just started."""

import json
from dataclasses import replace

from crew.define import frozen
from crew.errors import Diverged, Unreadable
from crew.event import RunStarted
from crew.fold import Origin, fold, folded
from crew.graph import Workflow
from crew.journal import RunRow, Store
from crew.journal.reading import JournalReader
from crew.journal.text import TextWriter
from crew.run.course import SNAPSHOT_EVENTS
from crew.run.driver import Driver
from crew.run.snapshot import snapshot_version


@frozen
class Begun:
    """The first event of a run as it was just written here; `text` knows what that holds."""

    started: RunStarted
    text: TextWriter


def begin(driver: Driver, row: RunRow, begun: Begun) -> None:
    """Bring a driver to the start of a run, which need not be read back for that."""
    driver.open.text, driver.open.crc = begun.text, row.crc
    driver.course.begin(begun.started, row.created_at)


async def fold_stored(store: Store, driver: Driver, workflow: Workflow, row: RunRow) -> None:
    """Bring a driver to where the journal ends.

    Raises:
        NewerEvent: this release cannot read the journal.
        Exception: the code cannot go on with it; see `divergence_of`.
    """
    reader = JournalReader(store, row, text_writer=driver.open.text)
    after = 0
    snapshot = None
    if row.offset > SNAPSHOT_EVENTS and not workflow.plain:
        snapshot = reader.snapshot(snapshot_version(workflow))
    if snapshot is not None:
        body, after = json.loads(snapshot.body), snapshot.offset
        driver.open.text.remember_pointers(body, reader.text)
        driver.course.load(reader.text.resolve(body), after)
        for first, last in body["calls"]["streamed"]:
            pieces = reader.every(after=first - 1, upto=last)
            fold(pieces, driver.calls.records)
    events = await reader.read_every(after=after, upto=row.offset)
    driver.course.fold(events)
    if row.base is not None:
        base = store.numbered(row.base)
        from crew.run.fork import prepare_fork  # a run alone needs none

        forked = folded([reader.one(row.base_offset + 1)], Origin()).forked
        assert base is not None
        assert forked is not None
        prepare_fork(driver, forked, JournalReader(store, base))
    driver.open.crc = row.crc


def divergence_of(row: RunRow, workflow: Workflow, error: Exception) -> Diverged:
    """Return the error of a journal that could not be folded, with both sides named."""
    if isinstance(error, Diverged):
        return replace(error, run=row.id)
    return Unreadable(
        run=row.id,
        recorded=f"{row.offset} events of {row.workflow!r} version {row.version}",
        asked=f"{workflow.name!r} of code {workflow.code_hash()} ({type(error).__name__}: {error})",
    )
