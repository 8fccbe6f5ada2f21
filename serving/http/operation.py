"""An operation of the API: its route, and what its description in `/openapi.json` is made of."""

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from crew.message import Json

__all__ = ["Operation", "describe", "error_statuses", "routes_of"]

Handler = Callable[[Request], Awaitable[Response]]

_PLACE = re.compile(r"\{(\w+)(?::\w+)?\}")
_ERRORS = {
    400: "The request cannot be used; `param` names the place.",
    401: "No key, or one that is not known.",
    403: "Not from here: without a key only this machine may call; or a question to somebody else.",
    404: "No such thing, or another tenant's.",
    408: "The body did not arrive in time.",
    409: "What is under way does not allow it.",
    413: "The body is too large.",
    415: "The body is not JSON.",
    429: "Too much at once, or a budget is used up; `Retry-After` says when to come back.",
    500: "The run failed, or the server made a mistake.",
    503: "Not now: no store, the server stops, or nobody has the version of the run loaded.",
    504: "No answer in time; the run goes on.",
}


@dataclass(frozen=True, kw_only=True)
class Operation:
    """One method on one path.

    Args:
        method: GET, POST or DELETE.
        path: with places, as Starlette writes them: `/v1/runs/{run}`.
        summary: one line.
        handle: answers a request.
        body: what is read of a request's body; None if there is none.
        query: what is read of its query string.
        streams: whether the answer may be a stream of server-sent events.
        errors: the statuses of its own refusals, besides those of `error_statuses`.
        answer: the JSON schema of its answer.
        status: of its success.
        public: needs no key.
        content: the answer's media type.
        first_text: bytes that only those frames of its stream hold that bring text.
    """

    method: str
    path: str
    summary: str
    handle: Handler
    body: type[BaseModel] | None = None
    query: type[BaseModel] | None = None
    streams: bool = False
    errors: Sequence[int] = ()
    answer: Mapping[str, Json] = field(default_factory=lambda: {"type": "object"})
    status: int = 200
    public: bool = False
    content: str = "application/json"
    first_text: bytes = b""


def routes_of(
    operations: Sequence[Operation], before: Callable[[Operation], Middleware]
) -> list[Route]:
    """Return the routes; a path that knows other methods only answers 405.

    Args:
        operations: of the API.
        before: what stands before an operation.
    """
    return [
        Route(item.path, item.handle, methods=[item.method], middleware=[before(item)])
        for item in operations
    ]


def describe(operations: Sequence[Operation], *, version: str) -> dict[str, Json]:
    """Return the API's description.

    Source: OpenAPI Specification 3.1.0.
    """
    bodies = [item.body for item in operations if item.body is not None]
    models = list(dict.fromkeys(bodies))
    names, schemas = models_json_schema(
        [(model, "validation") for model in models], ref_template="#/components/schemas/{model}"
    )
    paths: dict[str, dict[str, Json]] = {}
    for item in operations:
        reference = names[item.body, "validation"] if item.body is not None else None
        paths.setdefault(_PLACE.sub(r"{\1}", item.path), {})[item.method.lower()] = _described(
            item, reference
        )
    error = {
        "type": "object",
        "required": ["error"],
        "properties": {
            "error": {
                "type": "object",
                "required": ["message", "type", "param", "code"],
                "properties": {
                    "message": {"type": "string"},
                    "type": {"type": "string"},
                    "param": {"type": ["string", "null"]},
                    "code": {"type": ["string", "null"]},
                },
            }
        },
    }
    return {
        "openapi": "3.1.0",
        "info": {"title": "crew", "version": version},
        "paths": paths,
        "components": {
            "schemas": {**schemas.get("$defs", {}), "Error": error},
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{"key": []}, {}],
    }


def error_statuses(operation: Operation) -> set[int]:
    """Return the statuses with which an operation may refuse a request."""
    if operation.public:
        return {*operation.errors}
    found = {401, 403, 429, 500, 503, *operation.errors}
    if operation.method != "GET" or operation.query is not None:
        found.add(400)
    if operation.body is not None:
        found |= {408, 413, 415}
    if "{" in operation.path:
        found.add(404)
    return found | ({504} if operation.streams else set())


def _described(item: Operation, body: Json) -> dict[str, Json]:
    content: dict[str, Json] = {item.content: {"schema": dict(item.answer)}}
    if item.streams:
        content["text/event-stream"] = {
            "schema": {"description": "Events, each with JSON as data."}
        }
    errors = {str(status): _refusal(status) for status in sorted(error_statuses(item))}
    described: dict[str, Json] = {
        "summary": item.summary,
        "operationId": item.handle.__name__,
        "parameters": [*_places(item.path), *_queries(item.query)],
        "responses": {str(item.status): {"description": "OK", "content": content}, **errors},
    }
    if body is not None:
        described["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": body}},
        }
    if item.public:
        described["security"] = list[Json]()
    return described


def _refusal(status: int) -> Json:
    described: dict[str, Json] = {
        "description": _ERRORS[status],
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
    }
    if status in (429, 503):
        seconds = {"schema": {"type": "integer"}, "description": "Seconds, where known."}
        described["headers"] = {"Retry-After": seconds}
    return described


def _places(path: str) -> list[Json]:
    return [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in _PLACE.findall(path)
    ]


def _queries(query: type[BaseModel] | None) -> list[Json]:
    if query is None:
        return []
    schema: dict[str, Any] = query.model_json_schema()
    return [
        {"name": name, "in": "query", "required": False, "schema": part}
        for name, part in schema["properties"].items()
    ]
