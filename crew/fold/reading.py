"""Events as a reader has them, given to reducers."""

from collections.abc import Iterable
from typing import Protocol, TypeVar

from crew.event import ENDS, Event, RunEvent, RunParked, from_data, is_known


class Reducer(Protocol):
    """Takes in a run's events in order, and is what they come to."""

    def apply(self, event: RunEvent, offset: int, at: float) -> object:
        """Take in the next event: its offset, and when it was written, in unix seconds."""
        ...


class Kinded(Protocol):
    """An event, read or as it lies in a store."""

    @property
    def kind(self) -> str: ...


R = TypeVar("R", bound=Reducer)


def fold(events: Iterable[Event], *reducers: Reducer) -> None:
    """Let reducers take in events; those of kinds that a newer release wrote are passed over."""
    for event in events:
        if (typed := typed_of(event)) is not None:
            for reducer in reducers:
                reducer.apply(typed, event.offset, event.at)


def folded(events: Iterable[Event], reducer: R) -> R:
    """Return a reducer that has taken in events."""
    fold(events, reducer)
    return reducer


def typed_of(event: Event) -> RunEvent | None:
    """Return what a stored event says; None if a newer release wrote it."""
    return from_data(event.kind, event.path, event.data) if is_known(event.kind) else None


def is_newer(event: Kinded) -> bool:
    """Return whether an event is of a kind that this release does not know."""
    return not is_known(event.kind)


def is_end(event: Kinded) -> bool:
    """Return whether nothing follows an event in its run."""
    return event.kind in ENDS


def is_parking(event: Kinded) -> bool:
    """Return whether an event says that its run waits for a person to choose a way on."""
    return event.kind == RunParked.kind
