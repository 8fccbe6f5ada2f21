"""What changed in an object of JSON: found, applied, and joined with what changed after it."""

from collections.abc import Mapping
from typing import TypeAlias

from crew.message import Json
from crew.value.text import canonical

__all__ = ["Changes", "change", "changes_between", "joined"]

Changes: TypeAlias = dict[str, Json]
"""The fields that were `set`, with their values, and the names of those that were `removed`."""


def changes_between(before: Mapping[str, Json], after: Mapping[str, Json]) -> Changes:
    """Return what leads from one object to another; empty if they are equal as JSON."""
    changed = {
        name: value
        for name, value in after.items()
        if name not in before or canonical(before[name]) != canonical(value)
    }
    return _changes(changed, {*before} - {*after})


def joined(first: Changes, then: Changes) -> Changes:
    """Return what both come to, one after the other."""
    gone = {*then.get("removed", ())}
    kept = {name: value for name, value in first.get("set", {}).items() if name not in gone}
    changed = {**kept, **then.get("set", {})}
    return _changes(changed, ({*first.get("removed", ())} | gone) - {*changed})


def change(values: dict[str, Json], changes: Changes) -> None:
    """Carry out changes in an object."""
    for name in changes.get("removed", ()):
        values.pop(name, None)
    values.update(changes.get("set", {}))


def _changes(changed: dict[str, Json], removed: set[str]) -> Changes:
    changes: Changes = {"set": changed} if changed else {}
    if removed:
        changes["removed"] = sorted(removed)
    return changes
