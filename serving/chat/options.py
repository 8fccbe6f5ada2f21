"""What a caller may say of a turn beside OpenAI's own fields, in the body or in headers."""

from collections.abc import Mapping
from typing import Any, TypeVar

from starlette.requests import Request

from crew.budget import Budget
from crew.journal import WhenBusy
from serving.http.errors import ApiError

__all__ = ["budget_of", "cancels_when_left", "shows_progress", "when_busy_of"]

T = TypeVar("T")

MOST_TOKENS = 10**12
"""Of a budget."""

_POLICIES: dict[str, WhenBusy] = {"queue": "queue", "reject": "reject", "cancel": "cancel"}
_SWITCH = {"true": True, "on": True, "1": True, "false": False, "off": False, "0": False}
_LEFT = {"continue": False, "cancel": True}

Body = Mapping[str, Any] | None


def when_busy_of(metadata: Body) -> WhenBusy:
    """Return what to do while an earlier turn runs: `metadata.when_busy`."""
    return _chosen("metadata.when_busy", (metadata or {}).get("when_busy"), _POLICIES, "queue")


def cancels_when_left(request: Request, metadata: Body, crew: Body) -> bool:
    """Return whether the run is cancelled when its caller goes away before the answer is whole."""
    return _option(request, metadata, crew, "on_disconnect", _LEFT, default=False)


def shows_progress(request: Request, metadata: Body, crew: Body) -> bool:
    """Return whether the caller wants to see what the run does before it answers."""
    return _option(request, metadata, crew, "progress", _SWITCH, default=True)


def _option(
    request: Request, metadata: Body, crew: Body, name: str, values: Mapping[str, T], *, default: T
) -> T:
    header = f"X-{name.replace('_', '-').title()}"
    for place, value in (
        (f"crew.{name}", (crew or {}).get(name)),
        (f"metadata.{name}", (metadata or {}).get(name)),
        (header, request.headers.get(header)),
    ):
        if value is not None:
            return _chosen(place, value, values, default)
    return default


def _chosen(place: str, value: object, values: Mapping[str, T], default: T) -> T:
    if value is None:
        return default
    word = str(value).lower()
    if word in values:
        return values[word]
    raise ApiError(
        status=400,
        message=f"{place} is {value!r:.50}; it must be one of {', '.join(values)}",
        param=place,
    )


def budget_of(metadata: Body) -> Budget | None:
    """Read `metadata.budget_tokens`; the API's metadata are strings.

    Raises:
        ApiError: 400, it is no number of tokens.
    """
    given = (metadata or {}).get("budget_tokens")
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
