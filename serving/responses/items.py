"""The items of a response's output, and the events that show them as they grow."""

from dataclasses import dataclass, field

from crew.fold.paths import is_within
from crew.message import Json

__all__ = ["Item"]


@dataclass(eq=False)
class Item:
    """A message, or a reasoning summary; `pieces` are its text, each with the path it came from.

    `asks` are the questions that a message asks of a person. What is void was taken back.
    """

    kind: str
    id: str
    index: int
    pieces: list[tuple[str, str]] = field(default_factory=list)
    status: str = "in_progress"
    asks: list[dict[str, Json]] = field(default_factory=list)
    is_void: bool = False

    @property
    def text(self) -> str:
        return "".join(text for _, text in self.pieces)

    @property
    def is_answer(self) -> bool:
        """Whether it holds text of the run's answer."""
        return self.kind == "message" and not self.is_void and not self.asks and bool(self.pieces)

    @property
    def shape(self) -> dict[str, Json]:
        shape: dict[str, Json] = {"id": self.id, "type": self.kind, "status": self.status}
        parts = [self._part(self.text)] if self.pieces else []
        if self.kind == "reasoning":
            return shape | {"summary": parts}
        shape |= {"role": "assistant", "content": parts}
        return shape | {"crew": {"questions": self.asks}} if self.asks else shape

    def has_text_at(self, path: str) -> bool:
        """Return whether something of it came from `path` or beneath it."""
        return any(is_within(where, path) for where, _ in self.pieces)

    def without(self, path: str) -> list[tuple[str, str]]:
        """Return the pieces that came from elsewhere."""
        return [piece for piece in self.pieces if not is_within(piece[0], path)]

    def opened(self) -> list[dict[str, Json]]:
        """Return the events of its beginning, still without text."""
        part = {"type": f"{self._part_name}.added", **self._place, "part": self._part("")}
        return [self._event("response.output_item.added"), part]

    def add(self, pieces: list[tuple[str, str]]) -> dict[str, Json]:
        """Take in text, and return its event."""
        self.pieces += pieces
        delta = "".join(text for _, text in pieces)
        delta_event = {"type": f"{self._text_name}.delta", **self._place, "delta": delta}
        return delta_event | self._no_logprobs

    def closed(self, status: str) -> list[dict[str, Json]]:
        """Return the events of its end."""
        self.status = status
        text = {"type": f"{self._text_name}.done", **self._place, "text": self.text}
        part = {"type": f"{self._part_name}.done", **self._place, "part": self._part(self.text)}
        return [text | self._no_logprobs, part, self._event("response.output_item.done")]

    def _event(self, kind: str) -> dict[str, Json]:
        return {"type": kind, "output_index": self.index, "item": self.shape}

    @property
    def _is_message(self) -> bool:
        return self.kind == "message"

    @property
    def _part_name(self) -> str:
        return "response.content_part" if self._is_message else "response.reasoning_summary_part"

    @property
    def _text_name(self) -> str:
        return "response.output_text" if self._is_message else "response.reasoning_summary_text"

    @property
    def _place(self) -> dict[str, Json]:
        inner = "content_index" if self._is_message else "summary_index"
        return {"item_id": self.id, "output_index": self.index, inner: 0}

    @property
    def _no_logprobs(self) -> dict[str, Json]:
        return {"logprobs": []} if self._is_message else {}

    def _part(self, text: str) -> dict[str, Json]:
        if not self._is_message:
            return {"type": "summary_text", "text": text}
        return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
