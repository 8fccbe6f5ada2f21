"""Whose code somebody has loaded who lives, and which runs wait for code that nobody has."""

import logging
import time
from collections.abc import Callable, Sequence

from crew.errors import StoreError
from crew.journal import PARKED, Busy, RunRow, Store

MOST_NAMED = 20
"""Runs that are named at once."""
_RECENT_SECONDS = 5.0

logger = logging.getLogger(__name__)


class LoadedCode:
    """The workflows, by name and version, of which a runtime or one of the others takes runs.

    Each owner of runs shows its own in the store.

    Args:
        store: theirs.
        owner: the name under which this runtime owns runs.
        mine: returns those of which this runtime takes runs, here or in its hosts.
    """

    def __init__(
        self, store: Store, owner: str, mine: Callable[[], Sequence[tuple[str, str]]]
    ) -> None:
        self._store = store
        self._owner = owner
        self._mine = mine
        self._is_shown = True
        self._served: set[tuple[str, str]] | None = None
        self._told = set[int]()
        self._recent: tuple[float, list[RunRow]] = (float("-inf"), [])

    def show(self) -> None:
        """Show others what is taken here; it is tried again by `tell` where the store fails."""
        try:
            self._store.serve(self._owner, self._mine())
            self._is_shown = True
        except (StoreError, Busy):
            self._is_shown = False

    def has(self, row: RunRow) -> bool:
        """Return whether somebody has the code of a run loaded."""
        kind = (row.workflow, row.version)
        return kind in self._mine() or self._is_driven(row) or kind in self._store.served()

    def waiting(self) -> list[RunRow]:
        """Return runs that nobody goes on with, since nobody has their code; the oldest first."""
        known = {*self._mine(), *self._store.served()}
        rows = self._store.of_other_code(known, limit=MOST_NAMED)
        return [row for row in rows if not self._is_driven(row)]

    def waiting_of_late(self) -> list[RunRow]:
        """Return the same, as it was a few seconds ago: it costs a look at each run of the store.

        For whoever asks often.
        """
        looked_at, rows = self._recent
        if time.monotonic() - looked_at > _RECENT_SECONDS:
            rows = self.waiting()
            self._recent = (time.monotonic(), rows)
        return rows

    def _is_driven(self, row: RunRow) -> bool:
        """Return whether somebody who lives drives a run; he may take no others."""
        return row.owner not in (None, PARKED) and not self._store.sign(row.owner).dead

    def tell(self) -> None:
        """Name such runs in the log, each once; looked for when others have come or gone."""
        if not self._is_shown:
            self.show()
        served = self._store.served()
        if served == self._served:
            return
        self._served = served
        for row in self.waiting():
            if row.number not in self._told:
                self._told.add(row.number)
                hint = unloaded_text(row.id, row.workflow, row.version)
                logger.warning("run.unloaded", extra={"run": row.id, "hint": hint})


def unloaded_text(run: str, workflow: str, version: str) -> str:
    """Return what is said of a run of whose workflow nobody has the code."""
    return (
        f"run {run} waits for workflow {workflow!r} version {version}, which nobody has loaded; "
        "serve that version, beside a newer one if there is: crew serve OLD.py NEW.py"
    )
