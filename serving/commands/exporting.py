"""The command that writes runs out: one a line, as JSON."""

import json
from collections.abc import Iterable
from typing import Any

from crew.config import Settings
from crew.errors import InputInvalid
from crew.fold import Ending, Event, Origin, Spans, Transcript, Transcripts, fold
from crew.llm import ModelRequest
from crew.llm.wire import request_body
from crew.message import message_from
from crew.run import Run
from serving.commands.opening import reading
from serving.commands.output import notes, show
from serving.commands.wanted import Wanted


async def export_runs(settings: Settings, wanted: Wanted, *, messages: bool, jsonl: bool) -> int:
    """Print every run that is wanted, the newest first, and how many there were."""
    if not jsonl:
        raise InputInvalid(message="say the form: crew export --jsonl")
    count = 0
    async with reading(settings) as runtime:
        async for run in wanted.all(runtime):
            line = exported(run, await run.status(), await run.recorded(), messages=messages)
            show(json.dumps(line | {"usage": await run.usage()}, ensure_ascii=False))
            count += 1
    notes().print(f"{count} runs")
    return 0


def exported(
    run: Run, status: str, events: Iterable[Event], *, messages: bool = False
) -> dict[str, Any]:
    """Return a run as JSON: what it was given and gave, what it cost, and when.

    Times are unix seconds; `ended_at` and `seconds` are None while it goes on. With `messages` it
    has those of its agents, each as a line for fine-tuning in the OpenAI API has them.
    """
    origin, spans, said = Origin(), Spans(), Transcripts()
    fold(events, origin, spans, said)
    whole = spans.tree(run.workflow)
    line: dict[str, Any] = {
        "run": run.id,
        "workflow": run.workflow,
        "version": run.version,
        "status": status,
        "key": run.key,
        "thread": run.thread,
        "metadata": origin.metadata,
        "created_at": run.created_at,
        "ended_at": whole.end,
        "seconds": whole.seconds,
        "input": origin.input,
        "output": spans.ending.output,
        "error": _error(spans.ending),
    }
    return line | ({"agents": [_lines(it) for it in said.all]} if messages else {})


def _error(ending: Ending) -> dict[str, str] | None:
    error = ending.error
    if error is None:
        return None
    return {"type": error.type, "message": error.message, "path": error.path}


def _lines(said: Transcript) -> dict[str, Any]:
    request = ModelRequest(messages=tuple(message_from(it) for it in said.messages))
    body = request_body(request, "", stream=False)
    return {"agent": said.agent, "path": said.path, "messages": body["messages"]}
