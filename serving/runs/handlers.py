"""What each operation on runs does."""

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from crew.errors import AskError, InputInvalid
from crew.fold import Ending, in_currency
from crew.graph import Workflow
from crew.journal import OPEN, RunStatus
from crew.message import Json
from crew.run import Question, Run
from crew.run.loaded import unloaded_text
from crew.value import json_text
from serving.access.addressed import IsFor, question_data
from serving.access.door import Door
from serving.chat.stuck import refuse_stuck
from serving.http.body import read_body, read_query
from serving.http.errors import ApiError
from serving.runs.body import MOST_OFFSET, AnswerBody, EventsQuery, ForkBody, RunsQuery, StartBody
from serving.runs.events import event_frames, event_shape

__all__ = [
    "answer_run",
    "cancel_run",
    "create_run",
    "fork_run",
    "list_run_events",
    "list_runs",
    "retrieve_run",
]


async def create_run(request: Request) -> Response:
    """Start a run; on return it is durable."""
    door: Door = request.app.state.door
    body = await read_body(request.stream(), StartBody, max_bytes=door.max_body_bytes)
    workflow = _workflow(door, body.workflow)
    try:
        run = await door.tenant(request).start(
            workflow,
            _with_defaults(door, workflow, body.input),
            thread=body.thread,
            key=request.headers.get("idempotency-key"),
            budget=body.budget.budget if body.budget else None,
            when_busy=body.when_busy,
        )
    except InputInvalid as error:
        raise _invalid("input", "invalid_input", error) from error
    return await _shown(request, run)


async def list_runs(request: Request) -> Response:
    """The caller's runs, the newest first."""
    door: Door = request.app.state.door
    query = read_query(request, RunsQuery)
    caller = door.tenant(request)
    found = await caller.runs(
        status=query.status or (),
        thread=query.thread,
        before=query.before,
        limit=query.limit + 1,
    )
    data = [await _run_data(run, caller.may_answer) for run in found[: query.limit]]
    return _json(_page(data, has_more=len(found) > query.limit))


async def retrieve_run(request: Request) -> Response:
    """One run."""
    return await _shown(request, await _run(request))


async def list_run_events(request: Request) -> Response:
    """A run's events behind an offset: a stream to its end, or one page of what there is."""
    door: Door = request.app.state.door
    query = read_query(request, EventsQuery)
    after = max(query.after, _last_event_id(request))
    run, is_mine = await _run(request), door.tenant(request).may_answer
    if not query.stream:
        events = await run.page(after=after, limit=query.limit + 1)
        data = [event_shape(event, is_mine) for event in events[: query.limit]]
        return _json(_page(data, has_more=len(events) > query.limit))
    frames = event_frames(
        run, after=after, heartbeat=door.heartbeat, closing=door.closing, is_mine=is_mine
    )
    # Proxies in front (nginx) would else collect the stream before they pass it on.
    unbuffered = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
    return StreamingResponse(frames, media_type="text/event-stream", headers=unbuffered)


async def answer_run(request: Request) -> Response:
    """Answer a question of a run, if it is for who calls."""
    door: Door = request.app.state.door
    body = await read_body(request.stream(), AnswerBody, max_bytes=door.max_body_bytes)
    run, caller = await _run(request), door.tenant(request)
    again = request.headers.get("idempotency-key")
    caller.check_answers(await _asked(run, body.key, again))
    if again is None or await run.answered(again) is None:
        await refuse_stuck(run)
    try:
        await run.answer(body.key, body.value, by=caller.author, idempotency_key=again)
    except AskError as error:
        if await run.status() in OPEN and await _asked(run, body.key):
            raise _invalid("value", "invalid_answer", error) from error
        raise
    return await _shown(request, run)


async def cancel_run(request: Request) -> Response:
    """Stop a run; one that has ended is left as it is."""
    run = await _run(request)
    await run.cancel()
    return await _shown(request, run)


