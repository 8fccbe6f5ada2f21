"""A message on a thread whose run waits for a person: it is the answer to the oldest question."""

import json
from dataclasses import dataclass

from crew.errors import AskError
from crew.message import Json
from crew.run import Run, Tenant
from serving.conversations.items import turns_of

__all__ = ["Answered", "answer_open_question", "answer_value", "waiting_runs"]

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


async def answer_open_question(
    tenant: Tenant, thread: str, text: str, *, key: str | None
) -> Answered | None:
    """Answer the oldest open question of the thread; None if nothing was asked.

    Whether it fits is decided by the run: what is no answer leaves the question open. A request
    that is sent again, by its idempotency `key`, is none.
    """
    for run in await waiting_runs(tenant, thread, key=key):
        if questions := await run.questions():
            offset, path = len(await run.recorded()), questions[0].path
            try:
                await run.answer(path, answer_value(questions[0].schema, text))
            except AskError:
                return Answered(run, offset, "")
            return Answered(run, offset, path)
    return None


async def waiting_runs(tenant: Tenant, thread: str, *, key: str | None) -> list[Run]:
    """Return the runs of a thread that wait for a person, the oldest first.

    None for a request that is sent again: one whose idempotency `key` has started a run there.
    """
    waiting = await tenant.runs(status="waiting", thread=thread)
    turns = await turns_of(tenant, thread) if waiting and key is not None else []
    return [] if any(turn.key == key for turn in turns) else waiting[::-1]


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
