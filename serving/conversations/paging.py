"""Lists of the API: an order, a limit, and the item behind which a page begins."""

from collections.abc import Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from crew.message import Json
from serving.http.errors import ApiError

__all__ = ["PageQuery", "page"]


class PageQuery(BaseModel):
    """Which part of a list; the newest come first unless `order` is `asc`."""

    model_config = ConfigDict(frozen=True)
    limit: int = Field(default=20, ge=1, le=100)
    order: Literal["asc", "desc"] = "desc"
    after: str | None = None


def page(items: Sequence[dict[str, Json]], query: PageQuery) -> dict[str, Json]:
    """Return one page of items that are given the oldest first.

    Raises:
        ApiError: 400, `after` is not one of them.
    """
    ordered = list(items) if query.order == "asc" else list(reversed(items))
    ids = [item["id"] for item in ordered]
    if query.after is not None and query.after not in ids:
        message = f"after is {query.after!r}, which is no item of this list"
        raise ApiError(status=400, message=message, param="after", code="invalid_value")
    first = 0 if query.after is None else ids.index(query.after) + 1
    found = ordered[first : first + query.limit]
    return {
        "object": "list",
        "data": found,
        "first_id": found[0]["id"] if found else "",
        "last_id": found[-1]["id"] if found else "",
        "has_more": first + query.limit < len(ordered),
    }