async def fork_run(request: Request) -> Response:
    """Start a new run from a prefix of another one's journal."""
    door: Door = request.app.state.door
    body = await read_body(request.stream(), ForkBody, max_bytes=door.max_body_bytes)
    run = await _run(request)
    try:
        fork = await door.tenant(request).fork(
            run.id, at=body.at, live=body.live, effects=body.effects
        )
    except InputInvalid as error:
        raise _invalid("at", "invalid_fork", error) from error
    return await _shown(request, fork)


def _workflow(door: Door, name: str) -> Workflow:
    try:
        return door.workflow(name)
    except KeyError as error:
        raise ApiError(
            status=404, message=error.args[0], param="workflow", code="workflow_not_found"
        ) from error


def _with_defaults(door: Door, workflow: Workflow, value: Json) -> Json:
    """Fill in fields of an object that the server has values for and the caller left out."""
    fields: dict[str, object] = getattr(workflow.input, "model_fields", {})
    if not isinstance(value, dict):
        return value
    given = {name: item for name, item in door.input_defaults.items() if name in fields}
    return given | value


async def _run(request: Request) -> Run:
    door: Door = request.app.state.door
    return await door.tenant(request).get(request.path_params["run"])


def _last_event_id(request: Request) -> int:
    """What a browser's own reader sends when it comes back to a stream."""
    text = request.headers.get("last-event-id", "0")
    if text.isascii() and text.isdecimal() and len(text) < 16 and int(text) <= MOST_OFFSET:
        return int(text)
    raise ApiError(
        status=400,
        message=f"the header Last-Event-ID must be an event's offset, not {text!r:.50}",
        param="Last-Event-ID",
        code="invalid_value",
    )


async def _asked(run: Run, key: str, again: str | None = None) -> list[Question]:
    """Return the questions that a key means; that which was answered, for an answer sent again."""
    if again is not None and (first := await run.answered(again)) is not None:
        return [first.question]
    return [item for item in await run.questions() if key in (item.key, item.path)]


async def _run_data(run: Run, is_mine: IsFor) -> dict[str, Json]:
    status = await run.status()
    origin, ending = await run.origin(), await run.ending()
    questions = await run.questions() if status in OPEN else []
    return {
        "id": run.id,
        "object": "run",
        "workflow": run.workflow,
        "version": run.version,
        "status": status,
        "thread": run.thread,
        "created_at": int(run.created_at),
        "input": origin.input,
        "parent": origin.parent,
        **_end_data(status, ending),
        "parked": _parked_data(ending),
        "unloaded": await _unloaded(run, status),
        "questions": [question_data(item, is_mine) for item in questions],
    }


def _end_data(status: RunStatus, ending: Ending) -> dict[str, Json]:
    """What is known once a run has ended: its output or its error, and what it used."""
    facts: dict[str, Json] = {"usage": None if status in OPEN else in_currency(ending.usage or {})}
    if status == "completed":
        facts["output"] = ending.output
    if status == "failed" and (error := ending.error) is not None:
        facts["error"] = {"type": error.type, "message": error.message, "path": error.path}
    return facts


def _parked_data(ending: Ending) -> Json:
    """Why a run waits for somebody to choose a way on; None if it does not."""
    if (parked := ending.parked) is None:
        return None
    return {"reason": parked.reason, "detail": parked.detail, "path": parked.path}


async def _unloaded(run: Run, status: RunStatus) -> str | None:
    """What is to be done where an open run waits for code that nobody has loaded."""
    if status not in OPEN or await run.is_loaded():
        return None
    return unloaded_text(run.id, run.workflow, run.version)


async def _shown(request: Request, run: Run) -> Response:
    door: Door = request.app.state.door
    return _json(await _run_data(run, door.tenant(request).may_answer))


def _page(data: list[dict[str, Json]], *, has_more: bool) -> dict[str, Json]:
    return {"object": "list", "data": data, "has_more": has_more}


def _json(body: Json) -> Response:
    return Response(json_text(body), media_type="application/json")


def _invalid(param: str, code: str, error: AskError | InputInvalid) -> ApiError:
    return ApiError(status=400, message=str(error), param=param, code=code)
