"""`/healthz`: the process answers. `/readyz`: it can also reach its store."""

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from crew.errors import CrewError
from serving.door import Door
from serving.operation import Operation

__all__ = ["OPERATIONS"]


async def healthz(request: Request) -> Response:
    """Say that the process is alive; it asks nobody, so a slow store restarts nothing."""
    return JSONResponse({"status": "ok"})


async def readyz(request: Request) -> Response:
    """Say whether a run could be started now; 503 with the reason if not."""
    door: Door = request.app.state.door
    try:
        await door.runtime.runs(status="running")
    except CrewError as error:
        return JSONResponse({"status": "unready", "reason": str(error)}, status_code=503)
    return JSONResponse({"status": "ready", "workflows": list(door.workflows)})


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
