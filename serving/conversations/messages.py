"""`/v1/conversations/{id}/items`: what was said, by the runs that said it."""

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from serving.access.door import Door
from serving.conversations.body import ItemsBody
from serving.conversations.items import conversation_items
from serving.conversations.paging import PageQuery, page
from serving.conversations.threads import named
from serving.http.body import read_body, read_query
from serving.http.errors import ApiError

__all__ = ["add_items", "delete_item", "list_items", "retrieve_item"]


async def list_items(request: Request) -> Response:
    """List the messages of a conversation."""
    door: Door = request.app.state.door
    query = read_query(request, PageQuery)
    name, _ = await named(request)
    return JSONResponse(page(await conversation_items(door.tenant(request), name), query))


async def add_items(request: Request) -> Response:
    """Refuse: what is said in a conversation is said by runs."""
    door: Door = request.app.state.door
    await read_body(request.stream(), ItemsBody, max_bytes=door.max_body_bytes)
    name, _ = await named(request)
    raise ApiError(
        status=400,
        message="once a conversation has begun, items come into it with runs alone; say it with: "
        f'POST /v1/responses {{"conversation": "{name}", "input": …}}',
        param="items",
        code="unsupported_operation",
    )


async def delete_item(request: Request) -> Response:
    """Refuse: what was said in a conversation stays, since later turns stand on it."""
    name, _ = await named(request)
    raise ApiError(
        status=400,
        message="one item cannot be taken out of a conversation, since what came later stands on "
        f"it; erase it whole with: DELETE /v1/conversations/{name}",
        code="unsupported_operation",
    )


async def retrieve_item(request: Request) -> Response:
    """Return one message."""
    door: Door = request.app.state.door
    name, _ = await named(request)
    wanted = request.path_params["item"]
    for item in await conversation_items(door.tenant(request), name):
        if item["id"] == wanted:
            return JSONResponse(item)
    message = f"there is no item {wanted!r} in the conversation {name!r}"
    raise ApiError(status=404, message=message, code="item_not_found")
