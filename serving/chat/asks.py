"""A message on a thread whose run waits for who writes it: it answers the oldest such question."""

import json
from dataclasses import dataclass

from crew.errors import AskError
from crew.message import Json
from crew.run import Question, Run, Tenant
from serving.access.caller import Caller
from serving.chat.stuck import refuse_stuck
from serving.conversations.items import turns_of

__all__ = ["Answered", "answer_open_question", "find_question", "give_answer"]

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
    caller: Caller, thread: str, text: str, *, key: str | None
) -> Answered | None:
    """Answer the question that is open on the thread; None if who calls was asked nothing.

    Whether it fits is decided by the run: what is no answer leaves the question open.

    Raises:
        KeyReused: the idempotency `key` came with another answer.
    """
    if (asked := await find_question(caller, thread, key=key)) is None:
        return None
    run, question = asked
    offset = await run.offset()
    try:
        return await give_answer(caller, run, question, text, key=key)
    except AskError:
        return Answered(run, offset, "")


async def find_question(
    caller: Caller, thread: str, *, key: str | None
) -> tuple[Run, Question] | None:
    """Return the question that a message on the thread answers, or None.

    That is the oldest open one that is for who calls. A request that is sent again, by its
    idempotency `key`, answers the one that it has answered before; or none, if it has started a
    run.
    """
    if key is not None and (first := await caller.answered(key, thread=thread)) is not None:
        return first.run, first.question
    for run in await _waiting_runs(caller, thread, key):
        for question in await run.questions():
            if caller.is_asked(question.to):
                return run, question
    return None


async def give_answer(
    caller: Caller, run: Run, question: Question, text: str, *, key: str | None
) -> Answered:
    """Answer a question of a run; or, with the key of an earlier answer, give that one again.

    Raises:
        AskError: it is none.
        KeyReused: the key came with another answer.
        ApiError: 403, the question is for somebody else; else as `refuse_stuck`.
    """
    caller.check_answers([question])
    if key is None or await run.answered(key) is None:
        await refuse_stuck(run)
    offset, value = await run.offset(), _answer_value(question.schema, text)
    await run.answer(question.path, value, by=caller.author, idempotency_key=key)
    first = await run.answered(key) if key is not None else None
    return Answered(run, offset if first is None else first.after, question.path)


async def _waiting_runs(tenant: Tenant, thread: str, key: str | None) -> list[Run]:
    """Return the runs of a thread that wait for a person, the oldest first.

    None for a request whose idempotency key has started a run there.
    """
    waiting = await tenant.runs(status="waiting", thread=thread)
    turns = await turns_of(tenant, thread) if waiting and key is not None else []
    return [] if any(turn.key == key for turn in turns) else waiting[::-1]


def _answer_value(schema: dict[str, Json], text: str) -> Json:
    """Read an answer as the question's type: words for yes and no, text, else JSON."""
    stripped = text.strip()
    if schema.get("type") == "string":
        return text
    if schema.get("type") == "boolean" and stripped.lower().rstrip(".!") in _YES | _NO:
        return stripped.lower().rstrip(".!") in _YES
    try:
        return json.loads(stripped, parse_constant=_no_number)
    except (ValueError, RecursionError):
        return stripped


def _no_number(text: str) -> Json:
    raise ValueError(text)
