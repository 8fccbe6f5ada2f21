"""`/v1/responses/{id}`: what became of a response, and what may be done with it."""

import asyncio
import contextlib

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from crew.content import content_in
from crew.errors import RunNotFound
from crew.fold import is_end
from crew.message import Json
from crew.run import Run
from crew.value import text_of
from serving.access.door import Door
from serving.conversations.erasing import erase_thread
from serving.conversations.items import input_item, turns_of
from serving.conversations.paging import PageQuery, page
from serving.http.body import read_query
from serving.http.errors import ApiError
from serving.responses.body import RetrieveQuery
from serving.responses.create import event_stream
from serving.responses.naming import run_of_response
from serving.responses.reading import Reading

__all__ = ["cancel_response", "delete_response", "list_input_items", "retrieve_response"]

_CANCEL_SECONDS = 5.0
"""How long a cancel is followed; it is sure before."""


async def retrieve_response(request: Request) -> Response:
    """Return a response as it stands, or its stream behind a sequence number."""
    door: Door = request.app.state.door
    query = read_query(request, RetrieveQuery)
    reading = await _reading(request)
    if not query.stream:
        return JSONResponse(await reading.now())
    frames = reading.frames(starting_after=query.starting_after, heartbeat=door.heartbeat)
    return event_stream(frames, {"X-Run-Id": reading.run.id})


async def cancel_response(request: Request) -> Response:
    """Cancel the run; one that has ended is left as it is."""
    reading = await _reading(request)
    await reading.run.cancel()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_CANCEL_SECONDS):
            await _end(reading.run)
    return JSONResponse(await reading.now())


async def delete_response(request: Request) -> Response:
    """Erase the run for good, with the conversation that it is the only turn of."""
    door: Door = request.app.state.door
    tenant, run = door.tenant(request), (await _reading(request)).run
    if run.thread is None or run.turn is None:
        raise _kept(f"it is no turn of a conversation; remove it with: crew prune (run {run.id})")
    if len(await turns_of(tenant, run.thread)) > 1:
        way = f"DELETE /v1/conversations/{run.thread} erases them all"
        raise _kept(f"other turns of its conversation stand on it; {way}")
    await erase_thread(tenant, run.thread)
    facts = {"id": request.path_params["response"], "object": "response", "deleted": True}
    return JSONResponse(facts)


async def list_input_items(request: Request) -> Response:
    """List what the run was given: the message, and what was said before where it took that in."""
    query = read_query(request, PageQuery)
    run = (await _reading(request)).run
    given = (await run.origin()).input
    return JSONResponse(page(_input_items(run.id, given), query))


async def _reading(request: Request) -> Reading:
    door: Door = request.app.state.door
    named = request.path_params["response"]
    run_id, after = run_of_response(named)
    caller = door.tenant(request)
    try:
        run = await caller.get(run_id)
    except RunNotFound as error:
        message = f"there is no response {named!r}"
        raise ApiError(status=404, message=message, code="response_not_found") from error
    return Reading(run=run, is_mine=caller.is_asked, closing=door.closing, after=after)


async def _end(run: Run) -> None:
    async for event in run.events(after=await run.offset() - 1):
        if is_end(event):
            return


def _kept(reason: str) -> ApiError:
    return ApiError(
        status=409,
        message=f"this response cannot be deleted by itself: {reason}",
        type="conflict_error",
        code="response_in_use",
    )


def _input_items(run: str, given: Json) -> list[dict[str, Json]]:
    history = given.get("history") if isinstance(given, dict) else None
    before = [
        input_item(run, str(item.get("text", "")), name=f"in{place}", role=str(item.get("role")))
        for place, item in enumerate(history if isinstance(history, list) else [])
        if isinstance(item, dict)
    ]
    return [*before, input_item(run, content_in(given) or text_of(given))]
