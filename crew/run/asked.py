"""What runs ask of people, kept by whoever looks: a look costs what is new since the last one."""

from collections import OrderedDict

from crew.fold import Question, Questions, fold
from crew.journal import RunRow, Store
from crew.journal.reading import JournalReader

MOST_KEPT = 1024
"""Of so many runs, those that were looked at last, what they ask is kept."""


class OpenQuestions:
    """The open questions of the runs in a store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._known: OrderedDict[str, tuple[int, Questions]] = OrderedDict()
        """Up to which event of a run they are known, by the runs' ids."""

    def of(self, row: RunRow) -> list[Question]:
        """Return the questions of a run that wait for an answer, the oldest first.

        Raises:
            StoreError: an event is missing or damaged.
        """
        offset, questions = self._known.pop(row.id, (0, Questions()))
        reader = JournalReader(self._store, row)
        while events := reader.events(after=offset):
            fold(events, questions)
            offset = events[-1].offset
        if offset < row.offset:
            reader.one(row.offset)  # it is not there: that is damage
        self._known[row.id] = (offset, questions)
        if len(self._known) > MOST_KEPT:
            self._known.popitem(last=False)
        return list(questions.open.values())
