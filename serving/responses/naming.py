"""Ids of responses: `resp_<run>`, and `resp_<run>_<offset>` for what came behind an answer."""

import re

from serving.http.errors import ApiError

__all__ = ["response_id", "run_of_response"]

_ID = re.compile(r"resp_([^_]+)(?:_([1-9][0-9]{0,8}))?")


def response_id(run: str, after: int = 0) -> str:
    """Return the id of a run's response, or of the one told from behind offset `after`."""
    return f"resp_{run}_{after}" if after else f"resp_{run}"


def run_of_response(id: str, *, param: str | None = None) -> tuple[str, int]:  # noqa: A002
    """Return the run that a response is, and the offset behind which it is told.

    Raises:
        ApiError: 404, it is no response's id; `param` is where it was given.
    """
    found = _ID.fullmatch(id)
    if found is None:
        raise ApiError(
            status=404,
            message=f"there is no response {id!r}; the id of a response is resp_<run id>",
            param=param,
            code="response_not_found",
        )
    return found[1], int(found[2] or 0)
