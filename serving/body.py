"""What a request says, checked: its body and its query string."""

import json
from collections.abc import AsyncIterable
from typing import TypeVar

from pydantic import BaseModel, ValidationError
from starlette.requests import Request

from crew.message import Json
from serving.errors import ApiError

__all__ = ["read_body", "read_query"]

M = TypeVar("M", bound=BaseModel)


async def read_body(chunks: AsyncIterable[bytes], model: type[M], *, max_bytes: int) -> M:
    """Read and check a request body; an empty one is an empty object.

    Bytes are counted as they arrive: a length that the client states is not believed.

    Raises:
        ApiError: 413 too large, 400 not JSON or not as it must be; `param` names the place.
    """
    received = bytearray()
    async for chunk in chunks:
        received += chunk
        if len(received) > max_bytes:
            raise ApiError(
                status=413,
                message=f"the request body is larger than {max_bytes} bytes",
                code="request_too_large",
            )
    return _checked(_parsed(bytes(received)), model)


def read_query(request: Request, model: type[M]) -> M:
    """Read and check the query string; names that are not known are ignored, as OpenAI does.

    Raises:
        ApiError: 400; `param` names the place.
    """
    return _checked(dict(request.query_params), model)


def _parsed(raw: bytes) -> Json:
    try:
        return json.loads(raw or b"{}")
    except (ValueError, RecursionError) as error:
        raise ApiError(
            status=400, message=f"the request body is not JSON: {error}", code="invalid_json"
        ) from error


def _checked(value: Json, model: type[M]) -> M:
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise _misshapen(error) from error
    except RecursionError as error:
        raise ApiError(
            status=400, message="the request body is nested too deeply", code="invalid_value"
        ) from error


def _misshapen(error: ValidationError) -> ApiError:
    first = error.errors(include_url=False)[0]
    param = _place(first["loc"])
    message = first["msg"].removeprefix("Value error, ")
    return ApiError(
        status=400,
        message=f"{param or 'the body'}: {message}",
        param=param or None,
        code="invalid_type" if first["type"].endswith("_type") else "invalid_value",
    )


def _place(location: tuple[int | str, ...]) -> str:
    """Write a location as the OpenAI API does: `messages[0].content`."""
    text = ""
    for part in location:
        text += f"[{part}]" if isinstance(part, int) else f".{part}"
    return text.removeprefix(".")
