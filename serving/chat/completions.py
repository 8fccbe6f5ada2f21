"""`POST /v1/chat/completions`: a chat is a run.

The run is durable before the first byte of the answer. A client that goes away takes only its
stream with it, unless it asked for the run to be cancelled: else that goes on, and `X-Run-Id` names
it.
"""

import time
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from crew.errors import ThreadBusy
from crew.fold import Questions
from crew.graph import Workflow
from crew.message import Json, message_with
from crew.run import Run
from serving.access.door import Door
from serving.chat.answer import Answer, completion_body, known_frames
from serving.chat.asks import Answered, answer_open_question
from serving.chat.body import ChatBody
from serving.chat.form import wants_json
from serving.chat.frames import Frames
from serving.chat.models import find
from serving.chat.notes import unread
from serving.chat.options import budget_of, cancels_when_left, shows_progress, when_busy_of
from serving.chat.question import takes, workflow_input
from serving.chat.side_requests import side_answer
from serving.chat.stuck import refuse_stuck_thread
from serving.chat.tail import Outcome
from serving.conversations.branching import Place, branch_of
from serving.conversations.headers import HeaderThread, thread_in_headers
from serving.conversations.naming import thread_name
from serving.http.body import read_body
from serving.http.errors import ApiError
from serving.http.notes import NOTE, header_text
from serving.http.stream import EventStream

__all__ = ["create_completion"]

MOST_MESSAGES = 1_000
"""Of a chat that stands alone; what was said in a conversation is known here."""


@dataclass(frozen=True, kw_only=True)
class _Chat:
    """One request: what it says, of which workflow, and in which conversation.

    Args:
        request: as it came.
        body: what it says.
        workflow: that is called.
        named: the conversation that it names; None: it stands alone.
        resends: whether its client sends the whole conversation with each request.
        placeholder: a header that names no conversation, and what it holds.
        is_shown: whether the stream shows what the run does before it answers.
        cancels: whether the run is cancelled when its caller goes away.
    """

    request: Request
    body: ChatBody
    workflow: Workflow
    named: str | None
    resends: bool
    placeholder: tuple[str, str] | None
    is_shown: bool
    cancels: bool

    @property
    def key(self) -> str | None:
        return self.request.headers.get("idempotency-key")

    @property
    def notes(self) -> list[str]:
        return unread(self.workflow, self.body, thread=self.named, placeholder=self.placeholder)


async def create_completion(request: Request) -> Response:
    """Start a run for the last user message; answer with its text, or with its tail."""
    door: Door = request.app.state.door
    body = await read_body(request.stream(), ChatBody, max_bytes=door.max_body_bytes)
    workflow = find(door, body.model)
    as_json = wants_json(workflow, body.response_format, "response_format")
    answer = side_answer(body.question, told=body.instructed, limit=body.token_limit)
    if answer is not None and not body.history:
        return _without_run(body, answer)
    chat = _read(door, request, body, workflow)
    reply = replace(await _reply(door, chat), as_json=as_json, progress=chat.is_shown)
    request.scope["run"] = reply.run.id  # for the guard, where the answer takes too long
    leave = None
    if chat.cancels:
        leave = request.scope["leave"] = door.cancelling(reply.run)
    return await _answered(door, chat, reply, leave)


async def _answered(
    door: Door, chat: _Chat, reply: Answer, leave: Callable[[], Awaitable[None]] | None
) -> Response:
    thread, notes = reply.facts["thread_id"], chat.notes
    door.noted.log(chat.workflow.name, notes)
    headers = {"X-Run-Id": reply.run.id} | ({"X-Thread-Id": thread} if thread else {})
    headers |= {NOTE: header_text(notes)} if notes else {}
    if not chat.body.stream:
        return JSONResponse(await reply.whole(), headers=headers)
    options = chat.body.stream_options
    frames = reply.frames(
        heartbeat=door.heartbeat,
        usage=options is not None and options.include_usage,
        events=options is not None and options.include_events,
    )
    return EventStream(frames, headers, leave=leave)


