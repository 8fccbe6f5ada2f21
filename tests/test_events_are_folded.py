"""What an event holds is read in `crew.fold` alone; import-linter says who may import events."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from crew import event as events

ROOT = Path(__file__).parent.parent
CLASSES = {
    name
    for name, item in vars(events).items()
    if isinstance(item, type) and item.__module__ == events.__name__ and hasattr(item, "kind")
} - {"Event"}

READERS = {
    "crew/graph/engine.py": "the fold of a graph: which steps follow from an event",
    "crew/run/calls.py": "composes the records and the accounts of the run that it drives",
    "crew/run/spending.py": "lets go what the end of a call gives back",
    "crew/run/driver.py": "completes the end that it is about to write by what was settled",
    "crew/run/poison.py": "looks backwards at stored kinds, before anything is verified or folded",
    "crew/journal/reading.py": "finds the pieces that pointers of later events name",
    "crew/journal/writer.py": "packs what it writes: a text is stored once",
    "crew/run/snapshot.py": "restores the first event, which a state keeps",
    "crew/run/taking.py": "names lines of the log after events; it reads none",
    "crew/telemetry/observer.py": "likewise",
    "serving/responses/create.py": "makes up the two events of a run that nobody keeps",
}
"""Who else looks at events, and why."""


def places() -> list[str]:
    files = [path for room in ("crew", "serving") for path in sorted((ROOT / room).rglob("*.py"))]
    names = [path.relative_to(ROOT).as_posix() for path in files]
    # What checks runs shares no code with what they are folded by.
    own = ("crew/fold/", "crew/event.py", "crew/testing/")
    return [name for name in names if not name.startswith(own)]


def read_in(name: str) -> Iterator[str]:
    """Yield what a file reads of events: kinds by name, classes that it asks for, data."""
    for node in ast.walk(ast.parse((ROOT / name).read_text())):
        match node:
            case ast.Constant(value=str(kind)) if events.is_known(kind):
                yield f"the kind {kind!r}"
            case ast.MatchClass(cls=ast.Name(id=asked)) if asked in CLASSES | {"Event"}:
                yield f"a pattern of {asked}"
            case ast.Call(func=ast.Name(id="isinstance"), args=[_, kinds]):
                asked = {item.id for item in ast.walk(kinds) if isinstance(item, ast.Name)}
                yield from (f"isinstance {one}" for one in asked & CLASSES)
            case ast.Compare(left=ast.Attribute(attr="kind", value=ast.Name(id="event"))):
                yield "event.kind"
            case (
                ast.Subscript(value=ast.Attribute(attr="data", value=ast.Name(id=holder)))
                | ast.Attribute(
                    attr="get", value=ast.Attribute(attr="data", value=ast.Name(id=holder))
                )
            ) if holder in ("event", "first", "last", "started"):
                yield f"{holder}.data"
            case _:
                pass


@pytest.mark.parametrize("name", places())
def test_no_other_module_reads_what_an_event_holds(name):
    found = list(read_in(name))
    if name in READERS:
        assert found, f"{name} reads nothing of events any more: take it off the list"
    else:
        assert not found
