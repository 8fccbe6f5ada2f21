"""The request body of a chat completion, checked."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from serving.errors import ApiError

__all__ = ["ChatBody", "ChatMessage", "Conversation", "NoTools", "TextAlone", "asked_place"]

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


def _no_tools(tools: list[Any] | None) -> None:
    if tools:
        raise ValueError("a workflow calls its own tools and cannot call yours; leave them out")


def _text_alone(wanted: dict[str, Any] | None) -> None:
    if wanted and wanted.get("type") != "text":
        raise ValueError("a workflow's own output type decides the answer's form; leave it out")


NoTools = Annotated[list[Any] | None, AfterValidator(_no_tools)]
TextAlone = Annotated[dict[str, Any] | None, AfterValidator(_text_alone)]


class ChatMessage(BaseModel):
    """One message; its content's text parts are joined."""

    model_config = ConfigDict(frozen=True)
    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: Annotated[str, BeforeValidator(_as_text), Field(max_length=MOST_CHARACTERS)] = ""


class StreamOptions(BaseModel):
    """What a stream carries besides text; `include_events` is our own: every event of the run."""

    model_config = ConfigDict(frozen=True, strict=True)
    include_usage: bool = False
    include_events: bool = False


class Conversation(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True)
    id: str


class ChatBody(BaseModel):
    """What is read of a request.

    Settings of sampling (`temperature`, `max_tokens`, …) are the workflow's own business and
    ignored; what would change the meaning of the answer and is not there is refused.
    """

    model_config = ConfigDict(frozen=True, strict=True)
    model: str
    messages: list[ChatMessage] = Field(min_length=1, max_length=1_000)
    stream: bool = False
    stream_options: StreamOptions | None = None
    metadata: dict[str, Any] | None = None
    conversation: str | Conversation | None = None
    n: Literal[1] | None = None
    tools: NoTools = None
    response_format: TextAlone = None

    @property
    def question(self) -> str:
        """The text of the last user message.

        Raises:
            ApiError: there is none with text.
        """
        return self.messages[asked_place(self.messages, "messages")].content

    @property
    def history(self) -> list[ChatMessage]:
        """What user and assistant said before the question."""
        before = self.messages[: asked_place(self.messages, "messages")]
        return [message for message in before if message.role in ("user", "assistant")]


def asked_place(messages: Sequence[ChatMessage], param: str) -> int:
    """Return the place of the last user message with text.

    Raises:
        ApiError: there is none in `param`.
    """
    for place, message in reversed(list(enumerate(messages))):
        if message.role == "user" and message.content.strip():
            return place
    raise ApiError(status=400, message=f"{param} must hold a user message with text", param=param)
