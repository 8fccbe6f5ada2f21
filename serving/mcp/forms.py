"""Questions of a run, as MCP asks them: forms of simple fields, or words and facts."""

import json
from collections.abc import Mapping

from crew.message import Json
from serving.http.errors import ApiError
from serving.mcp.calls import Waiting

__all__ = ["form_of", "state_for", "state_of", "value_in", "waiting_facts", "waiting_text"]

_FIELD = "answer"
_SIMPLE = frozenset({"boolean", "integer", "number", "string"})


def form_of(schema: Mapping[str, Json]) -> dict[str, Json]:
    """Return the form of one field that asks for an answer.

    MCP's forms have simple fields alone: any other answer is written as JSON.
    """
    if schema.get("type") in _SIMPLE:
        field = {"type": schema["type"]}
        field |= {name: schema[name] for name in ("enum", "minimum", "maximum") if name in schema}
    else:
        field = {"type": "string", "description": f"JSON of this schema: {json.dumps(schema)}"}
    return {"type": "object", "properties": {_FIELD: field}, "required": [_FIELD]}


def value_in(content: Mapping[str, Json] | None) -> Json:
    """Return the answer in a form that was filled in."""
    return (content or {}).get(_FIELD)


def state_for(waiting: Waiting) -> str:
    """Return what a client gives back with the answers; it only names the run."""
    return json.dumps({"run": waiting.run})


def state_of(text: str) -> str:
    """Return the run that `state_for` named; whether the caller may see it is asked later.

    Raises:
        ApiError: it is none.
    """
    try:
        run = json.loads(text)["run"]
    except (ValueError, LookupError, TypeError, RecursionError):
        run = None
    if not isinstance(run, str):
        raise ApiError(status=400, message="the request state is none of this server's")
    return run


def waiting_text(waiting: Waiting, answer: str) -> str:
    """Return what a model reads of a run that waits; `answer` is the tool that answers."""
    lines = [
        f"- {item.question} (question {item.key!r}; answer: {json.dumps(item.schema)})"
        for item in waiting.questions
    ]
    lines += [f"- {whom}" for whom in dict.fromkeys(waiting.others)]
    if waiting.questions:
        lines.append(f"Ask your user, then call {answer!r} with run={waiting.run!r} and value=…")
    else:
        lines.append(f"Look at it again later by {answer!r} with run={waiting.run!r}.")
    asked = "\n".join(lines)
    return f"Run {waiting.run} is not done: it waits for an answer.\n{asked}"


def waiting_facts(waiting: Waiting) -> dict[str, Json]:
    """Return the same for programs."""
    questions = [
        {"key": item.key, "path": item.path, "question": item.question, "schema": item.schema}
        for item in waiting.questions
    ]
    return {"run": waiting.run, "status": "waiting", "questions": questions}
