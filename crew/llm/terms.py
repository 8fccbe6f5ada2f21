"""What a model costs, what fits into it, and how often its endpoint may be asked."""

import math
from dataclasses import dataclass, replace

from crew.llm import Model, ModelRequest
from crew.message import Usage

__all__ = ["FREE", "UNKNOWN", "Terms", "fitted", "priced", "terms_of"]

_NANOS = 1000
"""A price is for a million tokens, so that a token costs so many billionths of one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """Those of one model; what is None nobody has said.

    Args:
        price_in: of a million tokens that are read, in the currency of budgets.
        price_out: of a million tokens that are written.
        context_window: the tokens of a request and its answer together.
        max_output: the most tokens of an answer.
        requests_per_second: how many its endpoint takes.
    """

    price_in: float | None = None
    price_out: float | None = None
    context_window: int | None = None
    max_output: int | None = None
    requests_per_second: float | None = None

    @property
    def have_price(self) -> bool:
        return self.price_in is not None or self.price_out is not None

    def input_within(self, tokens: int, money: int | None, output: int) -> int:
        """Return how many tokens may be read beside so many written, below 0 if none.

        Args:
            tokens: that may be spent.
            money: billionths that may be; None if that is not limited.
            output: tokens that are written.
        """
        room = tokens - output
        if money is None:
            return room
        left = money - self.money_nanos(0, output)
        if left < 0 or not self.price_in:
            return min(room, left) if left < 0 else room
        return min(room, math.floor(left / (self.price_in * _NANOS)))

    def output_within(self, tokens: int, money: int | None, read: int) -> int:
        """Return how many tokens may be written beside so many read; see `input_within`."""
        room = tokens - read
        if money is None:
            return room
        left = money - self.money_nanos(read, 0)
        if left < 0 or not self.price_out:
            return min(room, left) if left < 0 else room
        return min(room, math.floor(left / (self.price_out * _NANOS)))

    def money_nanos(self, input_tokens: int, output_tokens: int) -> int:
        """Return what tokens cost, in billionths, rounded: more tokens never cost less.

        Tokens that an endpoint read from its cache cost as others do.
        """
        price_in, price_out = self.price_in or 0.0, self.price_out or 0.0
        return round((input_tokens * price_in + output_tokens * price_out) * _NANOS)


UNKNOWN = Terms()
FREE = Terms(price_in=0.0, price_out=0.0)


def terms_of(model: Model) -> Terms:
    """Return what a model's `terms` say, if it has some."""
    return getattr(model, "terms", UNKNOWN)


def fitted(request: ModelRequest, terms: Terms) -> ModelRequest:
    """Return a request that asks for no longer answer than its model gives."""
    most, wanted = terms.max_output, request.max_tokens
    if most is None or wanted is None or wanted <= most:
        return request
    return replace(request, max_tokens=most)


def priced(usage: Usage, terms: Terms) -> Usage:
    """Return a usage with the money that its tokens cost."""
    if not terms.price_in and not terms.price_out:
        return usage
    nanos = terms.money_nanos(usage.input_tokens, usage.output_tokens)
    return replace(usage, money_nanos=nanos) if nanos else usage
