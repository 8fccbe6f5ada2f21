"""How a model is asked: what an agent sets beside its messages and tools."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

from crew.errors import GraphError
from crew.message import Json

__all__ = ["ModelSettings"]

_OURS = {
    "messages": "the agent makes them",
    "model": "write Agent(model=…)",
    "tools": "write Agent(tools=…)",
    "response_format": "write Agent(output=…)",
    "stream": "write ctx.run(agent, …, emit=True)",
    "stream_options": "they go with the stream",
    "n": "one answer is read, and all are paid for",
    "max_completion_tokens": "write max_tokens=, which is sent under the name the endpoint knows",
}
"""What `extra` may not hold, and why, or what to write."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSettings:
    """Parameters of requests; one that is None is not sent, so that the endpoint's default holds.

    Args:
        max_tokens: the most tokens of an answer, 1 or more.
        temperature: how far from the likeliest word it may go, 0 or more; 0 is the most repeatable.
        top_p: from which share of the likeliest words it chooses, above 0 up to 1.
        reasoning_effort: as `low`, `medium` or `high`, for models that think first.
        stop: a text, or texts, at which an answer ends.
        seed: makes answers repeatable, where the endpoint can.
        presence_penalty: -2 to 2; above 0 it rather says new words.
        frequency_penalty: -2 to 2; above 0 it repeats fewer words.
        parallel_tool_calls: whether one answer may call several tools.
        extra: what else the body of a request holds, as JSON; for what one provider alone knows.

    Raises:
        GraphError: a value is out of its range, or `extra` holds what has a name of its own.
    """

    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    reasoning_effort: str | None = None
    stop: str | Sequence[str] | None = None
    seed: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    parallel_tool_calls: bool | None = None
    extra: Mapping[str, Json] = field(default_factory=dict[str, Json])

    def __post_init__(self) -> None:
        if self.max_tokens is not None and self.max_tokens < 1:
            raise GraphError(message=f"max_tokens is {self.max_tokens}; it must be 1 or more")
        for name, (least, most) in _RANGES.items():
            value = getattr(self, name)
            if value is not None and not least <= value <= most:
                raise GraphError(message=f"{name} is {value}; it must be {least:g} to {most:g}")
        self._check_extra()

    def _check_extra(self) -> None:
        named = {item.name for item in fields(self)} - {"extra"}
        for name in self.extra:
            if name in named or name in _OURS:
                way = f"write ModelSettings({name}=…)" if name in named else _OURS[name]
                raise GraphError(message=f"extra may not hold {name!r}: {way}")
        try:
            json.dumps(self.extra)
        except (TypeError, ValueError) as error:
            raise GraphError(message=f"extra must be JSON: {error}") from error

    def parameters(self) -> dict[str, Json]:
        """Return what requests hold beside `max_tokens` and `temperature`, as their body has it."""
        known: dict[str, Json] = {name: getattr(self, name) for name in _PARAMETERS}
        if self.stop is not None:
            known["stop"] = [self.stop] if isinstance(self.stop, str) else list(self.stop)
        return {name: value for name, value in known.items() if value is not None} | {**self.extra}

    def with_short_forms(self, **short: Any) -> "ModelSettings":
        """Return it with those of an agent's arguments that are given, as `max_tokens=`.

        Raises:
            GraphError: one is given in both ways.
        """
        given = {name: value for name, value in short.items() if value is not None}
        for name, value in given.items():
            if (known := getattr(self, name)) is not None:
                raise GraphError(
                    message=f"{name} is given twice, as {name}={value} and in "
                    f"ModelSettings({name}={known}); leave one out"
                )
        return replace(self, **given) if given else self


_RANGES = {
    "temperature": (0.0, 100.0),
    "top_p": (0.0, 1.0),
    "presence_penalty": (-2.0, 2.0),
    "frequency_penalty": (-2.0, 2.0),
}
_PARAMETERS = (
    "top_p",
    "reasoning_effort",
    "seed",
    "presence_penalty",
    "frequency_penalty",
    "parallel_tool_calls",
)
