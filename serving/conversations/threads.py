"""`/v1/conversations`: a conversation is a thread, and what was said on it is in its runs."""

import time

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from crew.message import Json
from crew.run import Tenant
from serving.access.door import Door
from serving.conversations.body import ConversationBody, UpdateBody
from serving.conversations.erasing import erase_thread
from serving.conversations.items import turns_of
from serving.conversations.naming import made_at, new_conversation
from serving.http.body import read_body
from serving.http.errors import ApiError

__all__ = [
    "create_conversation",
    "delete_conversation",
    "named",
    "retrieve_conversation",
    "update_conversation",
]


async def create_conversation(request: Request) -> Response:
    """Name a new conversation; an empty one needs no storage."""
    door: Door = request.app.state.door
    body = await read_body(request.stream(), ConversationBody, max_bytes=door.max_body_bytes)
    tenant, now = door.tenant(request), time.time()
    name = new_conversation(tenant.tenant, now)
    if body.metadata or body.items:
        await tenant.open_thread(name, body.opening, metadata=body.metadata)
    return await _shown(tenant, name, int(now))


async def retrieve_conversation(request: Request) -> Response:
    """Return a conversation, one that any door began, too."""
    door: Door = request.app.state.door
    return await _shown(door.tenant(request), *await named(request))


async def update_conversation(request: Request) -> Response:
    """Keep other metadata with a conversation."""
    door: Door = request.app.state.door
    body = await read_body(request.stream(), UpdateBody, max_bytes=door.max_body_bytes)
    tenant, (name, made) = door.tenant(request), await named(request)
    if body.metadata is not None:
        await tenant.describe_thread(name, body.metadata)
    return await _shown(tenant, name, made)


async def delete_conversation(request: Request) -> Response:
    """Erase a conversation for good, with the runs that are its turns."""
    door: Door = request.app.state.door
    name, _ = await named(request)
    await erase_thread(door.tenant(request), name)
    return JSONResponse({"id": name, "object": "conversation.deleted", "deleted": True})


async def named(request: Request) -> tuple[str, int]:
    """Return the conversation that a path names, and when it began, in unix seconds.

    Raises:
        ApiError: 404, nothing was said there, and it was not made for this tenant.
    """
    door: Door = request.app.state.door
    tenant, name = door.tenant(request), str(request.path_params["conversation"])
    made = made_at(tenant.tenant, name)
    if made is None and (turns := await turns_of(tenant, name)):
        made = int(turns[0].created_at)
    if made is None:
        raise ApiError(
            status=404,
            message=f"there is no conversation {name!r}",
            code="conversation_not_found",
        )
    return name, made


async def _shown(tenant: Tenant, name: str, made: int) -> Response:
    facts: dict[str, Json] = {"id": name, "object": "conversation", "created_at": made}
    metadata = await tenant.thread_metadata(name)
    return JSONResponse({**facts, "metadata": dict(metadata)})
