"""The operations of the API put together, and what stands before all of them."""

from collections.abc import Sequence
from importlib.metadata import version

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from crew.errors import CrewError
from serving import chat, conversations, health, metrics, responses, runs, web
from serving.auth import Access
from serving.door import Door
from serving.errors import ApiError, from_crew
from serving.metrics import Meter, Metered
from serving.operation import Operation, describe, routes_of

__all__ = ["OPERATIONS", "make_app"]


async def openapi(request: Request) -> Response:
    """Describe every operation."""
    return JSONResponse(describe(OPERATIONS, version=version("raycrew")))


OPERATIONS: list[Operation] = [
    *health.OPERATIONS,
    *metrics.OPERATIONS,
    Operation(
        method="GET",
        path="/openapi.json",
        summary="This description.",
        handle=openapi,
        public=True,
    ),
    *chat.OPERATIONS,
    *responses.OPERATIONS,
    *conversations.OPERATIONS,
    *runs.OPERATIONS,
]

_PUBLIC = frozenset(item.path for item in OPERATIONS if item.public) | web.PATHS


def make_app(door: Door, api_keys: Sequence[str]) -> Starlette:
    """Put the routes together."""
    meter = Meter(door.runtime)
    app = Starlette(
        routes=[*routes_of(OPERATIONS), *web.ROUTES],
        middleware=[
            Middleware(Metered, meter=meter, operations=OPERATIONS),
            Middleware(_Guard, access=Access(api_keys)),
        ],
        exception_handlers={
            ApiError: _api_error,
            CrewError: _crew_error,
            HTTPException: _http_error,
            500: _unexpected,
        },
    )
    app.state.door, app.state.meter = door, meter
    return app


class _Guard:
    """Turns away requests that may not pass, before their bodies are read."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app, self._access = app, access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and (refusal := self._refusal(Request(scope))) is not None:
            status, message = refusal
            code = "invalid_api_key" if status == 401 else "host_not_allowed"
            kind = "authentication_error" if status == 401 else "permission_error"
            error = ApiError(status=status, message=message, type=kind, code=code)
            await _answer(error)(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _refusal(self, request: Request) -> tuple[int, str] | None:
        if request.url.path in _PUBLIC:
            return None
        headers = request.headers
        return self._access.refusal(
            authorization=headers.get("authorization", ""),
            host=headers.get("host", ""),
            origin=headers.get("origin", ""),
        )


def _answer(error: ApiError) -> JSONResponse:
    return JSONResponse(error.body, status_code=error.status, headers=error.all_headers)


async def _api_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    return _answer(error)


async def _crew_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, CrewError)
    return _answer(from_crew(error))


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    message = f"{error.detail}: {request.method} {request.url.path}"
    return _answer(ApiError(status=error.status_code, message=message, code="not_found"))


async def _unexpected(request: Request, error: Exception) -> Response:
    """A defect of ours: its text stays in the log."""
    message = "the server made a mistake; its log says which"
    return _answer(ApiError(status=500, message=message, type="server_error", code="internal"))
