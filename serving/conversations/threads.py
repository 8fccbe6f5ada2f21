"""`/v1/conversations`: a conversation is a thread, and what was said on it is in its runs."""

import time
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from crew.message import Json
from serving.access.door import Door
from serving.conversations.erasing import erase_thread
from serving.conversations.items import turns_of
from serving.conversations.naming import made_at, new_conversation
from serving.http.body import read_body
from serving.http.errors import ApiError

__all__ = [
    "ConversationBody",
    "create_conversation",
    "delete_conversation",
    "named",
    "retrieve_conversation",
    "update_conversation",
]


def _none_kept(metadata: dict[str, Any] | None) -> None:
    if metadata:
        raise ValueError(
            "a conversation is what its runs said, and holds nothing else; give metadata to each "
            "response"
        )


def _nothing_said(items: list[Any] | None) -> None:
    if items:
        raise ValueError(
            "a conversation begins empty; send these items as `input` of its first response"
        )


class ConversationBody(BaseModel):
    """What is read of a request: a conversation has no metadata, and no items but its runs'."""

    model_config = ConfigDict(frozen=True, strict=True)
    items: Annotated[list[Any] | None, AfterValidator(_nothing_said)] = None
    metadata: Annotated[dict[str, Any] | None, AfterValidator(_none_kept)] = None


async def create_conversation(request: Request) -> Response:
    """Name a new conversation; it is empty, so that nothing has to be stored."""
    door: Door = request.app.state.door
    await read_body(request.stream(), ConversationBody, max_bytes=door.max_body_bytes)
    now = time.time()
    return JSONResponse(_shape(new_conversation(door.tenant(request).tenant, now), int(now)))


async def retrieve_conversation(request: Request) -> Response:
    """Return a conversation, one that any door began, too."""
    return JSONResponse(_shape(*await named(request)))


async def update_conversation(request: Request) -> Response:
    """Refuse metadata: there is no place for it."""
    door: Door = request.app.state.door
    await read_body(request.stream(), ConversationBody, max_bytes=door.max_body_bytes)
    return JSONResponse(_shape(*await named(request)))


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


def _shape(name: str, made: int) -> dict[str, Json]:
    return {"id": name, "object": "conversation", "created_at": made, "metadata": {}}
