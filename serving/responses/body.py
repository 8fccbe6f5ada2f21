"""The request body of a response, checked."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from serving.chat.body import ChatMessage, Conversation, CrewOptions, NoTools, asked_place
from serving.chat.sampling import Sampling
from serving.conversations.body import Metadata
from serving.http.fields import Body, TokenLimit

__all__ = ["ResponseBody", "RetrieveQuery"]


def _as_items(given: object) -> object:
    """Read text as one message; what a model thought before is nothing to answer."""
    if isinstance(given, str):
        return [{"role": "user", "content": given}]
    if not isinstance(given, list):
        return given
    return [item for item in given if not _is_of_type(item, "reasoning")]


def _is_of_type(item: object, kind: str) -> bool:
    return isinstance(item, dict) and item.get("type") == kind


def _a_message(kind: object) -> object:
    if kind != "message":
        raise ValueError(f"only message items are understood, not {kind!r:.50}")
    return kind


def _stored(store: bool | None) -> bool | None:
    if store is False:
        raise ValueError(
            "a response is a durable run, so it is always stored; leave `store` out, and DELETE "
            "the response once you have it"
        )
    return store


def _no_prompt(prompt: object) -> None:
    if prompt is not None:
        raise ValueError("there are no stored prompts here; write the text into `input`")


class InputItem(ChatMessage):
    """One message of the input."""

    type: Annotated[Literal["message"], BeforeValidator(_a_message)] = "message"
    role: Literal["user", "assistant", "system", "developer"]


class TextOptions(Body):
    """How the answer is written."""

    model_config = ConfigDict(frozen=True, strict=True)
    format: dict[str, Any] | None = None


class ResponseBody(Sampling):
    """What is read of a request.

    What would change the meaning of the answer and is not there is refused; other settings that
    are not known here are ignored.
    """

    model: str
    input: Annotated[list[InputItem], BeforeValidator(_as_items)] = Field(
        min_length=1, max_length=1_000
    )
    instructions: str | None = None
    stream: bool | None = False
    background: bool | None = False
    store: Annotated[bool | None, AfterValidator(_stored)] = None
    metadata: Metadata = None
    previous_response_id: str | None = None
    conversation: str | Conversation | None = None
    tools: NoTools = None
    text: TextOptions | None = None
    max_output_tokens: TokenLimit = None
    prompt: Annotated[Any, AfterValidator(_no_prompt)] = None
    crew: CrewOptions | None = None

    @property
    def token_limit(self) -> int | None:
        return self.max_output_tokens

    @property
    def format(self) -> dict[str, Any] | None:
        """The form that the answer is to have."""
        return self.text.format if self.text else None

    @property
    def asked(self) -> InputItem:
        """The last user message.

        Raises:
            ApiError: there is none that says anything.
        """
        return self.input[asked_place(self.input, "input")]

    @property
    def question(self) -> str:
        """The text of the last user message."""
        return self.asked.content

    @property
    def history(self) -> list[InputItem]:
        """What user and assistant said before the question."""
        before = self.input[: asked_place(self.input, "input")]
        return [item for item in before if item.role in ("user", "assistant")]

    @property
    def instructed(self) -> str:
        """What the workflow is told to do: the instructions, and messages of system and developer.

        OpenAI's API takes them in both places.
        """
        parts = [self.instructions or ""]
        parts += [item.content for item in self.input if item.role in ("system", "developer")]
        return "\n\n".join(part for part in parts if part)

    @property
    def own(self) -> dict[str, Any]:
        """Our own fields of it."""
        return self.crew.model_dump() if self.crew else {}

    @property
    def conversation_id(self) -> str | None:
        named = self.conversation
        return named if isinstance(named, str | None) else named.id


class RetrieveQuery(BaseModel):
    """Whether the response comes as a stream, and behind which event it begins."""

    model_config = ConfigDict(frozen=True)
    stream: bool = False
    starting_after: int = Field(default=-1, ge=-1)
