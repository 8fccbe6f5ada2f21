"""Conversations in the OpenAI API's shapes: threads, and the messages of their runs."""

from serving.conversations.body import ConversationBody, ItemsBody, UpdateBody
from serving.conversations.messages import add_items, delete_item, list_items, retrieve_item
from serving.conversations.paging import PageQuery
from serving.conversations.threads import (
    create_conversation,
    delete_conversation,
    retrieve_conversation,
    update_conversation,
)
from serving.http.operation import Operation

__all__ = ["OPERATIONS"]

_ONE = "/v1/conversations/{conversation:path}"

# The longer paths come first: a thread's name may hold slashes.
OPERATIONS = [
    Operation(
        method="POST",
        path="/v1/conversations",
        summary="Name a new conversation, with metadata and what was said before if given.",
        handle=create_conversation,
        body=ConversationBody,
    ),
    Operation(
        method="GET",
        path=f"{_ONE}/items/{{item}}",
        summary="One message of a conversation.",
        handle=retrieve_item,
        errors=[404, 409],
    ),
    Operation(
        method="DELETE",
        path=f"{_ONE}/items/{{item}}",
        summary="Refused: what was said stays, until the conversation is erased.",
        handle=delete_item,
        errors=[404],
    ),
    Operation(
        method="GET",
        path=f"{_ONE}/items",
        summary="The messages of a conversation.",
        handle=list_items,
        query=PageQuery,
        errors=[400, 404, 409],
    ),
    Operation(
        method="POST",
        path=f"{_ONE}/items",
        summary="Refused: items come with runs alone.",
        handle=add_items,
        body=ItemsBody,
        errors=[404],
    ),
    Operation(
        method="GET",
        path=_ONE,
        summary="A conversation.",
        handle=retrieve_conversation,
        errors=[404],
    ),
    Operation(
        method="POST",
        path=_ONE,
        summary="Keep other metadata with a conversation.",
        handle=update_conversation,
        body=UpdateBody,
        errors=[404],
    ),
    Operation(
        method="DELETE",
        path=_ONE,
        summary="Erase a conversation for good.",
        handle=delete_conversation,
        errors=[404, 409],
    ),
]
