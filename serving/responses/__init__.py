"""Responses in the OpenAI API's shapes: runs, told from their journals."""

from serving.conversations.paging import PageQuery
from serving.http.operation import Operation
from serving.responses.body import ResponseBody, RetrieveQuery
from serving.responses.create import create_response
from serving.responses.stored import (
    cancel_response,
    delete_response,
    list_input_items,
    retrieve_response,
)

__all__ = ["OPERATIONS"]

_ONE = "/v1/responses/{response}"

OPERATIONS = [
    Operation(
        method="POST",
        path="/v1/responses",
        summary="Start a run for the last user message; answer at its end, now, or as a stream.",
        handle=create_response,
        body=ResponseBody,
        streams=True,
        errors=[404, 409],
    ),
    Operation(
        method="GET",
        path=_ONE,
        summary="A response as it stands, or its stream behind any of its events.",
        handle=retrieve_response,
        query=RetrieveQuery,
        streams=True,
        errors=[400, 404],
    ),
    Operation(
        method="DELETE",
        path=_ONE,
        summary="Erase a response that is the only turn of its conversation.",
        handle=delete_response,
        errors=[404, 409],
    ),
    Operation(
        method="POST",
        path=f"{_ONE}/cancel",
        summary="Cancel the run.",
        handle=cancel_response,
        errors=[404],
    ),
    Operation(
        method="GET",
        path=f"{_ONE}/input_items",
        summary="What the run was given.",
        handle=list_input_items,
        query=PageQuery,
        errors=[400, 404],
    ),
]
