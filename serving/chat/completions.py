"""`POST /v1/chat/completions`: a chat is a run.

The run is durable before the first byte of the answer. A client that goes away takes only its
stream with it: the run goes on, and `X-Run-Id` names it.
"""

import time
import uuid
from collections.abc import AsyncIterator
from dataclasses import replace

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from crew.budget import Budget
from crew.fold import Questions
from crew.graph import Workflow
from crew.message import Json
from crew.run import Run
from serving.access.door import Door
from serving.chat.answer import Answer, completion_body, known_frames
from serving.chat.asks import Answered, answer_open_question
from serving.chat.body import ChatBody
from serving.chat.form import wants_json
from serving.chat.frames import Frames
from serving.chat.models import find
from serving.chat.question import takes, workflow_input
from serving.chat.side_requests import side_answer
from serving.chat.stuck import refuse_stuck_thread
from serving.chat.tail import Outcome
from serving.conversations.naming import thread_name
from serving.http.body import read_body
from serving.http.errors import ApiError

__all__ = ["create_completion"]

MOST_TOKENS = 10**12
"""Of a budget."""
_POLICIES = ("queue", "reject", "cancel")


async def create_completion(request: Request) -> Response:
    """Start a run for the last user message; answer with its text, or with its tail."""
    door: Door = request.app.state.door
    body = await read_body(request.stream(), ChatBody, max_bytes=door.max_body_bytes)
    workflow = find(door, body.model)
    as_json = wants_json(workflow, body.response_format, "response_format")
    if (answer := side_answer(body.question)) is not None:
        return _without_run(body, answer)
    thread = _thread(request, body)
    reply = await _reply(request, door, workflow, body, thread)
    reply = replace(reply, as_json=as_json)
    request.scope["run"] = reply.run.id  # for the guard, where the answer takes too long
    headers = {"X-Run-Id": reply.run.id} | ({"X-Thread-Id": thread} if thread else {})
    if not body.stream:
        return JSONResponse(await reply.whole(), headers=headers)
    options = body.stream_options
    frames = reply.frames(
        heartbeat=door.heartbeat,
        usage=options is not None and options.include_usage,
        events=options is not None and options.include_events,
    )
    return _event_stream(frames, headers)


async def _reply(
    request: Request, door: Door, workflow: Workflow, body: ChatBody, thread: str | None
) -> Answer:
    facts: dict[str, Json] = {"thread_id": thread} | _about_history(workflow, body, thread)
    answered, caller = None, door.tenant(request)
    if thread is not None:
        key = request.headers.get("idempotency-key")
        answered = await answer_open_question(caller, thread, body.question, key=key)
    run = answered.run if answered else await _start(request, door, workflow, body, thread)
    return Answer(
        run=run,
        model=body.model,
        created=int(time.time()),
        facts={"run_id": run.id} | facts,
        closing=door.closing,
        is_mine=caller.is_asked,
        after=answered.offset if answered else 0,
        outcome=await _known(answered) if answered else Outcome(),
    )


async def _known(answered: Answered) -> Outcome:
    """What is known of a run that goes on with an answer: the questions that are still open."""
    asked = Questions({item.path: item for item in await answered.run.questions()})
    pending = answered.path if answered.path in asked.open else ""
    return Outcome(questions=asked, pending=pending)


async def _start(
    request: Request, door: Door, workflow: Workflow, body: ChatBody, thread: str | None
) -> Run:
    when_busy = (body.metadata or {}).get("when_busy", "queue")
    if when_busy not in _POLICIES:
        raise ApiError(
            status=400,
            message=f"metadata.when_busy is {when_busy!r}; it must be one of {_POLICIES}",
            param="metadata.when_busy",
        )
    # With a thread the journal knows what was said before; the client's copy is not appended.
    history = [] if thread else body.history
    defaults = {**door.input_defaults, **body.handed_down}
    value = workflow_input(workflow, body.asked.said, history, defaults)
    key, caller = request.headers.get("idempotency-key"), door.tenant(request)
    if thread is not None and when_busy != "cancel":
        await refuse_stuck_thread(caller, thread, key)
    budget = _budget((body.metadata or {}).get("budget_tokens"))
    return await caller.start(
        workflow,
        value,
        thread=thread,
        key=key,
        budget=budget,
        when_busy=when_busy,
        metadata=_kept(body),
    )


def _kept(body: ChatBody) -> dict[str, Json] | None:
    """What a caller said about the run, which is a response, too."""
    about = {"metadata": body.metadata or None, "user": body.user}
    kept = {name: value for name, value in about.items() if value is not None}
    return {"response": kept} if kept else None


def _budget(given: object) -> Budget | None:
    """Read a number of tokens; the API's metadata are strings."""
    if given is None:
        return None
    try:
        tokens = int(given) if isinstance(given, str) and given.isdecimal() else given
    except ValueError:
        tokens = 0  # more digits than Python reads
    if isinstance(tokens, int) and not isinstance(tokens, bool) and 0 < tokens <= MOST_TOKENS:
        return Budget(tokens=tokens)
    raise ApiError(
        status=400,
        message=f"metadata.budget_tokens must be a whole number, 1 to {MOST_TOKENS}",
        param="metadata.budget_tokens",
        code="invalid_value",
    )


def _thread(request: Request, body: ChatBody) -> str | None:
    """The conversation's name, from the most explicit place to the least; None is stateless."""
    conversation = body.conversation
    named = conversation if isinstance(conversation, str | None) else conversation.id
    places = (
        ("metadata.thread_id", (body.metadata or {}).get("thread_id")),
        ("conversation", named),
        ("X-Thread-Id", request.headers.get("x-thread-id")),
        ("X-OpenWebUI-Chat-Id", request.headers.get("x-openwebui-chat-id")),
    )
    for place, value in places:
        if value is not None:
            return thread_name(place, value)
    return None


def _about_history(workflow: Workflow, body: ChatBody, thread: str | None) -> dict[str, Json]:
    """Say it when earlier messages were not used."""
    if thread or not body.history or takes(workflow, "history"):
        return {}
    how = "name a thread (metadata.thread_id, X-Thread-Id) to be remembered"
    return {"note": f"only the last message was read; {how}"}


def _without_run(body: ChatBody, text: str) -> Response:
    """Answer a front end's own request."""
    facts = {"id": f"chatcmpl-{uuid.uuid4().hex}", "model": body.model, "created": int(time.time())}
    if body.stream:
        return _event_stream(known_frames(Frames(**facts), text), {})
    return JSONResponse(completion_body(**facts, text=text, usage={}, extra={"run_id": None}))


def _event_stream(frames: AsyncIterator[bytes], headers: dict[str, str]) -> StreamingResponse:
    # Proxies in front (nginx) would else collect the stream before they pass it on.
    unbuffered = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
    return StreamingResponse(frames, media_type="text/event-stream", headers=headers | unbuffered)
