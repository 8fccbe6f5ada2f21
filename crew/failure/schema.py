"""Pydantic's ValidationError as data: it is made by its own means, of the problems it lists."""

from itertools import product
from typing import Any, Literal

from pydantic import ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError

from crew.failure.trace import safe_text

_MODES: tuple[Literal["python", "json"], ...] = ("python", "json")
SHOWN = 500
"""Characters by which the wording of two errors is compared."""
MOST_PROBLEMS = 32
"""How many of the problems that one error lists are recorded."""


def problems(error: ValidationError) -> list[Any]:
    """Return an error's title, and of each problem its type, message, place, input and context."""
    listed = [
        [item["type"], item["msg"], item["loc"], item["input"], item.get("ctx")]
        for item in error.errors(include_url=False)[:MOST_PROBLEMS]
    ]
    return [error.title, listed]


def validation_error(form: list[Any], message: str) -> ValidationError:
    """Return the error again, worded as it was: of Python or JSON input, its input shown or not."""
    title, listed = form
    lines = [_line(*item) for item in listed]
    made = [
        ValidationError.from_exception_data(title, lines, mode, hide)
        for mode, hide in product(_MODES, (False, True))
    ]
    return next((item for item in made if safe_text(item)[:SHOWN] == message[:SHOWN]), made[0])


def _line(
    kind: str, text: str, place: tuple[Any, ...], given: Any, context: Any
) -> InitErrorDetails:
    """Return a problem as pydantic takes it; a type of the user's own keeps its message."""
    details: InitErrorDetails = {"type": kind, "loc": tuple(place), "input": given}
    if context is not None:
        details["ctx"] = context
    try:
        (again,) = ValidationError.from_exception_data("", [details]).errors(include_url=False)
    except (KeyError, TypeError, ValueError):
        again = None
    if again is None or again["msg"] != text:
        details.pop("ctx", None)
        details["type"] = PydanticCustomError(kind, text, context)  # type: ignore[arg-type]
    return details
