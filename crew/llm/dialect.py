"""What an endpoint was learnt to want otherwise than most, by what it refused."""

import re
from collections.abc import Callable, Iterable
from typing import TypeAlias

from crew.define import frozen
from crew.errors import ModelError
from crew.llm import ModelRequest
from crew.llm.plain_schema import NOT_PLAIN, plain
from crew.llm.refusal import refuses_grammar, refuses_limit
from crew.llm.wire import NOT_ECHOED, request_body, with_schema_in_prompt
from crew.message import Json

__all__ = [
    "APART",
    "FORCING",
    "REFUSALS",
    "Dialect",
    "Lesson",
    "lesson",
    "rendered",
    "schema_in_words",
]

Dialect: TypeAlias = frozenset[str]
"""Facts about an endpoint; a parameter that is left out is a fact of its name behind a minus."""

LIMIT = "the limit is max_completion_tokens"
WORDS = "the schema is said in words"
APART = "the schema is said in words where there are tools"
NO_SYSTEM = "instructions are said by the user"
NO_ECHO = "reasoning is not sent back"
PLAIN = "schemas are plain"
SIGNED = "calls that others made are signed as such"
REASONED = "calls that others made have an empty reasoning"

FORCING = frozenset({"vllm", "library"})
"""Owners of models whose engines call no tool while a schema is forced: vLLM, and Ollama."""
REFUSALS = (400, 422, 501)
"""States of a request that another one may do better than."""
_FOREIGN = {"google": {"thought_signature": "skip_thought_signature_validator"}}
_NEEDED = frozenset({"model", "messages", "tools", "response_format", "stream", "max_tokens"})
"""What is never left out: the answer would be another, or no answer."""
_UNKNOWN = re.compile(
    r"support|unknown|unrecogni[sz]ed|unexpected|not permitted|not allowed|extra inputs|deprecated"
    r"|only the default|additional propert",
    re.IGNORECASE,
)
_TOO_LONG = re.compile(r"context|too long|too large|maximum", re.IGNORECASE)
_NOT_PLAIN = re.compile(rf"""["'`]({"|".join(map(re.escape, NOT_PLAIN))})["'`]""")
_NO_SYSTEM_ROLE = re.compile(
    r"system (role|message|instruction)s?\b.*\bsupport|role\b.*\bnot support\b.*\bsystem",
    re.IGNORECASE,
)


@frozen
class Lesson:
    """One more fact about an endpoint; a guess is kept only if it proves true."""

    fact: str
    is_guess: bool = False


def rendered(request: ModelRequest, model: str, dialect: Dialect, *, stream: bool) -> Json:
    """Render a request as an endpoint takes it."""
    if schema_in_words(request, dialect):
        request = with_schema_in_prompt(request)
    body = request_body(request, model, stream=stream)
    if not dialect:
        return body
    for fact in dialect:
        if fact.startswith("-"):
            body.pop(fact[1:], None)
    if LIMIT in dialect and "max_tokens" in body:
        body["max_completion_tokens"] = body.pop("max_tokens")
    if PLAIN in dialect:
        _make_plain(body)
    if SIGNED in dialect or REASONED in dialect:
        _mark_foreign(body["messages"], dialect)
    if NO_ECHO in dialect:
        body["messages"] = [_bare(message) for message in body["messages"]]
    if NO_SYSTEM in dialect:
        body["messages"] = _without_system(body["messages"])
    return body


def schema_in_words(request: ModelRequest, dialect: Dialect) -> bool:
    """Tell whether the schema of a request goes into its prompt."""
    is_apart = APART in dialect and bool(request.tools)
    return request.schema is not None and (WORDS in dialect or is_apart)


def lesson(
    error: ModelError, request: ModelRequest, sent: Iterable[str], known: Dialect
) -> Lesson | None:
    """Return what is learnt from a refusal; None if nothing is, or it is known already.

    Args:
        error: the refusal.
        request: what was refused.
        sent: the names of what its body held.
        known: what was known when it was sent.
    """
    if error.status not in REFUSALS or error.is_refusal:
        return None
    for find in (
        _of_limit,
        _of_foreign,
        _of_parameter,
        _of_system,
        _of_echo,
        _of_words,
        _of_schema,
    ):
        found = find(error, request, frozenset(sent))
        if found is not None and found.fact not in known:
            return found
    return None


