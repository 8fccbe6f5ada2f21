"""The text that a run has emitted, and not taken back."""

from dataclasses import field
from typing import Literal

from crew.define import define, frozen
from crew.event import RunEvent, TextDiscarded, TextEmitted
from crew.fold.paths import is_within

Change = Literal["added", "discarded"]


@frozen
class Piece:
    """One piece of a run's answer, and the place that emitted it."""

    path: str
    text: str


@define
class Stream:
    """What one call has streamed: its pieces, and the offsets of their events, first and last."""

    pieces: list[str] = field(default_factory=list)
    places: list[list[int]] = field(default_factory=list)

    def add(self, offset: int, text: str) -> None:
        self.pieces.append(text)
        if self.places and self.places[-1][1] == offset - 1:
            self.places[-1][1] = offset
        else:
            self.places.append([offset, offset])


@define
class Text:
    """The answer of a run so far, by the offsets of the events that brought its pieces."""

    pieces: dict[int, Piece] = field(default_factory=dict)
    void: set[int] = field(default_factory=set)
    """The offsets of pieces that were taken back."""

    def __str__(self) -> str:
        return "".join(piece.text for piece in self.pieces.values())

    def apply(self, event: RunEvent, offset: int, at: float = 0.0) -> Change | None:
        """Take in an event; return what it does to the text, if anything."""
        match event:
            case TextEmitted(path=path, text=text):
                self.pieces[offset] = Piece(path, text)
                return "added"
            case TextDiscarded(path=place):
                gone = [key for key, piece in self.pieces.items() if is_within(piece.path, place)]
                for key in gone:
                    del self.pieces[key]
                self.void.update(gone)
                return "discarded"
            case _:
                return None
