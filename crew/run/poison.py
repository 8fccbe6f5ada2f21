"""Which runs end the processes that drive them, told by the deaths of their owners.

A run is poison when its owners die one after the other while nothing of it gets done: a node that
ends its process, a library that crashes it, more memory than there is. Owners that left in order,
or only fell silent, say nothing about the run.
"""

import json
from collections.abc import Iterator

from crew.event import RunTaken, TextDiscarded, TextEmitted
from crew.journal import PARKED, Damaged, RunRow, Store, StoredEvent

DEATHS_TO_SUSPECT = 2
"""After so many deaths a run is driven beside no other suspect, so that the next one names it."""
DEATHS_TO_PARK = 3
FIRST_LOOK = 16
"""How many events are read at first; twice as many each time that is not enough."""

_PROGRESS = frozenset({"completed", "answered", "passed", "failed"})


def is_progress(kind: str) -> bool:
    """Return whether an event is the end of a step or a call, which never runs again."""
    return kind.rpartition(".")[2] in _PROGRESS


def has_died(row: RunRow, *, proven: bool, me: str) -> bool:
    """Return whether a run's owner died while the run was under way, by the row found.

    Args:
        row: as it was when its owner was found gone.
        proven: whether the owner is proven dead, or was only silent.
        me: the owner that asks; what it finds in its own name it had let go of.
    """
    return proven and row.status == "running" and row.owner not in (None, PARKED, me)


def deaths_of(store: Store, row: RunRow, *, died: bool) -> int:
    """Return how many owners of a run have died since anything of it got done.

    `died` says whether the one found now did; the others are on record. Of the journal no more is
    read than the part behind the last progress.
    """
    count = int(died)
    if row.status != "running" or row.epoch - 1 + count < DEATHS_TO_SUSPECT:
        return count  # it was not taken often enough for more
    streamed = taken_back = False
    try:
        for event in _backwards(store, row):
            if is_progress(event.kind) or count >= DEATHS_TO_PARK:
                break
            streamed |= event.kind == TextEmitted.kind
            taken_back |= event.kind == TextDiscarded.kind
            if event.kind == RunTaken.kind:
                if streamed and not taken_back:
                    break  # an owner that took an answer further, from where it was
                streamed = taken_back = False
                count += json.loads(event.body).get("died", False)
    except Damaged:
        return count  # whoever folds it says so
    return count


def _backwards(store: Store, row: RunRow) -> Iterator[StoredEvent]:
    """Yield a run's own events, the newest first."""
    upto, size = row.offset, FIRST_LOOK
    while upto > row.base_offset:
        after = max(row.base_offset, upto - size)
        yield from reversed(store.events(row.number, after=after, limit=upto - after))
        upto, size = after, 2 * size
