"""The JSON of a response, as the OpenAI API has it."""

from collections.abc import Mapping

from crew.fold import Ending, Origin
from crew.message import Json

__all__ = ["asked_of", "error_shape", "response_shape", "usage_shape"]


def response_shape(
    *,
    id: str,  # noqa: A002 - the API's word
    run: str,
    previous: str | None,
    started: Origin,
    status: str,
    run_status: str,
    error: Json,
    output: list[dict[str, Json]],
    completed_at: float | None,
    usage: Json,
    questions: list[dict[str, Json]],
    result: Json,
) -> dict[str, Json]:
    """Return the whole response; `crew` holds what OpenAI's shape has no place for.

    `previous` is the response that this one goes on with; by default what its request named.
    """
    asked = asked_of(started)
    thread = started.thread
    facts = {"run_id": run, "thread_id": thread, "status": run_status, "questions": questions}
    facts |= {"output": result} if status == "completed" and not questions else {}
    facts |= {"note": asked["note"]} if "note" in asked else {}
    return {
        "id": id,
        "object": "response",
        "created_at": int(started.at),
        "completed_at": completed_at,
        "status": status,
        "background": asked.get("background", False),
        "error": error,
        "incomplete_details": {"reason": None} if status == "incomplete" else None,
        "instructions": asked.get("instructions"),
        "max_output_tokens": None,
        "model": started.workflow,
        "output": output,
        "parallel_tool_calls": True,
        "previous_response_id": previous or asked.get("previous_response_id"),
        "conversation": {"id": thread} if thread else None,
        "reasoning": None,
        "store": True,
        "temperature": None,
        "text": {"format": asked.get("format", {"type": "text"})},
        "tool_choice": "auto",
        "tools": [],
        "top_p": None,
        "truncation": "disabled",
        "usage": usage,
        "user": asked.get("user"),
        "metadata": asked.get("metadata", {}),
        "crew": facts,
    }


def asked_of(started: Origin) -> dict[str, Json]:
    """Return what was kept of the request that started a run."""
    return started.metadata.get("response", {})


def usage_shape(usage: Mapping[str, float] | None) -> Json:
    """Return the tokens of a run's whole tree; None while it is under way."""
    if usage is None:
        return None
    read, written = int(usage.get("input_tokens", 0)), int(usage.get("output_tokens", 0))
    cached = int(usage.get("cached_tokens", 0))
    return {
        "input_tokens": read,
        "input_tokens_details": {"cached_tokens": cached, "cache_write_tokens": 0},
        "output_tokens": written,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": read + written,
    }


def error_shape(ending: Ending) -> Json:
    """Return why a run failed, or cannot go on by itself; None if neither."""
    if (error := ending.error) is not None:
        message = f"{error.type}: {error.message}"
    elif (parked := ending.parked) is not None:
        message = f"the run waits for a decision ({parked.reason}: {parked.detail})"
    else:
        return None
    return {"code": "server_error", "message": message}
