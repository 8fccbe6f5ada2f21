"""How many tokens a request can take: by its bytes, as its engine counts, or by estimate."""

import json
import math

from crew.budget import Allowance
from crew.llm import Model, ModelRequest, count_tokens
from crew.llm.terms import terms_of
from crew.llm.wire import counted_body, with_schema_in_prompt

__all__ = [
    "DEFAULT_OUTPUT",
    "LEAST_OUTPUT",
    "MARGIN",
    "bound_by_bytes",
    "input_bound",
    "input_estimate",
    "request_bytes",
    "text_within",
]

DEFAULT_OUTPUT = 1024
"""The tokens of an answer, where an agent names no limit and a budget needs one."""
LEAST_OUTPUT = 16
"""A limit below that is no answer's, so that the call is refused instead."""
MARGIN = 0.25
"""What is put on top of an estimate; its overrun is at most that much where the text is alike."""

_FRAME_TOKENS, _TOOLS_TOKENS = 64, 256
"""What chat templates put around messages, and before tools; the longest known stay below."""
_FIRST_RATE = 0.32
"""Tokens a byte, as long as nothing was seen; English has 0.25, Chinese about 0.3."""


def request_bytes(request: ModelRequest) -> int:
    """Return the bytes of all that a request sends to be read, tools and schema too.

    A token of text is a byte or more in every tokeniser in use, which are built on bytes, or fall
    back to them.
    """
    worded = request if request.schema is None else with_schema_in_prompt(request)
    read = counted_body(worded)
    return len(json.dumps(read, ensure_ascii=False).encode("utf-8", "surrogatepass"))


async def input_bound(model: Model, request: ModelRequest, allowance: Allowance, most: int) -> int:
    """Return what to reserve for the input of a request.

    It is an upper bound by bytes, if that fits. Else it is what the engine
    counts; or, where it does not and the budget allows that, an estimate and its margin.

    Args:
        model: where the request goes.
        request: what is asked.
        allowance: what may be spent.
        most: the tokens that fit beside the answer.
    """
    size = request_bytes(request)
    frame = _frame(request)
    # An endpoint that counts more than a token a byte has shown that bytes are no bound there.
    bound = math.ceil(max(size + frame, size * _with_margin(allowance.rate)))
    if (window := terms_of(model).context_window) is not None:
        bound = min(bound, window)  # its endpoint refuses what does not fit
    if bound <= most:
        return bound
    counted = await count_tokens(model, request)
    if counted is not None:
        return min(bound, counted)
    if allowance.strict:
        return bound
    rate = allowance.rate or _FIRST_RATE
    return min(bound, math.ceil(size * _with_margin(rate)) + frame)


async def input_estimate(model: Model, request: ModelRequest, most: int) -> int:
    """Return how many tokens the input of a request has, where no budget says how to reckon.

    It is an upper bound by bytes, if that is at most `most`; else what the engine counts; else an
    estimate and its margin.
    """
    if (bound := bound_by_bytes(request)) <= most:
        return bound
    if (counted := await count_tokens(model, request)) is not None:
        return counted
    return math.ceil(request_bytes(request) * _with_margin(_FIRST_RATE)) + _frame(request)


def bound_by_bytes(request: ModelRequest) -> int:
    """Return how many tokens the input of a request has at most."""
    return request_bytes(request) + _frame(request)


def text_within(tokens: int) -> int:
    """Return how many bytes of text have so many tokens, as they are estimated with a margin."""
    return math.floor(tokens / _with_margin(_FIRST_RATE))


def _frame(request: ModelRequest) -> int:
    return _FRAME_TOKENS + (_TOOLS_TOKENS if request.tools else 0)


def _with_margin(rate: float) -> float:
    return rate * (1 + MARGIN)
