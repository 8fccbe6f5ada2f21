"""The request body of a chat completion, checked."""

import json
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, ConfigDict, Field

from serving.chat.sampling import Sampling
from serving.http.content import Saying
from serving.http.errors import ApiError
from serving.http.fields import Body, TokenLimit

__all__ = ["ChatBody", "ChatMessage", "Conversation", "CrewOptions", "NoTools", "asked_place"]

MOST_METADATA_BYTES = 16 << 10
"""As JSON; they are kept with the run."""


def _no_tools(tools: list[Any] | None) -> None:
    if tools:
        raise ValueError("a workflow calls its own tools and cannot call yours; leave them out")


def _text_alone(modalities: list[str] | None) -> None:
    if modalities and modalities != ["text"]:
        raise ValueError("a workflow answers with text; leave it out")


def _small(metadata: dict[str, Any] | None) -> dict[str, Any] | None:
    if metadata and len(json.dumps(metadata)) > MOST_METADATA_BYTES:
        raise ValueError(f"must be {MOST_METADATA_BYTES} bytes at most")
    return metadata


NoTools = Annotated[list[Any] | None, AfterValidator(_no_tools)]


class ChatMessage(Saying):
    """One message; its content's text parts are joined, and it may have images and files."""

    model_config = ConfigDict(frozen=True)
    role: Literal["system", "developer", "user", "assistant", "tool", "function"]


class StreamOptions(Body):
    """What a stream carries besides text; `include_events` is our own: every event of the run."""

    model_config = ConfigDict(frozen=True, strict=True)
    include_usage: bool = False
    include_events: bool = False


class Conversation(Body):
    model_config = ConfigDict(frozen=True, strict=True)
    id: str


class CrewOptions(Body):
    """Our own fields of a request; see `serving.chat.options`."""

    model_config = ConfigDict(frozen=True, strict=True)
    on_disconnect: Literal["continue", "cancel"] | None = None
    progress: bool | None = None


class ChatBody(Sampling):
    """What is read of a request.

    What would change the meaning of the answer and is not there is refused; of other settings that
    are not known here the answer says that they were not read.
    """

    model: str
    messages: list[ChatMessage] = Field(min_length=1)
    stream: bool = False
    stream_options: StreamOptions | None = None
    metadata: Annotated[dict[str, Any] | None, AfterValidator(_small)] = None
    conversation: str | Conversation | None = None
    n: Literal[1] | None = None
    tools: NoTools = None
    functions: NoTools = None
    logprobs: Literal[False] | None = None
    modalities: Annotated[list[str] | None, AfterValidator(_text_alone)] = None
    response_format: dict[str, Any] | None = None
    max_tokens: TokenLimit = None
    max_completion_tokens: TokenLimit = None
    crew: CrewOptions | None = None

    @property
    def token_limit(self) -> int | None:
        return self.max_completion_tokens or self.max_tokens

    @property
    def asked(self) -> ChatMessage:
        """The last user message.

        Raises:
            ApiError: there is none that says anything.
        """
        return self.messages[asked_place(self.messages, "messages")]

    @property
    def question(self) -> str:
        """The text of the last user message."""
        return self.asked.content

    @property
    def history(self) -> list[ChatMessage]:
        """What user and assistant said before the question."""
        before = self.messages[: asked_place(self.messages, "messages")]
        return [message for message in before if message.role in ("user", "assistant")]

    @property
    def instructed(self) -> str:
        """What system and developer say."""
        said = [item.content for item in self.messages if item.role in ("system", "developer")]
        return "\n\n".join(text for text in said if text)

    @property
    def own(self) -> dict[str, Any]:
        """Our own fields of it."""
        return self.crew.model_dump() if self.crew else {}


def asked_place(messages: Sequence[ChatMessage], param: str) -> int:
    """Return the place of the last user message that says anything.

    Raises:
        ApiError: there is none in `param`.
    """
    for place, message in reversed(list(enumerate(messages))):
        said = message.said
        if message.role == "user" and (said.strip() if isinstance(said, str) else said):
            return place
    raise ApiError(status=400, message=f"{param} must hold a user message with text", param=param)
