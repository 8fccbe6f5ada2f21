"""Messages, the calls in them, and what they cost in tokens."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from crew.budget import NANOS, money_sum
from crew.content import Content, Part, content_data, content_from, plain_text, split

Role = Literal["system", "user", "assistant", "tool"]
Json = Any  # a JSON value: dict, list, str, int, float, bool or None


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A model's wish to call a tool.

    `id` joins the call to its result within one conversation; empty until the agent loop
    or the endpoint gives one. `extra` is what the endpoint sent with it and wants back, such as a
    signature.
    """

    name: str
    arguments: dict[str, Json] = field(default_factory=dict)
    id: str = ""
    extra: dict[str, Json] | None = None


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a conversation, as in the OpenAI chat API.

    `text` is all that it says, unless it has `parts`: these are everything, in order, and `text`
    what is text among them. `extra` is what its endpoint sent beside text and calls, such as its
    reasoning, by name; and under `model` the id of who understands it, and may want it back.
    """

    role: Role
    text: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str = ""
    parts: tuple[Part, ...] = ()
    extra: dict[str, Json] | None = None

    @property
    def content(self) -> Content:
        """All that it says: a text, or parts."""
        return self.parts or self.text


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens counted by the endpoint; `calls` is the number of model calls summed.

    `money` is what the tokens cost by the prices of their models, in the currency of these.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    calls: int = 0
    money: float = 0.0

    @property
    def total_tokens(self) -> int:
        return self.input_tokens + self.output_tokens

    def to_data(self) -> dict[str, Json]:
        """Return it as it is stored, with money in billionths."""
        data = {
            "input_tokens": self.input_tokens,
            "output_tokens": self.output_tokens,
            "cached_tokens": self.cached_tokens,
            "calls": self.calls,
        }
        return {**data, "money_nanos": round(self.money * NANOS)} if self.money else data

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(
            self.input_tokens + other.input_tokens,
            self.output_tokens + other.output_tokens,
            self.cached_tokens + other.cached_tokens,
            self.calls + other.calls,
            money_sum(self.money, other.money),
        )


NO_USAGE = Usage()


def usage_from(data: Mapping[str, Json]) -> Usage:
    """Return a stored usage."""
    if "money_nanos" not in data:
        return Usage(**data)
    counts = {name: count for name, count in data.items() if name != "money_nanos"}
    return Usage(**counts, money=data["money_nanos"] / NANOS)


def message_with(role: Role, content: Content, *, tool_call_id: str = "") -> Message:
    """Return a message that says a text, or parts."""
    text, parts = split(content)
    return Message(role, text, tool_call_id=tool_call_id, parts=parts)


def message_data(message: Message) -> dict[str, Json]:
    """Return a message as it is stored: without what is empty."""
    data: dict[str, Json] = {"role": message.role}
    if message.parts:
        data["parts"] = content_data(message.parts)
    else:
        data["text"] = message.text
    if message.tool_calls:
        data["tool_calls"] = [call_data(call) for call in message.tool_calls]
    if message.tool_call_id:
        data["tool_call_id"] = message.tool_call_id
    if message.extra:
        data["extra"] = message.extra
    return data


def message_from(data: dict[str, Json]) -> Message:
    """Return a stored message."""
    asked = data.get("tool_calls")
    calls = tuple([ToolCall(**call) for call in asked]) if asked else ()
    found = data.get("parts")
    parts = tuple(content_from(found)) if found else ()
    text = plain_text(parts) if parts else data["text"]
    return Message(
        data["role"], text, calls, data.get("tool_call_id", ""), parts, data.get("extra")
    )


def call_data(call: ToolCall) -> dict[str, Json]:
    """Return a call of a tool as it is stored."""
    data = {"name": call.name, "arguments": call.arguments, "id": call.id}
    return {**data, "extra": call.extra} if call.extra else data
