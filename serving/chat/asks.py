"""A message on a thread whose run waits for a person: it is the answer to the oldest question."""

import json
from dataclasses import dataclass

from crew.message import Json
from crew.run import Run, Runtime

__all__ = ["Answered", "answer_open_question", "answer_value"]

_YES = frozenset({"yes", "y", "true", "ok", "okay", "sure"})
_NO = frozenset({"no", "n", "false"})


@dataclass(frozen=True, slots=True)
class Answered:
    """A run that was given an answer to the question at `path`, after its event `offset`."""

    run: Run
    offset: int
    path: str


async def answer_open_question(runtime: Runtime, thread: str, text: str) -> Answered | None:
    """Answer the oldest open question of the thread; None if nothing was asked.

    Whether the answer fits is decided by the run: one that does not leaves the question open.
    """
    for run in reversed(await runtime.runs(status="waiting", thread=thread)):
        if questions := await run.questions():
            offset = len(await run.recorded())
            await run.answer(questions[0].path, answer_value(questions[0].schema, text))
            return Answered(run, offset, questions[0].path)
    return None


def answer_value(schema: dict[str, Json], text: str) -> Json:
    """Read an answer as the question's type: words for yes and no, text, else JSON."""
    said = text.strip()
    if schema.get("type") == "string":
        return text
    if schema.get("type") == "boolean" and said.lower().rstrip(".!") in _YES | _NO:
        return said.lower().rstrip(".!") in _YES
    try:
        return json.loads(said)
    except ValueError:
        return said
