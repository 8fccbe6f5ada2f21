"""What a request says, checked: its body and its query string."""

import asyncio
import json
import math
import re
from collections.abc import AsyncIterable
from typing import TypeVar

from pydantic import BaseModel, ValidationError
from starlette.requests import Request

from crew.message import Json
from serving.http.errors import ApiError

__all__ = ["MOST_LEVELS", "read_body", "read_query"]

BODY_SECONDS = 30.0
"""How long a body may take to arrive."""
MOST_LEVELS = 64
"""How deep a body may be nested."""

M = TypeVar("M", bound=BaseModel)

_HALF_PAIR = re.compile(rb"\\u[dD][89a-fA-F]")


async def read_body(chunks: AsyncIterable[bytes], model: type[M], *, max_bytes: int) -> M:
    """Read and check a request body; an empty one is an empty object.

    Bytes are counted as they arrive: a length that the client states is not believed.

    Args:
        chunks: the body.
        model: what it must be.
        max_bytes: how large it may be.

    Raises:
        ApiError: 413 too large, 408 too slow, 400 not JSON or not as it must be; `param` names the
            place.
    """
    try:
        async with asyncio.timeout(BODY_SECONDS):
            raw = await _received(chunks, max_bytes)
    except TimeoutError as error:
        raise ApiError(
            status=408,
            message=f"the request body did not arrive within {BODY_SECONDS:g} seconds",
            code="request_timeout",
            again=True,
        ) from error
    return _checked(_parsed(raw), model)


def read_query(request: Request, model: type[M]) -> M:
    """Read and check the query string; names that are not known are ignored, as OpenAI does.

    Raises:
        ApiError: 400; `param` names the place.
    """
    given = dict(request.query_params)
    for name, value in given.items():
        if not value.isprintable():
            raise ApiError(
                status=400,
                message=f"{name!r:.50}: must be printable characters",
                param=name if name.isprintable() else None,
                code="invalid_value",
            )
    return _checked(given, model)


async def _received(chunks: AsyncIterable[bytes], max_bytes: int) -> bytes:
    received = bytearray()
    async for chunk in chunks:
        received += chunk
        if len(received) > max_bytes:
            raise ApiError(
                status=413,
                message=f"the request body is larger than {max_bytes} bytes",
                code="request_too_large",
            )
    return bytes(received)


def _parsed(raw: bytes) -> Json:
    """Read JSON that every store and client can carry on: what RFC 8259 calls interoperable.

    Source: RFC 8259 sections 4, 6, 8 and 9.
    """
    try:
        value: Json = json.loads(
            raw.decode("utf-8-sig") or "{}",
            object_pairs_hook=_object,
            parse_constant=_no_number,
            parse_float=_number,
        )
        if _HALF_PAIR.search(raw):
            json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise _not_json("a string holds half of a surrogate pair") from error
    except RecursionError as error:
        raise _too_deep() from error
    except ValueError as error:
        raise _not_json(str(error)) from error
    if _is_deeper(value, MOST_LEVELS):
        raise _too_deep()
    return value


def _object(pairs: list[tuple[str, Json]]) -> Json:
    value = dict(pairs)
    if len(value) < len(pairs):
        names = [name for name, _ in pairs]
        twin = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the name {twin!r:.50} comes twice in one object")
    return value


def _number(text: str) -> float:
    if math.isinf(value := float(text)):
        raise ValueError(f"the number {text:.30} is too large")
    return value


def _no_number(text: str) -> Json:
    raise ValueError(f"{text} is no JSON number")


def _is_deeper(value: Json, levels: int) -> bool:
    level = _parts([value])
    for _ in range(levels):
        level = [part for whole in level for part in _parts(whole)]
    return bool(level)


def _parts(value: Json) -> list[Json]:
    """The lists and objects directly in a value."""
    inside: list[Json] = list(value.values()) if isinstance(value, dict) else value
    return [part for part in inside if isinstance(part, (dict, list))]


def _not_json(problem: str) -> ApiError:
    return ApiError(
        status=400, message=f"the request body is not JSON: {problem}", code="invalid_json"
    )


def _too_deep() -> ApiError:
    return ApiError(
        status=400,
        message=f"the request body is not JSON that is read here: it is nested deeper than "
        f"{MOST_LEVELS} levels",
        code="invalid_json",
    )


def _checked(value: Json, model: type[M]) -> M:
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise _misshapen(value, error) from error


def _misshapen(value: Json, error: ValidationError) -> ApiError:
    first = error.errors(include_url=False)[0]
    param = _place(_parts_of(value, first["loc"], is_missing=first["type"] == "missing"))
    message = first["msg"].removeprefix("Value error, ")
    return ApiError(
        status=400,
        message=f"{param or 'the body'}: {message}",
        param=param or None,
        code="invalid_type" if first["type"].endswith("_type") else "invalid_value",
    )


def _parts_of(value: Json, location: tuple[int | str, ...], *, is_missing: bool) -> list[int | str]:
    """Return a location without the names of a union's members, which pydantic puts in."""
    found: list[int | str] = []
    for part in location:
        if isinstance(value, dict) and part in value:
            value = value[str(part)]
        elif isinstance(value, list) and isinstance(part, int) and part < len(value):
            value = value[part]
        elif not is_missing or part != location[-1]:
            continue
        found.append(part)
    return found


def _place(location: list[int | str]) -> str:
    """Write a location as the OpenAI API does: `messages[0].content`."""
    text = ""
    for part in location:
        text += f"[{part}]" if isinstance(part, int) else f".{part}"
    return text.removeprefix(".")
