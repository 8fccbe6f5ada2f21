"""What a message says: its text, of whatever parts it is put together."""

from typing import Annotated

from pydantic import BeforeValidator, Field

__all__ = ["Text"]

MOST_CHARACTERS = 1_000_000
"""Of one message."""


def _as_text(content: object) -> str:
    """Join the text parts of a message; a workflow's question is text."""
    if content is None or isinstance(content, str):
        return content or ""
    if not isinstance(content, list):
        raise ValueError(f"must be a string or a list of text parts, not {content!r:.50}")
    return "\n".join(_part_text(part) for part in content)


def _part_text(part: object) -> str:
    if isinstance(part, dict) and isinstance(part.get("text"), str):
        return part["text"]
    kind = part.get("type") if isinstance(part, dict) else part
    raise ValueError(f"only text parts are understood, not {kind!r:.50}")


Text = Annotated[str, BeforeValidator(_as_text), Field(max_length=MOST_CHARACTERS)]
"""A string, or a list of parts with text, which are joined."""
