"""Instructions of an agent: a text, or a function of the context that writes it for each call."""

import inspect
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

from crew.errors import GraphError

__all__ = ["Instructions", "as_instructions", "require_instructions"]

Instructions: TypeAlias = str | Callable[[Any], str | Awaitable[str]]

_FORM = "write def instructions(ctx: Context) -> str, or async def"


def as_instructions(agent: str, written: object) -> str:
    """Return what a function wrote.

    Raises:
        GraphError: it is no text.
    """
    if not isinstance(written, str):
        raise GraphError(
            message=f"agent {agent!r}: its instructions= gave {written!r:.200}, not a text; {_FORM}"
        )
    return written


def require_instructions(agent: str, instructions: object) -> None:
    """Refuse instructions that are neither a text nor a function of one context.

    Raises:
        GraphError: they are something else.
    """
    if isinstance(instructions, str):
        return
    if not callable(instructions) or inspect.isclass(instructions):
        raise GraphError(
            message=f"agent {agent!r}: instructions= is a text, or a function of the context, not "
            f"{instructions!r:.200}"
        )
    signature = inspect.signature(instructions)
    try:
        signature.bind(None)
    except TypeError as error:
        raise GraphError(
            message=f"agent {agent!r}: instructions= is a function of the context alone, and "
            f"{instructions!r:.200} cannot be called with that: {error}; {_FORM}"
        ) from error
    if signature.return_annotation not in (inspect.Signature.empty, str, "str", Any):
        raise GraphError(
            message=f"agent {agent!r}: instructions= returns a text, and {instructions!r:.200} "
            f"returns {signature.return_annotation!r}; {_FORM}"
        )
