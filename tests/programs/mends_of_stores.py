"""Mends of what a store may do, and of what is done where it fails: rule 13."""

from typing import Any

from crew.errors import StoreError
from crew.run.owned import Owned
from crew.testing.generator.life import Station
from tests.programs.mends import Patch, mend


@mend(13, "a commit whose answer was lost is taken for not made")
def _made_again(patch: Patch) -> None:
    commit = Station.commit

    def committed(self: Station, operations: Any) -> list[object]:
        try:
            return commit(self, operations)
        except StoreError:
            if self.is_down:
                raise
            return self.commit(operations)

    patch.setattr(Station, "commit", committed)


@mend(13, "nobody doubts after a write whose outcome is unknown")
def _no_doubt(patch: Patch) -> None:
    patch.setattr(Owned, "doubt", lambda self: None)
