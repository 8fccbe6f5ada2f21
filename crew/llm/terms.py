"""What a model costs, what fits into it, and how often its endpoint may be asked."""

import math
from dataclasses import dataclass, replace

from crew.budget import NANOS, UNLIMITED
from crew.llm import Model, ModelRequest
from crew.message import Usage

__all__ = ["FREE", "UNKNOWN", "Terms", "fitted", "priced", "terms_of"]

_NANOS_A_TOKEN = 1000
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

    def input_within(self, tokens: int, money: int | None, written: int) -> int:
        """Return how many tokens may be read beside so many written, below 0 if none.

        Args:
            tokens: that may be spent.
            money: billionths that may be; None if that is not limited.
            written: tokens of the answer.
        """
        most = _affordable(money, self.money_nanos(0, written), self.price_in)
        # Costs are rounded as a sum, so that the last token may miss a billionth.
        is_over = 0 < most < UNLIMITED and self.money_nanos(most, written) > (money or 0)
        return min(tokens - written, most - is_over)

    def output_within(self, tokens: int, money: int | None, read: int) -> int:
        """Return how many tokens may be written beside so many read; see `input_within`."""
        most = _affordable(money, self.money_nanos(read, 0), self.price_out)
        is_over = 0 < most < UNLIMITED and self.money_nanos(read, most) > (money or 0)
        return min(tokens - read, most - is_over)

    def money_nanos(self, input_tokens: int, output_tokens: int) -> int:
        """Return what tokens cost, in billionths, rounded: more tokens never cost less.

        Tokens that an endpoint read from its cache cost as others do.
        """
        price_in, price_out = self.price_in or 0.0, self.price_out or 0.0
        return round((input_tokens * price_in + output_tokens * price_out) * _NANOS_A_TOKEN)


def _affordable(money: int | None, spent: int, price: float | None) -> int:
    """Return how many tokens of a price can be paid, beside what is spent; below 0 if not that."""
    if money is None:
        return UNLIMITED
    if spent > money:
        return -1
    return math.floor((money - spent) / (price * _NANOS_A_TOKEN)) if price else UNLIMITED


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
    return replace(usage, money=nanos / NANOS) if nanos else usage
