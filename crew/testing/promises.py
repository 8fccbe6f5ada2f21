"""What has to hold of a simulated run, whatever happened: read off its journals."""

from collections import Counter
from collections.abc import Sequence

from crew.event import ENDS, Event
from crew.journal import Store
from crew.journal.reading import JournalReader

Journals = dict[str, list[Event]]
"""The events of a run and of its children, by the runs' ids."""


def journals_of(store: Store) -> Journals:
    """Return the events of all runs in a store, the oldest run first."""
    rows = reversed(store.runs())
    return {row.id: JournalReader(store, row).every(upto=row.offset) for row in rows}


def acts_in(journals: Journals) -> Counter[str]:
    """Count the effects, the tools that act once and the children, by what was called.

    One that is tried again is the same act.
    """
    acts = {
        (run, event.path, what)
        for run, events in journals.items()
        for event in events
        if (what := _act(event))
    }
    return Counter(what for _, _, what in acts)


def _act(event: Event) -> str:
    data = event.data
    match event.kind:
        case "effect.started":
            return f"effect {data['function']!r}"
        case "child.started":
            return f"child {data['workflow']!r}"
        case "tool.started" if data["effect"] == "once":
            return f"tool {data['tool']!r}"
        case _:
            return ""


def broken_in(events: Sequence[Event]) -> str:
    """Return what one journal cannot hold if all is right, or nothing."""
    done: set[str] = set()
    for event in events:
        phase = event.kind.rpartition(".")[2]
        if phase == "completed":
            done.add(event.path)
        elif phase == "started" and event.path in done:
            return f"{event.path} was started again (event {event.offset}) after it had completed"
        if event.kind in ENDS and event is not events[-1]:
            behind = events[-1]
            return f"{behind.kind} of {behind.path} comes behind the run's end"
    return ""