def _read(door: Door, request: Request, body: ChatBody, workflow: Workflow) -> _Chat:
    """Find the conversation's name, from the most explicit place to the least.

    Raises:
        ApiError: 400, it is none; or there are too many messages without one.
    """
    conversation = body.conversation
    given = conversation if isinstance(conversation, str | None) else conversation.id
    places = (
        ("metadata.thread_id", (body.metadata or {}).get("thread_id")),
        ("conversation", given),
    )
    named = next((thread_name(place, name) for place, name in places if name is not None), None)
    header = HeaderThread(named) if named is not None else thread_in_headers(request)
    if header.name is None and len(body.messages) > MOST_MESSAGES:
        raise ApiError(
            status=400,
            message=f"messages: at most {MOST_MESSAGES}, unless a conversation is named "
            "(metadata.thread_id, X-Thread-Id)",
            param="messages",
            code="invalid_value",
        )
    return _Chat(
        request=request,
        body=body,
        workflow=workflow,
        named=header.name,
        resends=header.resends,
        placeholder=header.refused,
        is_shown=shows_progress(request, body.metadata, body.own) and door.progress,
        cancels=cancels_when_left(request, body.metadata, body.own),
    )


async def _reply(door: Door, chat: _Chat) -> Answer:
    if chat.named is None:
        run, answered, thread = await _start(door, chat, None), None, None
    else:
        run, answered, thread = await _turn(door, chat, chat.named)
    facts: dict[str, Json] = {"run_id": run.id, "thread_id": thread}
    if notes := chat.notes:
        facts["note"] = "; ".join(notes)
    return Answer(
        run=run,
        model=chat.body.model,
        created=int(time.time()),
        facts=facts,
        closing=door.closing,
        is_mine=door.tenant(chat.request).is_asked,
        after=answered.offset if answered else 0,
        outcome=await _known(answered) if answered else Outcome(),
    )


async def _turn(door: Door, chat: _Chat, named: str) -> tuple[Run, Answered | None, str]:
    """Begin a turn of a conversation, or answer what is asked there."""
    tenant, tries = door.tenant(chat.request), 0
    while True:
        place = await _place(door, chat, named)
        said = chat.body.question
        answered = await answer_open_question(tenant, place.thread, said, key=chat.key)
        if answered is not None:
            return answered.run, answered, place.thread
        try:
            return await _start(door, chat, place), None, place.thread
        except ThreadBusy:
            # Another turn that its client has not seen was begun at the same moment.
            tries += 1
            if place.behind is None or when_busy_of(chat.body.metadata) == "reject" or tries > 9:
                raise


async def _place(door: Door, chat: _Chat, named: str) -> Place:
    """Return the place in a conversation, or a branch of it, that the client's copy ends at."""
    copy = [
        message_with("user" if item.role == "user" else "assistant", item.said)
        for item in chat.body.history
    ]
    if not copy and not chat.resends:
        return Place(named)
    return await branch_of(door.tenant(chat.request), named, copy, key=chat.key)


async def _known(answered: Answered) -> Outcome:
    """What is known of a run that goes on with an answer: the questions that are still open."""
    asked = Questions({item.path: item for item in await answered.run.questions()})
    pending = answered.path if answered.path in asked.open else ""
    return Outcome(questions=asked, pending=pending)


async def _start(door: Door, chat: _Chat, place: Place | None) -> Run:
    body, workflow = chat.body, chat.workflow
    when_busy, budget = when_busy_of(body.metadata), budget_of(body.metadata)
    # With a thread the journal knows what was said before; the client's copy is not appended.
    history = [] if place else body.history
    defaults = {**door.input_defaults, **body.handed_down}
    if body.instructed and takes(workflow, "instructions"):
        defaults["instructions"] = body.instructed
    value = workflow_input(workflow, body.asked.said, history, defaults)
    caller = door.tenant(chat.request)
    if place is not None and when_busy != "cancel":
        await refuse_stuck_thread(caller, place.thread, chat.key)
    return await caller.start(
        workflow,
        value,
        thread=place.thread if place else None,
        behind=place.behind if place else None,
        key=chat.key,
        budget=budget,
        when_busy=when_busy,
        metadata=_kept(chat),
    )


def _kept(chat: _Chat) -> dict[str, Json] | None:
    """What a caller said about the run, which is a response, too."""
    body = chat.body
    about: dict[str, Json] = {"metadata": body.metadata or None, "user": body.user}
    about["progress"] = None if chat.is_shown else False
    kept = {name: value for name, value in about.items() if value is not None}
    return {"response": kept} if kept else None


def _without_run(body: ChatBody, text: str) -> Response:
    """Answer a front end's own request."""
    facts = {"id": f"chatcmpl-{uuid.uuid4().hex}", "model": body.model, "created": int(time.time())}
    if body.stream:
        return EventStream(known_frames(Frames(**facts), text))
    return JSONResponse(completion_body(**facts, text=text, usage={}, extra={"run_id": None}))
