"""Whether what a client keeps of a conversation is what was said here.

A client keeps what it was shown: the text that was streamed rather than the output, an answer only
as far as it came, and each question and answer of a run as messages of their own.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass

from crew.content import Content, split
from crew.fold import Ending, Question, QuestionsAsked, Text, folded
from crew.message import Message
from crew.run import Run
from crew.thread import NOT_ANSWERED
from crew.value import json_text

__all__ = ["Followed", "Turn", "follow", "is_same"]

_ASIDES = ("details", "think")
"""Tags between which clients keep progress with an answer."""
_FIRST_WORD = re.compile(r"\s*([^\s<{\[]\S{0,63})")
_CONTEXT = re.compile(r"<(context|source|user_query)\b")
"""Marks a message that a front end has put passages of documents into; it keeps the text alone."""


@dataclass(frozen=True, slots=True)
class Turn:
    """A turn of a conversation: its run, and the messages of user and assistant."""

    run: Run
    messages: Sequence[Message]

    @property
    def number(self) -> int:
        return self.run.turn or 0

    @property
    def answer(self) -> Message | None:
        """What it ended with; None while it has not ended."""
        return self.messages[1] if len(self.messages) > 1 else None


@dataclass(frozen=True, slots=True)
class Followed:
    """Where a client's copy goes on behind a turn, and whether its answer is the turn's."""

    end: int
    is_sure: bool


async def follow(turn: Turn, copy: Sequence[Message], at: int) -> Followed | None:
    """Read a turn in a client's copy of the conversation from a place on; None: it is not there."""
    if at >= len(copy) or copy[at].role != "user":
        return None
    if not _is_asked(turn.messages[0].content, copy[at].content):
        return None
    answer, end = turn.answer, at + 1
    if answer is None:
        return Followed(len(copy), False)
    if end == len(copy) or copy[end].role == "user":
        return Followed(end, False)  # it broke off before anything came
    if is_same(answer.content, copy[end].content):
        return Followed(end + 1, True)
    if answer.text.startswith(NOT_ANSWERED):
        return Followed(end + 1, False)  # whatever its client made of the failure
    return await _otherwise(turn, answer, copy, end)


async def _otherwise(
    turn: Turn, answer: Message, copy: Sequence[Message], end: int
) -> Followed | None:
    """Read an answer that is not the output: as it was streamed, cut off, or behind questions."""
    events = await turn.run.recorded()
    output = folded(events, Ending()).output
    shown = [str(folded(events, Text())), answer.text, json_text(output)]
    kept = _plain(copy[end].content)
    if kept and any(_plain(text).startswith(kept) for text in shown):
        return Followed(end + 1, True)
    if asked := folded(events, QuestionsAsked()).all:
        for place in range(end + 1, len(copy)):
            if copy[place].role == "assistant" and any(
                text and is_same(text, copy[place].content) for text in shown
            ):
                return Followed(place + 1, True)
    return _waited(asked, copy, end)


def _waited(asked: Sequence[Question], copy: Sequence[Message], end: int) -> Followed | None:
    """Read a turn that went on when somebody else had answered.

    Its client has answered what was shown to it, and last saw for whom the run waits.
    """
    questions = [_plain(item.question) for item in asked]
    waits = [_plain(item.question if item.to is None else item.waiting_for) for item in asked]
    shown = set[int]()
    for answered, place in enumerate(range(end, len(copy), 2)):
        said = _plain(copy[place].content)
        shown |= {number for number, question in enumerate(questions) if question in said}
        if len(shown) <= answered:
            both = zip(waits, questions, strict=True)
            waited = any(wait in said for wait, question in both if wait != question)
            return Followed(place + 1, False) if waited else None
    return None


def is_same(one: Content, other: Content) -> bool:
    """Return whether two messages say the same, blanks and progress aside."""
    (text, parts), (other_text, other_parts) = split(one), split(other)
    if parts and other_parts and parts != other_parts:
        return False
    if text == other_text:
        return True
    word, other_word = _FIRST_WORD.match(text), _FIRST_WORD.match(other_text)
    if word and other_word and word[1] != other_word[1]:
        return False  # most are told apart so, however long they are
    return _plain(text) == _plain(other_text) or _are_same_json(text, other_text)


def _is_asked(asked: Content, kept: Content) -> bool:
    if is_same(asked, kept):
        return True
    text, _ = split(asked)
    if not _CONTEXT.search(text):
        return False
    original = _plain(kept)
    return bool(original) and original in _plain(text)


def _plain(said: Content) -> str:
    text, _ = split(said)
    for tag in _ASIDES:
        text = _without(text, f"<{tag}", f"</{tag}>")
    return " ".join(text.split())


def _without(text: str, begin: str, end: str) -> str:
    """Leave out what stands between tags; by a search from place to place, which is linear."""
    kept, at = list[str](), 0
    while (first := text.find(begin, at)) >= 0 and (last := text.find(end, first)) >= 0:
        kept.append(text[at:first])
        at = last + len(end)
    return " ".join([*kept, text[at:]])


def _are_same_json(one: str, other: str) -> bool:
    if one[:1] not in ("{", "[") or other[:1] not in ("{", "["):
        return False
    try:
        return bool(json.loads(one) == json.loads(other))
    except (ValueError, RecursionError):
        return False