_Finder: TypeAlias = Callable[[ModelError, ModelRequest, frozenset[str]], Lesson | None]


def _of_limit(error: ModelError, request: ModelRequest, sent: frozenset[str]) -> Lesson | None:
    if "max_tokens" in sent and (refuses_limit(error) or _names(error, "max_tokens")):
        return Lesson(LIMIT)
    return None


def _of_parameter(error: ModelError, request: ModelRequest, sent: frozenset[str]) -> Lesson | None:
    names = sorted(sent - _NEEDED, key=len, reverse=True)
    refused = next((name for name in names if _names(error, name)), None)
    return None if refused is None else Lesson(f"-{refused}")


def _of_foreign(error: ModelError, request: ModelRequest, sent: frozenset[str]) -> Lesson | None:
    """Learn that a conversation which began with another model lacks what this one wants back."""
    if "thought_signature" in error.message:
        return Lesson(SIGNED)
    is_missing = re.search(r"reasoning_content\b.*(passed back|field)", error.message)
    return Lesson(REASONED, is_guess=True) if is_missing else None


def _of_system(error: ModelError, request: ModelRequest, sent: frozenset[str]) -> Lesson | None:
    is_refused = _NO_SYSTEM_ROLE.search(error.message) is not None
    return Lesson(NO_SYSTEM) if is_refused else None


def _of_echo(error: ModelError, request: ModelRequest, sent: frozenset[str]) -> Lesson | None:
    names = {name for message in request.messages for name in message.extra or ()} - NOT_ECHOED
    return Lesson(NO_ECHO) if any(_names(error, name) for name in names) else None


def _of_words(error: ModelError, request: ModelRequest, sent: frozenset[str]) -> Lesson | None:
    """Learn that schemas, of tools or of the answer, hold words that are not known."""
    is_named = _UNKNOWN.search(error.message) and _NOT_PLAIN.search(error.message)
    return Lesson(PLAIN) if is_named and sent & {"tools", "response_format"} else None


def _of_schema(error: ModelError, request: ModelRequest, sent: frozenset[str]) -> Lesson | None:
    """Learn that a schema is not taken, or not beside tools; words for that are many."""
    if "response_format" not in sent:
        return None
    is_certain = refuses_grammar(error)
    if not is_certain and _TOO_LONG.search(error.message):
        return None
    return Lesson(APART if request.tools else WORDS, is_guess=not is_certain)


def _names(error: ModelError, name: str) -> bool:
    """Tell whether a refusal is one of a parameter of this name."""
    said = error.message
    is_named = re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", said) is not None
    return is_named and _UNKNOWN.search(said) is not None


def _make_plain(body: dict[str, Json]) -> None:
    for tool in body.get("tools", ()):
        tool["function"]["parameters"] = plain(tool["function"]["parameters"])
    if (wanted := body.get("response_format")) is not None:
        wanted["json_schema"]["schema"] = plain(wanted["json_schema"]["schema"])


def _mark_foreign(messages: list[dict[str, Json]], dialect: Dialect) -> None:
    """Mark the calls of which there is nothing to send back.

    Source: ai.google.dev, "Thought signatures", on conversations of other models.
    """
    for message in messages:
        if calls := message.get("tool_calls"):
            if SIGNED in dialect:
                calls[0].setdefault("extra_content", _FOREIGN)
            if REASONED in dialect:
                message.setdefault("reasoning_content", "")


def _bare(message: dict[str, Json]) -> dict[str, Json]:
    plain = ("role", "content", "tool_calls", "tool_call_id")
    bare = {name: message[name] for name in plain if name in message}
    if "tool_calls" in bare:
        calls = bare["tool_calls"]
        bare["tool_calls"] = [{n: call[n] for n in ("id", "type", "function")} for call in calls]
    return bare


def _without_system(messages: list[dict[str, Json]]) -> list[dict[str, Json]]:
    """Put what the system says before what the first user does."""
    system, *rest = messages
    if system["role"] != "system" or not rest or rest[0]["role"] != "user":
        return messages
    said = rest[0]["content"]
    if isinstance(said, str):
        content: Json = f"{system['content']}\n\n{said}"
    else:
        content = [{"type": "text", "text": system["content"]}, *said]
    return [{"role": "user", "content": content}, *rest[1:]]
