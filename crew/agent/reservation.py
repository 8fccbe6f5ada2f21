"""What is reserved of a budget for a call of a model, before it leaves."""

import math
from dataclasses import replace

from crew.budget import NANOS, NOTHING, Allowance, Amount
from crew.call.record import Calls
from crew.define import frozen
from crew.errors import BudgetExceeded, ModelError, SettingsInvalid
from crew.llm import Model, ModelRequest
from crew.llm.cost import DEFAULT_OUTPUT, LEAST_OUTPUT, input_bound, request_bytes
from crew.llm.terms import Terms, terms_of
from crew.message import Json

__all__ = ["Reservation", "cost_of", "reserved"]


@frozen
class Reservation:
    """What one request may cost: `tokens` in all, of which the answer may take `output`."""

    tokens: int
    output: int
    size: int
    """The bytes of what is asked, from which a rate is learnt once they are counted."""
    read: int
    """The tokens of what is asked, as they are reckoned."""
    terms: Terms

    @property
    def amount(self) -> Amount:
        """What it takes of a budget."""
        return Amount(self.tokens, self.terms.money_nanos(self.read, self.tokens - self.read))

    def within(self, tokens: int, money: int | None) -> "Reservation | None":
        """Return it with a shorter answer, so that it fits; None if none is short enough."""
        written = self.tokens - self.read
        cut = max(0, written - self.terms.output_within(tokens, money, self.read))
        output = self.output - cut
        is_answer = output >= min(LEAST_OUTPUT, self.output)
        return replace(self, tokens=self.tokens - cut, output=output) if is_answer else None

    def data(self) -> dict[str, Json]:
        """Return it as the call's intent holds it."""
        data = {"reserve": self.tokens, "bytes": self.size, "max_tokens": self.output}
        return data | ({"reserve_money": self.amount.money} if self.amount.money else {})

    def limited(self, request: ModelRequest) -> ModelRequest:
        """Return a request that asks for no more, and that is sent once.

        A part of the answer that a crash left is read once more, so the rest is shorter for it;
        where nothing would be left the answer is begun anew.
        """
        left = self.output - len(request.partial.encode("utf-8", "surrogatepass"))
        if left < min(LEAST_OUTPUT, self.output):
            return replace(request, partial="", max_tokens=self.output, once=True)
        return replace(request, max_tokens=left, once=True)


async def reserved(
    calls: Calls, path: str, model: Model, request: ModelRequest
) -> Reservation | None:
    """Find what the call at `path` is to reserve; None where nothing is limited.

    Where its whole output does not fit it waits for calls under way, which may give something
    back; then it makes do with a shorter one.

    Raises:
        BudgetExceeded: not even a short answer fits.
        SettingsInvalid: money is limited, and the model has no price.
    """
    allowance = await calls.allowance(path, NOTHING)
    if allowance is None:
        return None
    terms = terms_of(model)
    if allowance.money is not None and not terms.have_price:
        raise _without_price(model, path)
    wanted = request.max_tokens or min(DEFAULT_OUTPUT, terms.max_output or DEFAULT_OUTPUT)
    written = _output(wanted, allowance)
    most = terms.input_within(allowance.left, allowance.money, written)
    asked = await input_bound(model, request, allowance, most)
    found = Reservation(asked + written, wanted, request_bytes(request), asked, terms)
    if not found.amount.fits(allowance.left, allowance.money):
        allowance = await calls.allowance(path, found.amount) or allowance
        room = terms.output_within(allowance.left, allowance.money, asked)
        room = math.floor(room / allowance.output_rate)
        wanted = min(wanted, max(room, min(wanted, LEAST_OUTPUT)))
        found = replace(found, tokens=asked + _output(wanted, allowance), output=wanted)
    _refuse_beyond(found.amount, allowance, path)
    return found


def _refuse_beyond(amount: Amount, allowance: Allowance, path: str) -> None:
    """Refuse to spend what is not left.

    Raises:
        BudgetExceeded: it is more; the error says of what.
    """
    if amount.tokens > allowance.left:
        raise BudgetExceeded(path=path, needed=amount.tokens, left=allowance.left)
    if allowance.money is not None and amount.money > allowance.money:
        needed, left = amount.money / NANOS, allowance.money / NANOS
        raise BudgetExceeded(path=path, needed=needed, left=left, unit="money")


def _without_price(model: Model, path: str) -> SettingsInvalid:
    return SettingsInvalid(
        message=f"{path} may spend so much money, and the model {model.name!r} has no price: "
        "say price_in and price_out, what a million tokens cost (0 where they are free)"
    )


def cost_of(error: Exception, terms: Terms) -> dict[str, int] | None:
    """Return what a failed request cost, as its endpoint reported; None if it did not."""
    if not isinstance(error, ModelError):
        return None
    if error.is_counted:
        nanos = terms.money_nanos(error.input_tokens, error.output_tokens)
        tokens = {"input_tokens": error.input_tokens, "output_tokens": error.output_tokens}
        return {**tokens, "money_nanos": nanos} if nanos else tokens
    if error.status is not None and (400 <= error.status < 500 or error.status == 503):
        return {}  # it was refused before anything was computed
    return None


def _output(tokens: int, allowance: Allowance) -> int:
    """Return what an answer may take whose limit is so many tokens, as the endpoint keeps to it."""
    return math.ceil(tokens * allowance.output_rate)
