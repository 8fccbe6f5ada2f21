"""The operations of the API put together, and what stands before all of them."""

from collections.abc import Sequence
from importlib.metadata import version

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Match

from crew.errors import CrewError
from serving import chat, conversations, health, metrics, questions, responses, runs, web
from serving.access.auth import Access
from serving.access.door import Door
from serving.access.guard import Guard
from serving.http.errors import ApiError, from_crew
from serving.http.operation import Operation, describe, routes_of
from serving.metrics import Everyone, Meter, Metered

__all__ = ["OPERATIONS", "make_app"]


async def openapi(request: Request) -> Response:
    """Describe every operation."""
    return JSONResponse(describe(request.app.state.operations, version=version("raycrew")))


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
    *questions.OPERATIONS,
    *runs.OPERATIONS,
]


def make_app(
    door: Door,
    access: Access,
    everyone: Everyone | None = None,
    more: Sequence[Operation] = (),
) -> Starlette:
    """Put the routes together; `more` are operations that not every server has."""
    operations = [*OPERATIONS, *more]
    meter = Meter(door.runtime, everyone)
    app = Starlette(
        routes=[
            *routes_of(
                operations, lambda item: Middleware(Guard, operation=item, door=door, access=access)
            ),
            *web.ROUTES,
        ],
        middleware=[Middleware(Metered, meter=meter, operations=operations)],
        exception_handlers={
            ApiError: _api_error,
            CrewError: _crew_error,
            HTTPException: _http_error,
            ClientDisconnect: _gone,
            500: _unexpected,
        },
    )
    app.router.redirect_slashes = False  # a redirect has no body, and loses that of a POST
    app.state.door, app.state.meter, app.state.operations = door, meter, operations
    return app


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
    message = f"{error.detail}: {request.method} {request.scope['path']!r:.200}"
    if error.status_code != 405:
        return _answer(ApiError(status=error.status_code, message=message, code="not_found"))
    allowed = ", ".join(sorted(_methods(request)))
    return _answer(
        ApiError(
            status=405,
            message=f"{message}; this path knows {allowed}",
            code="method_not_allowed",
            headers={"Allow": allowed},
        )
    )


def _methods(request: Request) -> set[str]:
    """The methods that the path of a request knows, over all of its routes."""
    found: set[str] = set()
    for route in request.app.routes:
        if route.matches(request.scope)[0] is not Match.NONE:
            found |= route.methods
    return found


async def _gone(request: Request, error: Exception) -> Response:
    """Nobody is there any more to read it."""
    return _answer(ApiError(status=400, message="the body broke off", code="incomplete_body"))


async def _unexpected(request: Request, error: Exception) -> Response:
    """A defect of ours: its text stays in the log."""
    message = "the server made a mistake; its log says which"
    return _answer(ApiError(status=500, message=message, type="server_error", code="internal"))
