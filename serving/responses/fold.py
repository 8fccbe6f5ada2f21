"""A response made of its run's events: a pure fold, so that every replica makes the same.

One event of the journal makes up to 64 events of the API, numbered `offset * 64 + i`. Whoever comes
back with the last number seen gets the rest: the events are folded from the first one again, and
only what is behind that number is sent.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from crew.fold import (
    Ending,
    Event,
    Origin,
    Question,
    Questions,
    RunEvent,
    Text,
    fold,
    progress_line,
    typed_of,
)
from crew.fold.questions import Change
from crew.message import Json
from crew.value import json_text, text_of
from serving.access.addressed import IsFor, question_data, question_text
from serving.responses.items import Item
from serving.responses.naming import response_id
from serving.responses.shapes import asked_of, error_shape, response_shape, usage_shape

__all__ = ["PLACES", "ResponseFold"]

PLACES = 64
"""Events of the API that one event of the journal may become."""

ApiEvent = dict[str, Json]


@dataclass
class ResponseFold:
    """What the API says of one run, by the events taken in so far.

    Text that is taken back closes its item as incomplete, and a new item begins with what stays;
    the response holds only what stays. Progress is shown as a reasoning summary until the answer's
    text begins.

    Args:
        run: the run's id.
        id: the response's.
        is_mine: says which questions are for the reader; of others it is said once for whom the run
            waits.
        after: the offset behind which it begins; what came before is only known. An answer to a
            question begins a response of its own there.

    `offset` and `last` are the numbers of the last event taken in and of the last one given out.
    """

    run: str
    id: str
    is_mine: IsFor
    after: int = 0
    offset: int = 0
    status: str = "queued"
    origin: Origin = field(default_factory=Origin)
    ending: Ending = field(default_factory=Ending)
    questions: Questions = field(default_factory=Questions)
    items: list[Item] = field(default_factory=list)
    last: int = 0
    _text: Text = field(default_factory=Text)
    _open: Item | None = None
    _unasked: set[str] = field(default_factory=set)
    _awaited: set[str | None] = field(default_factory=set)
    _is_created: bool = False

    def take(self, event: Event) -> list[ApiEvent]:
        """Take in the next event of the journal, and return what the API says of it."""
        is_first, self.offset = not self.offset, event.offset
        typed = typed_of(event)
        fold([event], self.origin)
        made = [] if event.offset <= self.after else self._begin(is_first=is_first)
        fold([event], self.ending)
        if event.offset <= self.after:
            self._know(typed, is_first=is_first)
            return []
        made += self._events_of(typed, event.offset)
        assert len(made) < PLACES
        numbered = [
            {"sequence_number": event.offset * PLACES + place, **item}
            for place, item in enumerate(made)
        ]
        self.last = numbered[-1]["sequence_number"] if numbered else self.last
        return numbered

    def pause(self, spent: Mapping[str, float]) -> ApiEvent | None:
        """Return the last event for a reader whom a run that waits for a person keeps waiting.

        It is no part of the fold: whoever reads once the run goes on does not get it. Its number is
        the last one of its offset.

        Args:
            spent: what the run cost so far.
        """
        if not self.rests:
            return None
        kind = "response.incomplete" if self.ending.parked else "response.completed"
        number = self.offset * PLACES + PLACES - 1
        return {"sequence_number": number, "type": kind, "response": self.response(waits=spent)}

    @property
    def rests(self) -> bool:
        """Whether nothing may come until a person acts, as far as the events tell."""
        return self.offset > self.after and bool(self.questions.open or self.ending.parked)

    def response(self, *, waits: Mapping[str, float] | None = None) -> dict[str, Json]:
        """Return the response as it stands.

        Args:
            waits: what was spent so far by a run that waits for a person, so that nothing more
                comes by itself. With a question the response is complete, as OpenAI's is with a
                call that its caller has to answer.
        """
        end, is_waiting = self.ending, waits is not None
        status, error = self.status, error_shape(end) if is_waiting or end.is_final else None
        if is_waiting and end.parked is not None:
            status = "incomplete"
        elif is_waiting and self.questions.open:
            status = "completed"
        return response_shape(
            id=self.id,
            run=self.run,
            previous=response_id(self.run) if self.after else None,
            started=self.origin,
            status=status,
            run_status="waiting" if is_waiting else status if end.is_final else "running",
            error=error,
            output=[item.shape for item in self.items if not item.is_void],
            completed_at=end.at if end.is_final and status == "completed" else None,
            usage=usage_shape(end.usage if end.is_final else waits),
            questions=[question_data(item, self.is_mine) for item in self.questions.open.values()],
            result=end.output,
        )

    @property
    def _is_json(self) -> bool:
        """Whether the answer is the output's JSON; what the run emits is then left out."""
        return asked_of(self.origin).get("format", {}).get("type", "text") != "text"

    def _know(self, event: RunEvent | None, *, is_first: bool) -> None:
        """Know what came before this response begins."""
        if not is_first:
            self.status = "in_progress"
        if event is not None and self.questions.apply(event) == "opened":
            self._unasked.add(event.path)

    def _begin(self, *, is_first: bool) -> list[ApiEvent]:
        made: list[ApiEvent] = []
        if not self._is_created:
            self._is_created = True
            made.append({"type": "response.created", "response": self.response()})
        if not is_first and (self.status == "queued" or made):
            self.status = "in_progress"
            made.append({"type": "response.in_progress", "response": self.response()})
        return made

    def _events_of(self, event: RunEvent | None, offset: int) -> list[ApiEvent]:
        if event is None:
            return []
        if self.ending.is_final:
            return self._end(offset)
        if (change := self.questions.apply(event)) is not None:
            return self._asked(change, event.path, offset)
        match self._text.apply(event, offset):
            case "added":
                piece = self._text.pieces.pop(offset)  # the items hold the text
                is_shown = piece.text and not self._is_json
                return self._add_text(offset, [(piece.path, piece.text)]) if is_shown else []
            case "discarded":
                return self._take_back(event.path, offset)
            case None:
                return self._think(offset, progress_line(event, offset))

    def _asked(self, change: Change, path: str, offset: int) -> list[ApiEvent]:
        if change == "opened":
            return self._ask(offset, [self.questions.open[path]])
        if change == "refused":
            self._unasked.add(path)
        return self._ask_again(offset)

    def _add_text(self, offset: int, pieces: list[tuple[str, str]]) -> list[ApiEvent]:
        made: list[ApiEvent] = []
        if self._open is None or self._open.kind != "message":
            made += self._close("completed")
            made += self._opened("message", offset)
        assert self._open is not None
        return [*made, self._open.add(pieces)]

    def _think(self, offset: int, line: str) -> list[ApiEvent]:
        """Show progress; while the answer is being streamed it is left out."""
        if not line or (self._open is not None and self._open.kind == "message"):
            return []
        made = self._opened("reasoning", offset) if self._open is None else []
        assert self._open is not None
        return [*made, self._open.add([("", line)])]

    def _take_back(self, place: str, offset: int) -> list[ApiEvent]:
        answers = [item for item in self.items if item.is_answer]
        first = next((n for n, item in enumerate(answers) if item.has_text_at(place)), len(answers))
        gone = answers[first:]  # with those behind it, so that what stays keeps its order
        made = self._close("incomplete") if self._open in gone else []
        stays = [piece for item in gone for piece in item.without(place)]
        for item in gone:
            item.is_void = True
        return [*made, *self._add_text(offset, stays)] if stays else made

    def _ask_again(self, offset: int) -> list[ApiEvent]:
        """Ask what is open and was not asked in this response, or got an answer that is none."""
        again = [item for path, item in self.questions.open.items() if path in self._unasked]
        self._unasked.clear()
        return self._ask(offset, again) if again else []

    def _ask(self, offset: int, questions: list[Question]) -> list[ApiEvent]:
        """Ask in a message of its own, which a person answers with the next one."""
        new = [item for item in questions if self.is_mine(item.to) or item.to not in self._awaited]
        if not new:
            return []
        self._awaited |= {item.to for item in new if not self.is_mine(item.to)}
        made = self._close("completed") + self._opened("message", offset)
        assert self._open is not None
        self._open.asks = [question_data(question, self.is_mine) for question in new]
        text = question_text(new, self.is_mine)
        return [*made, self._open.add([("", text)]), *self._close("completed")]

    def _end(self, offset: int) -> list[ApiEvent]:
        self.status = self.ending.kind
        made: list[ApiEvent] = []
        if self.status == "completed" and not any(item.is_answer for item in self.items):
            output = self.ending.output
            text = json_text(output) if self._is_json else text_of(output)
            made = self._add_text(offset, [("", text)])
        made += self._close("completed" if self.status == "completed" else "incomplete")
        # The API has no event of its own for a response that was cancelled.
        kind = "incomplete" if self.status == "cancelled" else self.status
        return [*made, {"type": f"response.{kind}", "response": self.response()}]

    def _opened(self, kind: str, offset: int) -> list[ApiEvent]:
        name = f"{'msg' if kind == 'message' else 'rs'}_{self.run}_{offset}"
        self._open = Item(kind, name, len(self.items))
        self.items.append(self._open)
        return self._open.opened()

    def _close(self, status: str) -> list[ApiEvent]:
        item, self._open = self._open, None
        return item.closed(status) if item is not None else []
