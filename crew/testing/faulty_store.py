"""A store whose writes and deliveries fail, as those of a bad machine and a bad network do."""

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from crew.errors import StoreError
from crew.journal import Append, Letter, NewRun, Operation, Store


class CrashingStore:
    """A store that stops writing after so many events, as when its process is killed.

    What was committed stays; everything after is refused, until `restart`. What it holds is told to
    no other process: whoever looks finds it.
    """

    sockets: Path | None = None

    def __init__(self, store: Store, *, after: int) -> None:
        self._store = store
        self._left = after
        self.is_down = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def commit(self, operations: Sequence[Operation]) -> list[object]:
        size = sum(
            len(operation.events) if isinstance(operation, Append) else 1
            for operation in operations
            if isinstance(operation, Append | NewRun)
        )
        if self.is_down or size > self._left:
            self.is_down = True
            raise StoreError(message="simulated crash")
        self._left -= size
        return self._store.commit(operations)

    def restart(self, *, after: int) -> None:
        """Let writes through again, for so many events."""
        self.is_down, self._left = False, after


class FaultyStore(CrashingStore):
    """One that also fails for a moment now and then, and delivers letters late, twice, or not yet.

    A commit that fails may have been carried out or not: its caller cannot tell.

    Args:
        store: where things are kept.
        after: after how many events it goes down, until `restart`.
        chance: decides about every fault.
        often: the share of commits and deliveries that go wrong.
    """

    def __init__(
        self, store: Store, *, after: int, chance: random.Random, often: float = 0.05
    ) -> None:
        super().__init__(store, after=after)
        self._chance = chance
        self._often = often
        self._delivered: list[Letter] = []
        self.faults = 0

    def commit(self, operations: Sequence[Operation]) -> list[object]:
        is_start = any(isinstance(operation, NewRun) for operation in operations)
        if is_start or self._chance.random() >= self._often:
            return super().commit(operations)
        self.faults += 1
        if self._chance.random() < 0.5:
            super().commit(operations)
        raise StoreError(message="simulated fault: nobody knows whether it was written")

    def letters(self, numbers: Sequence[int]) -> list[Letter]:
        """Return letters: some not yet, and some that were delivered before once more."""
        found = [
            letter
            for letter in self._store.letters(numbers)
            if self._chance.random() >= 5 * self._often
        ]
        again = [
            letter
            for letter in self._delivered
            if letter.number in numbers and self._chance.random() < self._often
        ]
        self._delivered += found
        return found + again
