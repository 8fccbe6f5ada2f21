"""`POST /v1/responses`: a response is a run.

The run is durable before the first byte of the answer. Where the conversation's run waits for a
person the message is the answer, and the response tells what comes behind it.
"""

import time
import uuid
from collections.abc import AsyncIterator
from dataclasses import replace

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from crew.errors import AskError
from crew.fold import Event
from crew.graph import Workflow
from crew.message import Json
from serving.access.door import Door
from serving.chat.asks import find_question, give_answer
from serving.chat.form import wants_json
from serving.chat.models import find
from serving.chat.question import takes, workflow_input
from serving.chat.side_requests import side_answer
from serving.chat.stuck import refuse_stuck_thread
from serving.http.body import read_body
from serving.http.errors import ApiError
from serving.responses.body import ResponseBody
from serving.responses.fold import ResponseFold
from serving.responses.naming import response_id
from serving.responses.reading import Reading, frame
from serving.responses.turn import Turn, find_turn

__all__ = ["create_response", "event_stream"]


async def create_response(request: Request) -> Response:
    """Start a run for the last user message; answer once it ends, at once, or with its tail."""
    door: Door = request.app.state.door
    body = await read_body(request.stream(), ResponseBody, max_bytes=door.max_body_bytes)
    workflow = find(door, body.model)
    wants_json(workflow, body.format, "text.format")
    if (answer := side_answer(body.question)) is not None:
        return _without_run(workflow, body, answer)
    turn = await find_turn(request, door.tenant(request), body)
    reading = await _answered(request, door, turn, body)
    if reading is None:
        reading = await _started(request, door, workflow, turn, body)
    request.scope["run"] = reading.run.id  # for the guard, where the answer takes too long
    headers = {"X-Run-Id": reading.run.id, "X-Thread-Id": reading.run.thread or ""}
    if body.stream:
        frames = reading.frames(starting_after=-1, heartbeat=door.heartbeat)
        return event_stream(frames, headers)
    made = await (reading.now() if body.background else reading.whole())
    return JSONResponse(made, headers=headers)


def event_stream(frames: AsyncIterator[bytes], headers: dict[str, str]) -> StreamingResponse:
    """Return a stream that proxies in front do not collect before they pass it on."""
    unbuffered = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
    return StreamingResponse(frames, media_type="text/event-stream", headers=headers | unbuffered)


async def _answered(request: Request, door: Door, turn: Turn, body: ResponseBody) -> Reading | None:
    """Answer the open question of the conversation; None if nothing is asked."""
    caller, key = door.tenant(request), request.headers.get("idempotency-key")
    if (asked := await find_question(caller, turn.thread, key=key)) is None:
        return None
    run, question = asked
    try:
        given = await give_answer(caller, run, question, body.question, key=key)
    except AskError as error:
        raise ApiError(
            status=400,
            message=f"{error}; the question is: {question.question}",
            param="input",
            code="not_an_answer",
        ) from error
    return Reading(
        run=run,
        is_mine=caller.is_asked,
        closing=door.closing,
        after=given.offset,
        answered=given.path,
    )


async def _started(
    request: Request, door: Door, workflow: Workflow, turn: Turn, body: ResponseBody
) -> Reading:
    # What the journal knows of a conversation is not appended again.
    history = body.history if turn.is_first else []
    defaults = {**door.input_defaults, **body.handed_down, **_instructions(workflow, body)}
    try:
        value = workflow_input(workflow, body.asked.said, history, defaults)
    except ApiError as error:
        raise replace(error, param=_param(error)) from error
    caller, key = door.tenant(request), request.headers.get("idempotency-key")
    if turn.when_busy != "cancel":
        await refuse_stuck_thread(caller, turn.thread, key)
    run = await caller.start(
        workflow,
        value,
        thread=turn.thread,
        key=key,
        when_busy=turn.when_busy,
        metadata={"response": _kept(workflow, turn, body)},
    )
    return Reading(run=run, is_mine=caller.is_asked, closing=door.closing)


def _instructions(workflow: Workflow, body: ResponseBody) -> dict[str, object]:
    if not body.instructed:
        return {}
    if takes(workflow, "instructions"):
        return {"instructions": body.instructed}
    raise ApiError(
        status=400,
        message=f"the workflow {workflow.name!r} has its own instructions and takes no others; "
        "leave `instructions` and messages of system or developer out, or give its input a field "
        "`instructions`",
        param="instructions",
        code="unsupported_parameter",
    )


def _param(error: ApiError) -> str | None:
    """The place of an error as this route calls it."""
    names = {"messages": "input", "max_tokens": "max_output_tokens"}
    return names.get(error.param or "", error.param)


def _kept(workflow: Workflow, turn: Turn, body: ResponseBody) -> dict[str, Json]:
    """What of a request is told again with the response, from any replica."""
    kept = {
        "background": body.background or None,
        "format": body.format,
        "instructions": body.instructions,
        "metadata": body.metadata or None,
        "previous_response_id": body.previous_response_id,
        "user": body.user,
    }
    if turn.is_first and body.history and not takes(workflow, "history"):
        kept["note"] = "only the last message was read; name a conversation to be remembered"
    return {name: value for name, value in kept.items() if value is not None}


def _without_run(workflow: Workflow, body: ResponseBody, text: str) -> Response:
    """Answer a front end's own request, in the shape of a run that nobody keeps."""
    name, at = uuid.uuid4().hex, time.time()
    fold = ResponseFold(run=name, id=response_id(name), is_mine=lambda to: to is None)
    started = {"workflow": workflow.name, "version": workflow.version}
    made = [
        *fold.take(Event(1, "run.started", "", started, at)),
        *fold.take(Event(2, "run.completed", "", {"output": text, "usage": {}}, at)),
    ]
    if body.stream:
        return event_stream(_frames(made), {})
    return JSONResponse(fold.response())


async def _frames(made: list[dict[str, Json]]) -> AsyncIterator[bytes]:
    for item in made:
        yield frame(item)
