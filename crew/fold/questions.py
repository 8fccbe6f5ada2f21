"""What a run asks of people, and has no answer to yet."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from crew.define import define
from crew.event import (
    AnswerRefused,
    CallCancelled,
    CallCompleted,
    CallFailed,
    CallStarted,
    Event,
    RunEvent,
)
from crew.message import Json

Change = Literal["opened", "closed", "refused"]
"""What an event does to a question: it stays open when an answer is refused."""
_FOR_ITS_READERS = ("question", "schema", "type")
"""What an event holds of a question that only those get to read whom it is for."""


@dataclass(frozen=True, slots=True)
class Question:
    """An open question of a run; `key` addresses it, `path` is its full name.

    `to` is the role or the name of who may answer it; None: whoever the run talks with. The event
    at `offset` asked it, at `at` (unix seconds).
    """

    path: str
    key: str
    question: str
    schema: dict[str, Json]
    to: str | None = None
    offset: int = 0
    at: float = 0.0

    @property
    def waiting_for(self) -> str:
        """What of it is said to whom it is not for."""
        return _waiting_for(self.to)


@define
class Questions:
    """The open questions of a run, by their paths, the oldest first."""

    open: dict[str, Question] = field(default_factory=dict)

    def apply(self, event: RunEvent, offset: int = 0, at: float = 0.0) -> Change | None:
        """Take in an event; return what it does to the question at its path, if anything."""
        match event:
            case CallStarted(path=path, call="ask", data=data):
                self.open[path] = _question(path, data, offset, at)
                return "opened"
            case (
                CallCompleted(path=path, call="ask")
                | CallFailed(path=path, call="ask")
                | CallCancelled(path=path, call="ask")
            ):
                self.open.pop(path, None)
                return "closed"
            case AnswerRefused():
                return "refused"
            case _:
                return None


@define
class QuestionsAsked:
    """All that a run has asked, the oldest first."""

    all: list[Question] = field(default_factory=list)

    def apply(self, event: RunEvent, offset: int = 0, at: float = 0.0) -> None:
        match event:
            case CallStarted(path=path, call="ask", data=data):
                self.all.append(_question(path, data, offset, at))
            case _:
                pass


def _question(path: str, data: dict[str, Json], offset: int, at: float) -> Question:
    schema = data.get("schema") or {}
    return Question(path, data["key"], data["question"], schema, data.get("to"), offset, at)


def readable(event: Event, is_mine: Callable[[str | None], bool]) -> dict[str, Json]:
    """Return what an event holds, without the text of a question that is for somebody else.

    Args:
        event: of any kind.
        is_mine: says whether what is asked of a role or name, or of nobody in particular, is for
            the reader.
    """
    data = event.data
    if event.kind != "ask.opened" or is_mine(data.get("to")):
        return data
    shown = {name: value for name, value in data.items() if name not in _FOR_ITS_READERS}
    return shown | {"question": _waiting_for(data["to"])}


def _waiting_for(to: str | None) -> str:
    return f"waiting for {to}"


@define
class Answer:
    """What became of one question, by the events behind which it was answered.

    `value` is that of the answer, once `state` is `answered`; `reason` why one was refused.
    """

    path: str
    state: Literal["open", "answered", "refused", "closed"] = "open"
    value: Json = None
    reason: str = ""

    def apply(self, event: RunEvent, offset: int = 0, at: float = 0.0) -> None:
        if event.path != self.path:
            return
        match event:
            case CallCompleted(call="ask", data=data):
                self.state, self.value = "answered", data["value"]
            case CallFailed(call="ask") | CallCancelled(call="ask"):
                self.state = "closed"
            case AnswerRefused(reason=reason):
                self.state, self.reason = "refused", reason
            case _:
                pass
