"""Where a response belongs: the conversation it is a turn of, and what comes before it there."""

import time
from dataclasses import dataclass

from starlette.requests import Request

from crew.errors import RunNotFound
from crew.journal import WhenBusy
from crew.run import Run, Tenant
from serving.conversations.headers import thread_in_headers
from serving.conversations.items import turns_of
from serving.conversations.naming import keyed_conversation, new_conversation, thread_name
from serving.http.errors import ApiError
from serving.responses.body import ResponseBody
from serving.responses.naming import response_id, run_of_response

__all__ = ["Turn", "find_turn"]


@dataclass(frozen=True, slots=True)
class Turn:
    """A turn to be: `is_first` says that nothing was said on its thread before."""

    thread: str
    is_first: bool
    when_busy: WhenBusy = "queue"


async def find_turn(request: Request, tenant: Tenant, body: ResponseBody) -> Turn:
    """Return the turn that a request asks for.

    Without a conversation it is the first turn of a new one, so that it can be gone on with.

    Raises:
        ApiError: 400, both a conversation and a previous response are named, or a name is none;
            404, there is no such response; 409, the previous response is not the last of its
            conversation.
    """
    if body.previous_response_id is not None:
        if body.conversation is not None:
            raise ApiError(
                status=400,
                message="give either conversation or previous_response_id; a response knows its "
                "conversation",
                param="previous_response_id",
                code="mutually_exclusive_parameters",
            )
        return await _after(request, tenant, body.previous_response_id)
    if (named := _named(request, body)) is None:
        return Turn(_begun(request, tenant, body), is_first=True)
    is_first = not await tenant.runs(thread=named, limit=1)
    return Turn(named, is_first, _when_busy(body))


def _begun(request: Request, tenant: Tenant, body: ResponseBody) -> str:
    if (key := request.headers.get("idempotency-key")) is not None:
        return keyed_conversation(tenant.tenant, body.model, key)
    return new_conversation(tenant.tenant, time.time())


def _named(request: Request, body: ResponseBody) -> str | None:
    if (named := body.conversation_id) is not None:
        return thread_name("conversation", named)
    return thread_in_headers(request).name


async def _after(request: Request, tenant: Tenant, previous: str) -> Turn:
    run_id, _ = run_of_response(previous, param="previous_response_id")
    try:
        run = await tenant.get(run_id)
    except RunNotFound as error:
        raise ApiError(
            status=404,
            message=f"there is no response {previous!r}",
            param="previous_response_id",
            code="previous_response_not_found",
        ) from error
    if run.thread is None or run.turn is None:
        raise _not_last(previous, "it is no turn of a conversation; give its text as input")
    later = [turn for turn in await turns_of(tenant, run.thread) if (turn.turn or 0) > run.turn]
    is_again = await _is_again(request, tenant, run.thread, later)
    if later and not is_again and await run.status() != "waiting":
        way = f"its conversation has gone on; go on from {response_id(later[-1].id)}"
        raise _not_last(previous, f"{way}, or try another way with: crew fork {run_id}")
    # What comes at the same moment would be a branch, too.
    return Turn(run.thread, is_first=False, when_busy="reject")


async def _is_again(request: Request, tenant: Tenant, thread: str, later: list[Run]) -> bool:
    """Return whether the request that made the next turn, or gave an answer, is repeated."""
    key = request.headers.get("idempotency-key")
    if key is None or not later:
        return False
    return later[0].key == key or await tenant.answered(key, thread=thread) is not None


def _not_last(previous: str, way: str) -> ApiError:
    return ApiError(
        status=409,
        message=f"the response {previous!r} cannot be continued: {way}",
        type="conflict_error",
        param="previous_response_id",
        code="previous_response_not_last",
    )


def _when_busy(body: ResponseBody) -> WhenBusy:
    match (body.metadata or {}).get("when_busy", "queue"):
        case "queue" | "reject" | "cancel" as policy:
            return policy
        case other:
            raise ApiError(
                status=400,
                message=f"metadata.when_busy is {other!r}; it must be queue, reject or cancel",
                param="metadata.when_busy",
                code="invalid_value",
            )
