"""What of a commit is done already, when it is tried again.

A connection may be lost in mid-commit, and the server not be reachable to be asked. The caller then
tries again, perhaps with more: longer appends of the same runs, further operations. Once the server
said that the first try went through, only the rest may be written.
"""

from collections.abc import Sequence
from dataclasses import replace

from crew.journal import Append, Operation


class Again:
    """The operations that went through, though nobody was told yet, and their results."""

    def __init__(self) -> None:
        # The operations are kept so that no later one gets the identity of an earlier one.
        self._results: dict[int, tuple[Operation, object]] = {}
        self._appends: dict[tuple[int, int], tuple[Append, object]] = {}

    def __bool__(self) -> bool:
        return bool(self._results or self._appends)

    def note(self, operations: Sequence[Operation], results: Sequence[object]) -> None:
        """Remember what went through."""
        for operation, result in zip(operations, results, strict=True):
            if isinstance(operation, Append):
                self._note_append(operation, result)
            else:
                self._results[id(operation)] = operation, result

    def _note_append(self, append: Append, result: object) -> None:
        place = append.number, append.epoch
        if place in self._appends:  # the rest of what had gone through before
            earlier, _ = self._appends[place]
            events, notes = earlier.events + append.events, earlier.notes + append.notes
            append = replace(append, events=events, notes=notes)
        self._appends[place] = append, result

    def left(self, operations: Sequence[Operation]) -> list[Operation]:
        """Return what is still to be written of `operations`, in their order."""
        return [rest for item in operations if (rest := self._rest(item)) is not None]

    def merged(self, operations: Sequence[Operation], results: Sequence[object]) -> list[object]:
        """Return the results of `operations`, given those of what was left of them."""
        later = iter(results)
        return [
            self._result(item) if self._rest(item) is None else next(later) for item in operations
        ]

    def _rest(self, operation: Operation) -> Operation | None:
        if not isinstance(operation, Append):
            return None if id(operation) in self._results else operation
        written, result = self._appends.get((operation.number, operation.epoch), (None, None))
        if written is None or not _goes_on(written, operation):
            return operation
        if isinstance(result, Exception):
            return None  # fenced then is fenced now
        rest = replace(
            operation,
            events=operation.events[len(written.events) :],
            notes=operation.notes[len(written.notes) :],
        )
        return None if rest == replace(written, events=(), notes=()) else rest

    def _result(self, operation: Operation) -> object:
        if isinstance(operation, Append):
            return self._appends[operation.number, operation.epoch][1]
        return self._results[id(operation)][1]


def _goes_on(written: Append, append: Append) -> bool:
    return append.events[: len(written.events)] == written.events
