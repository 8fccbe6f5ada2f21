"""A model that answers what a test wrote down."""

from collections.abc import Callable, Sequence
from typing import Protocol, TypeAlias

from typing_extensions import TypeIs

from crew.errors import ModelError
from crew.llm import ModelReply, ModelRequest
from crew.llm.terms import FREE, Terms
from crew.llm.wire import estimate_usage
from crew.message import ToolCall

__all__ = ["ScriptedModel"]

PIECE_CHARS = 8

_FIXED = (str, ToolCall, Sequence, Exception)


class _Value(Protocol):
    """What a pydantic model can do, and all that is needed of it here."""

    def model_dump_json(self) -> str: ...


Reply: TypeAlias = str | _Value | ToolCall | Sequence[ToolCall] | Exception
_Parts: TypeAlias = tuple[str, tuple[ToolCall, ...]]
Step: TypeAlias = Reply | Callable[[ModelRequest], Reply]


class ScriptedModel:
    """Replies in order, and strictly: one call, one step.

    A step is a string, a pydantic value (its JSON), a `ToolCall` or a list of them (calls in
    parallel), an exception (raised), or a function of the request that returns one of these.
    Text streams in pieces of eight characters, behind what the request holds of it already; usage
    counts a token per four characters. Each process that a pickled one arrives in goes on from
    where it was when it was sent.

    Args:
        steps: the replies; or one function of the request, which answers every call.
        name: shown in journals.
        continues: whether it goes on with a reply that was broken off.
        terms: what its tokens cost, which is nothing by default, and how often it may be asked.
    """

    def __init__(
        self,
        steps: Sequence[Step] | Callable[[ModelRequest], Reply] = (),
        *,
        name: str = "scripted",
        continues: bool = False,
        terms: Terms = FREE,
    ) -> None:
        self.terms = terms
        self._always = steps if callable(steps) else None
        self._steps = list[Step]() if callable(steps) else list(steps)
        self._name = name
        self._continues = continues
        self.requests: list[ModelRequest] = []
        """Every request, in order of arrival."""

    @property
    def name(self) -> str:
        return self._name

    async def complete(
        self, request: ModelRequest, *, on_text: Callable[[str], None] | None = None
    ) -> ModelReply:
        """Answer with the next step.

        Raises:
            ModelError: no step is left.
            Exception: the one that the step is.
        """
        self.requests.append(request)
        reply = self._next(request)
        if isinstance(reply, Exception):
            raise reply
        text, calls = _split(reply, len(self.requests))
        if on_text is not None:
            for start in range(len(request.partial), len(text), PIECE_CHARS):
                on_text(text[start : start + PIECE_CHARS])
        usage = estimate_usage(request, text, calls)
        reason = "tool_calls" if calls else "stop"
        return ModelReply(text, calls, usage, self._name, reason)

    async def continues(self) -> bool:
        return self._continues

    def assert_done(self) -> None:
        """Fail when steps are left.

        Raises:
            AssertionError: it names them.
        """
        left = self._steps[len(self.requests) :]
        if left:
            raise AssertionError(f"{len(left)} scripted steps were not asked for: {left!r:.500}")

    async def close(self) -> None:
        """Do nothing: there is nothing to release."""

    def _next(self, request: ModelRequest) -> Reply:
        if self._always is not None:
            return self._always(request)
        if len(self.requests) > len(self._steps):
            asked = request.messages[-1].text if request.messages else ""
            raise ModelError(
                message=f"{self._name}: {len(self._steps)} replies were scripted and all were "
                f"given; add one for: {asked[-200:]!r}"
            )
        step = self._steps[len(self.requests) - 1]
        return step if _is_reply(step) else step(request)


def _is_reply(step: Step) -> TypeIs[Reply]:
    # Asked first, since a pydantic value or an exception may well be callable.
    return isinstance(step, _FIXED) or hasattr(step, "model_dump_json")


def _split(reply: str | _Value | ToolCall | Sequence[ToolCall], number: int) -> _Parts:
    if isinstance(reply, str):
        return reply, ()
    if isinstance(reply, ToolCall):
        return "", (_named(reply, f"call_{number}_0"),)
    if isinstance(reply, Sequence):
        return "", tuple(_named(c, f"call_{number}_{i}") for i, c in enumerate(reply))
    return reply.model_dump_json(), ()


def _named(call: ToolCall, name: str) -> ToolCall:
    return ToolCall(call.name, call.arguments, call.id or name)
