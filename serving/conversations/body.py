"""The request bodies of conversations, checked."""

from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    field_validator,
)

from crew.message import Message, message_with
from serving.http.content import Saying
from serving.http.fields import Body

__all__ = ["ConversationBody", "ItemsBody", "Metadata", "UpdateBody"]

MOST_PAIRS = 16
MOST_ITEMS = 20
"""Of what is said before a conversation's first turn."""


def _without_nulls(metadata: object) -> object:
    if not isinstance(metadata, dict):
        return metadata
    return {name: value for name, value in metadata.items() if value is not None}


def _few(metadata: dict[str, str] | None) -> dict[str, str] | None:
    if metadata and len(metadata) > MOST_PAIRS:
        raise ValueError(f"must hold {MOST_PAIRS} pairs at most")
    return metadata


Key = Annotated[str, StringConstraints(max_length=64)]
Value = Annotated[str, StringConstraints(max_length=512)]
Metadata = Annotated[dict[Key, Value] | None, BeforeValidator(_without_nulls), AfterValidator(_few)]


def _a_message(kind: object) -> object:
    if kind != "message":
        raise ValueError(f"a conversation begins with messages alone, not {kind!r:.50}")
    return kind


def _a_speaker(role: object) -> object:
    if role in ("system", "developer"):
        raise ValueError(
            "a conversation is what user and assistant said; give instructions with each response"
        )
    return role


class OpeningItem(Saying):
    """A message from before the first turn."""

    model_config = ConfigDict(frozen=True)
    type: Annotated[Literal["message"], BeforeValidator(_a_message)] = "message"
    role: Annotated[Literal["user", "assistant"], BeforeValidator(_a_speaker)]

    @field_validator("content", mode="before")
    @classmethod
    def _says_something(cls, given: object) -> object:
        if not given:
            raise ValueError("must have at least 1 character, image or file")
        return given

    @property
    def message(self) -> Message:
        return message_with(self.role, self.said)


class UpdateBody(Body):
    """What is to be kept with a conversation; without `metadata` it stays as it is."""

    model_config = ConfigDict(frozen=True, strict=True)
    metadata: Metadata = None


class ConversationBody(UpdateBody):
    """How a conversation begins."""

    items: Annotated[list[OpeningItem] | None, Field(max_length=MOST_ITEMS)] = None

    @property
    def opening(self) -> list[Message]:
        return [item.message for item in self.items or []]


class ItemsBody(Body):
    """Items that somebody wants to add."""

    model_config = ConfigDict(frozen=True, strict=True)
    items: list[Any]
