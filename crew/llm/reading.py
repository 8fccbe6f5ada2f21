"""Replies, read once: whatever the dialect, one typed shape, or an error that names the cause."""

import json
import re
from dataclasses import replace
from typing import Any

from crew.errors import ModelError
from crew.llm import ModelReply, ModelRequest
from crew.llm.arguments import read_arguments
from crew.llm.assembly import Assembly, Call
from crew.llm.extraction import json_in
from crew.llm.wire import with_usage
from crew.message import Json, ToolCall, Usage

__all__ = ["read_reply", "reply_of", "with_json"]

_ANSWER_ONLY = "</think>"
_CONTROL = re.compile(r"<\|.*")
"""What gpt-oss's template leaves behind a tool's name."""
_FILTERED = ("content_filter", "safety", "prohibited", "blocklist", "recitation", "sensitive")
"""What is in a reason to finish that is a filter's: OpenAI's, Gemini's and Zhipu's."""


def read_reply(
    received: Assembly, request: ModelRequest, *, endpoint: str, model: str = ""
) -> ModelReply:
    """Read what has come of an answer.

    Args:
        received: all of it.
        request: what was asked for.
        endpoint: named in errors.
        model: the id that was asked, for which what it sent besides is kept.

    Raises:
        ModelError: it is no answer: there is none, it is a refusal, a filter ended it, or its
            tokens were used up before it said anything.
    """
    received.end()
    if not received.is_answer:
        raise ModelError(
            message=f"{endpoint} answered without choices: "
            f"{json.dumps(received.completion())[:200]}; check that CREW_BASE_URL is an "
            "OpenAI-compatible chat endpoint",
            endpoint=endpoint,
        )
    reply = reply_of(received, request, model)
    is_empty = not (request.partial or reply.text.strip() or reply.tool_calls)
    if (cause := _refused(received, reply, is_empty=is_empty)) is not None:
        raise replace(_error(f"{endpoint} {cause}", endpoint, reply), is_refusal=True)
    if is_empty and (cause := _cut_off(reply, request)) is not None:
        raise _error(f"{endpoint} {cause}", endpoint, reply)
    return reply


def reply_of(received: Assembly, request: ModelRequest, model: str = "") -> ModelReply:
    """Return what has come as a reply, with an estimate of what was not counted."""
    text = "".join(received.text)
    if not request.partial and _ANSWER_ONLY in text and "<think>" not in text:
        # Where the template itself opens the thought only its end is in the answer.
        text = text.rpartition(_ANSWER_ONLY)[2].lstrip()
    calls = _calls(received.calls, request)
    reply = ModelReply(
        text=text,
        tool_calls=calls,
        usage=_usage(received.usage),
        model=_text(received.head.get("model")),
        finish_reason=received.finish_reason or "stop",
        extra=_extra(received, calls, model),
    )
    return with_usage(reply, request)


def with_json(reply: ModelReply, schema: Json) -> ModelReply:
    """Return a reply whose text has to follow a schema with that alone, wherever it was put."""
    if reply.tool_calls:
        return reply
    extra = reply.extra or {}
    thoughts = [extra[name] for name in ("reasoning_content", "reasoning") if name in extra]
    text = reply.text or next((text for text in thoughts if _is_json(text)), "")
    return replace(reply, text=json_in(text, schema))


def _is_json(text: str) -> bool:
    return text.lstrip().startswith(("{", "["))


def _refused(received: Assembly, reply: ModelReply, *, is_empty: bool) -> str | None:
    """Return what the model, or a filter, refused; None if nothing was."""
    reason = reply.finish_reason
    if received.refusal and is_empty:
        return f"refused to answer: {received.refusal[:300]!r}; ask for something else"
    if any(word in reason.lower() for word in _FILTERED):
        return (
            f"ended the answer by its content filter (finish_reason {reason!r}) after "
            f"{reply.text[-100:]!r}; rephrase what is asked, or relax the filter there"
        )
    return None


def _cut_off(reply: ModelReply, request: ModelRequest) -> str | None:
    """Return why nothing was said, where a limit of tokens was in the way."""
    if reply.finish_reason.lower() in ("length", "max_tokens"):
        limit = reply.usage.output_tokens or request.max_tokens
        return (
            f"used up {f'the {limit}' if limit else 'all'} tokens of the answer before it said "
            "anything: thinking counts, too; raise max_tokens, or have it think less"
        )
    return None


def _error(message: str, endpoint: str, reply: ModelReply) -> ModelError:
    return ModelError(
        message=message,
        endpoint=endpoint,
        input_tokens=reply.usage.input_tokens,
        output_tokens=reply.usage.output_tokens,
        uncounted=not reply.is_counted,
    )


def _extra(received: Assembly, calls: tuple[ToolCall, ...], model: str) -> dict[str, Json] | None:
    """Return what came beside text and calls, and who understands it; None if nothing did."""
    if received.extra or any(call.extra for call in calls):
        return {"model": model, **received.extra}
    return None


def _calls(found: list[Call], request: ModelRequest) -> tuple[ToolCall, ...]:
    if not found:
        return ()
    schemas = {spec.name: spec.parameters for spec in request.tools}
    taken = {call.id for message in request.messages for call in message.tool_calls}
    calls: list[ToolCall] = []
    for call in found:
        name = _tool_name(call.name, schemas)
        arguments = read_arguments(call.arguments, schemas.get(name))
        own = call.id if call.id and call.id not in taken else _free_id(taken)
        taken.add(own)
        calls.append(ToolCall(name, arguments, own, call.extra or None))
    return tuple(calls)


def _free_id(taken: set[str]) -> str:
    """Return an id for a call that has none, or one of another call: a conversation's are unique.

    Nine letters and digits, as Mistral's templates want them.
    """
    number = len(taken)
    while (name := f"call{number:05}") in taken:
        number += 1
    return name


def _tool_name(name: str, known: dict[str, Any]) -> str:
    """Return the tool that is meant, by a name with a prefix, or with what a template left."""
    if name in known:
        return name
    bare = _CONTROL.sub("", name).strip().removeprefix("functions.")
    return bare if bare in known else name


def _usage(usage: Json) -> Usage:
    """Read what an endpoint counted; what is no count of tokens is 0."""
    known: dict[str, Json] = usage if isinstance(usage, dict) else {}
    details = known.get("prompt_tokens_details")
    cached = details.get("cached_tokens") if isinstance(details, dict) else None
    read, total = _count(known.get("prompt_tokens")), _count(known.get("total_tokens"))
    written = _count(known.get("completion_tokens"))
    return Usage(
        input_tokens=read,
        # Gemini and Grok count thoughts in the total alone.
        output_tokens=max(written, total - read) if read else written,
        cached_tokens=_count(cached or known.get("prompt_cache_hit_tokens")),
        calls=1,
    )


def _count(value: Json) -> int:
    """Return a whole number of tokens, in whatever form; 0 if it is none."""
    if isinstance(value, str) and value.isascii() and value.isdigit():
        return int(value)
    is_whole = type(value) is int or (isinstance(value, float) and value.is_integer())
    return int(value) if is_whole and value > 0 else 0


def _text(value: Json) -> str:
    return value if isinstance(value, str) else ""
