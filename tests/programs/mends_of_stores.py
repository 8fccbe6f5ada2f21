"""Mends of what a store may do, and of what is done where it fails: rule 13."""

from collections.abc import Callable
from typing import Any

from crew.errors import StoreError
from crew.journal.writer import Writer
from crew.run.owned import Owned
from crew.testing.programs.life import Station
from tests.programs.mends import Patch, mend


@mend(13, "a commit whose answer was lost is taken for not made")
def _made_again(patch: Patch) -> None:
    _where_it_fails(patch, lambda store, operations: store.commit(operations))


@mend(13, "a commit that failed is taken for made")
def _taken_for_made(patch: Patch) -> None:
    _where_it_fails(patch, lambda store, operations: [None] * len(operations))


def _where_it_fails(patch: Patch, instead: Callable[[Any, Any], list[object]]) -> None:
    """Do something else than to go on from what is stored where a commit fails for a moment."""
    commit = Station.commit

    def committed(self: Station, operations: Any) -> list[object]:
        try:
            return commit(self, operations)
        except StoreError:
            if self.is_down:
                raise
            return instead(self, operations)

    patch.setattr(Station, "commit", committed)


@mend(13, "nobody doubts after a write whose outcome is unknown")
def _no_doubt(patch: Patch) -> None:
    patch.setattr(Owned, "doubt", lambda self: None)


@mend(13, "a run goes on in memory though its commit failed")
def _in_memory(patch: Patch) -> None:
    settle = Writer._settle

    def settled(self: Any, operations: Any, pending: Any, results: Any, began: float) -> None:
        kept = [None if type(r) is StoreError and not self._store.is_down else r for r in results]
        settle(self, operations, pending, kept, began)

    patch.setattr(Writer, "_settle", settled)
