"""The body of an answer as it comes: JSON as a whole, or events of which each is a chunk."""

import json
from collections.abc import AsyncIterator, Mapping
from typing import Protocol

from crew.errors import ModelError
from crew.llm.answer import OnText
from crew.llm.assembly import Assembly
from crew.llm.stream import event_data, is_event_stream
from crew.message import Json

__all__ = ["BrokenOff", "receive", "unusable"]

_PEEKED = 16
"""Bytes by which a stream of events is told from JSON, where its type does not say."""


class BrokenOff(Exception):
    """The stream of an answer ended before the answer did."""


class Body(Protocol):
    """What is needed of an HTTP response."""

    @property
    def headers(self) -> Mapping[str, str]: ...

    def aiter_bytes(self) -> AsyncIterator[bytes]: ...


async def receive(body: Body, received: Assembly, add_text: OnText, *, endpoint: str) -> None:
    """Read an answer's body into `received`, which holds what came of it also if it breaks.

    Args:
        body: not read yet.
        received: takes it.
        add_text: gets each piece of its text.
        endpoint: named in errors.

    Raises:
        BrokenOff: it ended before the answer did.
        ModelError: it is no answer.
    """
    pieces = body.aiter_bytes()
    if not body.headers.get("content-type", "").startswith("text/event-stream"):
        beginning = await _peek(pieces)
        pieces = _all(beginning, pieces)
        if not is_event_stream(beginning):
            whole = _parsed(b"".join([piece async for piece in pieces]), endpoint)
            _refuse_error(whole, endpoint, passing=(429, 502, 503, 504))
            add_text(received.add(whole) + received.end())
            return
    is_done = False
    async for data in event_data(pieces):
        if data.strip() == b"[DONE]":
            is_done = True
        elif (chunk := _chunk(data, endpoint)) and (piece := received.add(chunk)):
            add_text(piece)
    if received.finish_reason == "error" or not (is_done or received.finish_reason):
        raise BrokenOff("before its end, after: " + "".join(received.text)[-100:])
    if piece := received.end():
        add_text(piece)


def unusable(endpoint: str, what: str, text: str, status: int | None = None) -> ModelError:
    """Return the error for an answer that is none."""
    return ModelError(
        message=f"{endpoint} {what}: {text[:200]!r}; check that CREW_BASE_URL is an "
        "OpenAI-compatible endpoint (it usually ends in /v1), and its own log",
        endpoint=endpoint,
        status=status,
    )


async def _peek(pieces: AsyncIterator[bytes]) -> bytes:
    beginning = b""
    async for piece in pieces:
        beginning += piece
        if len(beginning.lstrip()) >= _PEEKED:
            break
    return beginning


async def _all(beginning: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield beginning
    async for piece in rest:
        yield piece


def _chunk(data: bytes, endpoint: str) -> dict[str, Json] | None:
    """Read one event; one that is no object, such as a ping, says nothing.

    Raises:
        ModelError: it is a refusal.
        BrokenOff: it is an error of another kind, which is the end of the answer.
    """
    if not data.lstrip().startswith(b"{"):
        return None
    chunk = _parsed(data, endpoint)
    try:
        _refuse_error(chunk, endpoint)
    except ModelError as error:
        status = error.status
        if status is not None and 400 <= status < 500 and status != 429:
            raise
        raise BrokenOff(f"with an error: {data.decode(errors='replace')}") from error
    return chunk


def _parsed(data: bytes, endpoint: str) -> dict[str, Json]:
    try:
        value = json.loads(data)
    except ValueError as error:
        text = data.decode(errors="replace")
        raise unusable(endpoint, "answered with what is not JSON", text) from error
    if not isinstance(value, dict):
        raise unusable(endpoint, "answered with what is no completion", json.dumps(value))
    return value


def _refuse_error(value: dict[str, Json], endpoint: str, *, passing: tuple[int, ...] = ()) -> None:
    """Refuse an error object that came with status 200, in OpenAI's shape or vLLM's older one.

    Raises:
        BrokenOff: one with a status that is `passing`, as OpenRouter passes on those of others.
        ModelError: any other.
    """
    error = value.get("error") or (value if value.get("object") == "error" else None)
    if error:
        code = error.get("code") if isinstance(error, dict) else None
        status = code if isinstance(code, int) else None
        if status in passing:
            raise BrokenOff(f"with an error: {json.dumps(value)}")
        raise unusable(endpoint, "answered with an error", json.dumps(value), status)
