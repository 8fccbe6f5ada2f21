"""`crew questions`: what runs ask, and the command that answers each."""

import time
from collections.abc import Collection, Iterator
from typing import Any

from crew.config import Settings
from crew.run import Asked
from serving.commands.looking import age_text
from serving.commands.opening import reading
from serving.commands.output import notes, show, show_json


async def list_questions(
    settings: Settings, to: Collection[str] | None, limit: int, *, as_json: bool
) -> int:
    """List open questions, those of the newest runs first."""
    async with reading(settings) as runtime:
        found = await runtime.questions(to=to or None, limit=limit)
    if as_json:
        show_json([_row(asked) for asked in found])
    elif not found:
        notes().print("nothing is asked")
    else:
        show("\n".join(_lines(found)))
    return 0


def _row(asked: Asked) -> dict[str, Any]:
    run, question = asked.run, asked.question
    return {
        "run": run.id,
        "workflow": run.workflow,
        "version": run.version,
        "thread": run.thread,
        "key": question.key,
        "path": question.path,
        "to": question.to,
        "question": question.question,
        "schema": question.schema,
        "asked_at": question.at,
    }


def _lines(found: Collection[Asked]) -> Iterator[str]:
    """Return a table: whom each is for, since when, how it is answered, and its text."""
    cells = [("TO", "ASKED", "ANSWER IT WITH", "QUESTION")]
    for asked in found:
        question, run = asked.question, asked.run
        age = age_text(time.time() - question.at)
        how = f"crew answer {run.id} {question.key} VALUE"
        cells.append((question.to or "anybody", age, how, " ".join(question.question.split())))
    widths = [max(len(row[column]) for row in cells) for column in range(3)]
    for to, age, how, text in cells:
        yield f"{to:{widths[0]}}  {age:>{widths[1]}}  {how:{widths[2]}}  {text}"
