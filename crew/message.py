"""Messages, the calls in them, and what they cost in tokens."""

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from crew.budget import NANOS

Role = Literal["system", "user", "assistant", "tool"]
Json = Any  # a JSON value: dict, list, str, int, float, bool or None


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A model's wish to call a tool.

    `id` joins the call to its result within one conversation; empty until the agent loop
    or the endpoint gives one.
    """

    name: str
    arguments: dict[str, Json] = field(default_factory=dict)
    id: str = ""


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a conversation, as in the OpenAI chat API."""

    role: Role
    text: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str = ""


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens counted by the endpoint; `calls` is the number of model calls summed.

    `money_nanos` is what the tokens cost by the prices of their models, in billionths.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    calls: int = 0
    money_nanos: int = 0

    @property
    def money(self) -> float:
        """What the tokens cost, in the currency in which their prices are given."""
        return self.money_nanos / NANOS

    @property
    def total_tokens(self) -> int:
        return self.input_tokens + self.output_tokens

    def to_data(self) -> dict[str, Json]:
        """Return it as it is stored."""
        data = {
            "input_tokens": self.input_tokens,
            "output_tokens": self.output_tokens,
            "cached_tokens": self.cached_tokens,
            "calls": self.calls,
        }
        return {**data, "money_nanos": self.money_nanos} if self.money_nanos else data

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(
            self.input_tokens + other.input_tokens,
            self.output_tokens + other.output_tokens,
            self.cached_tokens + other.cached_tokens,
            self.calls + other.calls,
            self.money_nanos + other.money_nanos,
        )


def message_data(message: Message) -> dict[str, Json]:
    """Return a message as it is stored: without what is empty."""
    data: dict[str, Json] = {"role": message.role, "text": message.text}
    if message.tool_calls:
        data["tool_calls"] = [asdict(call) for call in message.tool_calls]
    if message.tool_call_id:
        data["tool_call_id"] = message.tool_call_id
    return data


def message_from(data: dict[str, Json]) -> Message:
    """Return a stored message."""
    asked = data.get("tool_calls")
    calls = tuple([ToolCall(**call) for call in asked]) if asked else ()
    return Message(data["role"], data["text"], calls, data.get("tool_call_id", ""))
