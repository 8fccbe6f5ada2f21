"""What is shown of questions: to those they are for their text, to others who is waited for."""

from collections.abc import Callable, Iterable
from typing import TypeAlias

from crew.fold import Question
from crew.message import Json

__all__ = ["IsFor", "question_data", "question_text"]

IsFor: TypeAlias = Callable[[str | None], bool]
"""Says whether a question to a role or name, or to nobody in particular, is for who reads it."""


def question_data(question: Question, is_mine: IsFor) -> dict[str, Json]:
    """Return a question as JSON; to whom it is not for, without its text and its schema."""
    facts: dict[str, Json] = {"path": question.path, "key": question.key, "to": question.to}
    if not is_mine(question.to):
        return facts | {"question": question.waiting_for, "schema": None}
    return facts | {"question": question.question, "schema": question.schema}


def question_text(questions: Iterable[Question], is_mine: IsFor) -> str:
    """Return what a reader is asked, a line each; said once of all that wait for somebody else."""
    lines = (
        question.question if is_mine(question.to) else question.waiting_for
        for question in questions
    )
    return "\n".join(dict.fromkeys(lines))
