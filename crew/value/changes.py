"""What changed in an object of JSON: as it is stored, applied, and joined with what follows."""

from typing import TypeAlias

from crew.message import Json

__all__ = ["Changes", "change", "changes_of", "joined"]

Changes: TypeAlias = dict[str, Json]
"""The fields that were `set`, with their values, and the names of those that were `removed`."""


def changes_of(changed: dict[str, Json], removed: set[str]) -> Changes:
    """Return what was set and removed as it is stored; empty if that is nothing."""
    changes: Changes = {"set": changed} if changed else {}
    if removed:
        changes["removed"] = sorted(removed)
    return changes


def joined(first: Changes, then: Changes) -> Changes:
    """Return what both come to, one after the other."""
    gone = {*then.get("removed", ())}
    kept = {name: value for name, value in first.get("set", {}).items() if name not in gone}
    changed = {**kept, **then.get("set", {})}
    return changes_of(changed, ({*first.get("removed", ())} | gone) - {*changed})


def change(values: dict[str, Json], changes: Changes) -> None:
    """Carry out changes in an object."""
    for name in changes.get("removed", ()):
        values.pop(name, None)
    values.update(changes.get("set", {}))
