"""A message on a thread whose run waits for a person: it is the answer to the oldest question."""

import json
from dataclasses import dataclass

from crew.errors import AskError
from crew.message import Json
from crew.run import Run, Tenant

__all__ = ["Answered", "answer_open_question", "answer_value"]

_YES = frozenset({"yes", "y", "true", "ok", "okay", "sure"})
_NO = frozenset({"no", "n", "false"})


@dataclass(frozen=True, slots=True)
class Answered:
    """A run that was given an answer to the question at `path`, after its event `offset`.

    Without a path it was no answer, and the question is still open.
    """

    run: Run
    offset: int
    path: str


async def answer_open_question(tenant: Tenant, thread: str, text: str) -> Answered | None:
    """Answer the oldest open question of the thread; None if nothing was asked.

    Whether it fits is decided by the run: what is no answer leaves the question open.
    """
    for run in reversed(await tenant.runs(status="waiting", thread=thread)):
        if questions := await run.questions():
            offset, path = len(await run.recorded()), questions[0].path
            try:
                await run.answer(path, answer_value(questions[0].schema, text))
            except AskError:
                return Answered(run, offset, "")
            return Answered(run, offset, path)
    return None


def answer_value(schema: dict[str, Json], text: str) -> Json:
    """Read an answer as the question's type: words for yes and no, text, else JSON."""
    said = text.strip()
    if schema.get("type") == "string":
        return text
    if schema.get("type") == "boolean" and said.lower().rstrip(".!") in _YES | _NO:
        return said.lower().rstrip(".!") in _YES
    try:
        return json.loads(said, parse_constant=_no_number)
    except (ValueError, RecursionError):
        return said


def _no_number(text: str) -> Json:
    raise ValueError(text)
