"""What runs ask of people, kept by whoever looks: a look costs what is new since the last one."""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import AsyncGenerator

from crew.errors import StoreError
from crew.fold import Question, Questions, fold
from crew.journal import OPEN, RunRow, Store
from crew.journal.reading import JournalReader

MOST_KEPT = 1024
"""Of so many runs, those that were looked at last, what they ask is kept."""
MOST_LISTED = 16_384
"""Of so many that wait, what they ask is kept for whoever lists it all again."""
_PAGE = 100
"""Runs that are looked at before others have the event loop."""

logger = logging.getLogger(__name__)


_Known = OrderedDict[str, tuple[int, Questions]]
"""What runs ask, by their ids, and up to which event of each that is known."""


class OpenQuestions:
    """The open questions of the runs in a store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._known: _Known = OrderedDict()
        self._listed: dict[str, _Known] = {}
        """Of the runs of a tenant that waited when all of them were listed last."""

    def of(self, row: RunRow) -> list[Question]:
        """Return the questions of a run that wait for an answer, the oldest first.

        Raises:
            StoreError: an event is missing or damaged.
        """
        return self._looked(row, self._known, MOST_KEPT)

    async def of_all(
        self, tenant: str, *, before: int | None = None
    ) -> AsyncGenerator[tuple[RunRow, list[Question]]]:
        """Yield what each open run of a tenant asks, the newest run first, from `before` back.

        A run that is damaged is left out, so that the others are answered; the log names it.
        """
        listed, seen = self._listed.setdefault(tenant, OrderedDict()), set[str]()
        is_whole = before is None
        while rows := self._store.runs(tenant=tenant, status=OPEN, before=before, limit=_PAGE):
            for row in rows:
                try:
                    asked = self._looked(row, listed, MOST_LISTED)
                except StoreError as error:
                    logger.warning("run.damaged", extra={"run": row.id, "error": str(error)})
                else:
                    seen.add(row.id)
                    yield row, asked
            before = rows[-1].number
            await asyncio.sleep(0)
        if is_whole:
            for run in listed.keys() - seen:
                listed.pop(run, None)  # it has ended

    def _looked(self, row: RunRow, known: _Known, most: int) -> list[Question]:
        offset, questions = known.pop(row.id, (0, Questions()))
        if offset != row.offset:
            offset = self._read(row, offset, questions)
        known[row.id] = (offset, questions)
        if len(known) > most:
            known.popitem(last=False)
        return list(questions.open.values())

    def _read(self, row: RunRow, offset: int, questions: Questions) -> int:
        """Take in a run's events behind an offset; return that of the last one."""
        reader = JournalReader(self._store, row)
        while events := reader.events(after=offset):
            fold(events, questions)
            offset = events[-1].offset
        if offset < row.offset:
            reader.one(row.offset)  # it is not there: that is damage
        return offset
