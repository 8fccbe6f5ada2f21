"""Models: the protocol an agent speaks, and what stands behind it."""

from collections.abc import Callable
from dataclasses import field
from typing import Protocol, runtime_checkable

from crew.define import frozen
from crew.message import Json, Message, ToolCall, Usage

__all__ = [
    "Continuing",
    "Model",
    "ModelReply",
    "ModelRequest",
    "ToolSpec",
    "continues",
    "count_tokens",
    "provider_of",
]


@frozen
class ToolSpec:
    """A tool as a model sees it; `parameters` is a JSON schema of type object."""

    name: str
    description: str
    parameters: dict[str, Json]


@frozen
class ModelRequest:
    """One request to a model.

    `schema` is the JSON schema the reply's text must satisfy (None: free text); it becomes the
    engine's grammar where the engine has one. `session` names a conversation, so that a router
    can send its calls to the replica that holds its prefix. Requests of different `cache_salt`
    share no cached prefix, in engines that know of it: nobody can tell by an answer's speed what
    others have asked. `partial` is the beginning of the reply, which was said before: a model
    that is `Continuing` goes on from there. `once`: it is sent again only where nothing can have
    been computed for it, since whoever asks has to reserve what each of them costs.
    `parameters` are further ones of the API, as the body of a request holds them.
    """

    messages: tuple[Message, ...]
    tools: tuple[ToolSpec, ...] = ()
    schema: dict[str, Json] | None = None
    max_tokens: int | None = None
    temperature: float | None = None
    session: str = ""
    cache_salt: str = ""
    partial: str = ""
    once: bool = False
    parameters: dict[str, Json] = field(default_factory=dict[str, Json])


@frozen
class ModelReply:
    """What a model answered, with what the request held of it; `model` is what it calls itself.

    `is_counted`: whether the usage is the endpoint's own count, and no estimate. `extra` is as that
    of a `crew.message.Message`.
    """

    text: str
    tool_calls: tuple[ToolCall, ...] = ()
    usage: Usage = field(default_factory=Usage)
    model: str = ""
    finish_reason: str = "stop"
    is_counted: bool = True
    extra: dict[str, Json] | None = None

    def message(self) -> Message:
        """Return it as a message of the conversation."""
        return Message("assistant", self.text, self.tool_calls, extra=self.extra)


@runtime_checkable
class Model(Protocol):
    """A place where tokens come from.

    Implementations hold connections lazily: making one does no I/O, and one that was pickled
    opens its own in the process it arrives in.
    """

    @property
    def name(self) -> str:
        """The name shown in journals and error messages."""
        ...

    async def complete(
        self, request: ModelRequest, *, on_text: Callable[[str], None] | None = None
    ) -> ModelReply:
        """Answer one request; `on_text` gets the text piece by piece as it is computed.

        It does not get the request's `partial` once more. What it raises ends the call.

        Cancelling the awaiting task stops the computation at the engine.

        Raises:
            ModelError: no usable reply, after the retries that make sense.
        """
        ...

    async def close(self) -> None:
        """Release connections and engines. Safe to call twice."""
        ...


class Continuing(Protocol):
    """What a model can do besides, if it is able to go on with a reply that was broken off."""

    async def continues(self) -> bool:
        """Return whether a request may hold the beginning of its reply, to go on from there."""
        ...


async def continues(model: Model) -> bool:
    """Return whether a model goes on from the `partial` text of a request."""
    ask = getattr(model, "continues", None)
    return ask is not None and await ask()


async def count_tokens(model: Model, request: ModelRequest) -> int | None:
    """Return how many tokens a request has as the model's engine counts; None if it does not.

    A model that can has a method `count_tokens(request)`, which never computes an answer.
    """
    count = getattr(model, "count_tokens", None)
    return None if count is None else await count(request)


def provider_of(model: Model) -> str:
    """Return who computes for a model, by OpenTelemetry's names; empty if it does not say."""
    return str(getattr(model, "provider", ""))
