"""`/healthz`: the process answers. `/readyz`: it can also reach its store, and does not stop."""

from collections.abc import Sequence

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from crew.errors import CrewError
from crew.journal import Busy, RunRow
from serving.access.door import Door
from serving.http.errors import ApiError
from serving.http.operation import Operation

__all__ = ["OPERATIONS"]


async def healthz(request: Request) -> Response:
    """Say that the process is alive; it asks nobody, so a slow store restarts nothing."""
    return JSONResponse({"status": "ok"})


async def readyz(request: Request) -> Response:
    """Say whether a run could be started now; 503 with the reason if not.

    It names runs of versions that nobody has loaded, which is no reason to send requests elsewhere.
    """
    door: Door = request.app.state.door
    if door.closing.is_set():
        return _unready("server_stopping", "the server stops")
    try:
        await door.runtime.runs(status="running", limit=1)
        unloaded = door.runtime.loaded.waiting_of_late()
    except (CrewError, Busy) as error:
        return _unready("store_unavailable", str(error))
    body = {"status": "ready", "workflows": list(door.workflows), "unloaded": _named(unloaded)}
    return JSONResponse(body)


def _named(rows: Sequence[RunRow]) -> list[dict[str, str]]:
    """Runs that wait for code that nobody has loaded: they go on once somebody serves it."""
    return [{"run": row.id, "workflow": row.workflow, "version": row.version} for row in rows]


def _unready(code: str, reason: str) -> Response:
    error = ApiError(status=503, message=reason, type="server_error", code=code, again=True)
    body = {"status": "unready", "reason": reason, **error.body}
    return JSONResponse(body, status_code=503, headers=error.all_headers | {"Retry-After": "1"})


OPERATIONS = [
    Operation(
        method="GET",
        path="/healthz",
        summary="Whether the process lives.",
        handle=healthz,
        public=True,
    ),
    Operation(
        method="GET",
        path="/readyz",
        summary="Whether a run could be started now.",
        handle=readyz,
        errors=[503],
        public=True,
    ),
]
