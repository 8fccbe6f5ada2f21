"""What is reserved of a budget for a call of a model, before it leaves."""

import math
from dataclasses import dataclass, replace

from crew.budget import Allowance
from crew.call.record import Calls
from crew.errors import BudgetExceeded, ModelError
from crew.llm import Model, ModelRequest
from crew.llm.cost import DEFAULT_OUTPUT, LEAST_OUTPUT, input_bound, request_bytes
from crew.llm.terms import Terms, terms_of
from crew.message import Json

__all__ = ["Reservation", "cost_of", "reserved"]


@dataclass(frozen=True, slots=True)
class Reservation:
    """What one request may cost: `tokens` in all, of which the answer may take `output`."""

    tokens: int
    output: int
    size: int
    """The bytes of what is asked, from which a rate is learnt once they are counted."""

    def within(self, left: int) -> "Reservation | None":
        """Return it with a shorter answer, so that it fits; None if none is short enough."""
        output = self.output - (self.tokens - left)
        is_answer = output >= min(LEAST_OUTPUT, self.output)
        return replace(self, tokens=left, output=output) if is_answer else None

    def data(self) -> dict[str, Json]:
        """Return it as the call's intent holds it."""
        return {"reserve": self.tokens, "bytes": self.size, "max_tokens": self.output}

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
    """Find what the call at `path` is to reserve; None where no tokens are limited.

    Where its whole output does not fit it waits for calls under way, which may give something
    back; then it makes do with a shorter one.

    Raises:
        BudgetExceeded: not even a short answer fits.
    """
    allowance = await calls.allowance(path, 0)
    if allowance is None:
        return None
    terms = terms_of(model)
    wanted = request.max_tokens or min(DEFAULT_OUTPUT, terms.max_output or DEFAULT_OUTPUT)
    asked = await input_bound(model, request, allowance, _output(wanted, allowance))
    needed = asked + _output(wanted, allowance)
    if needed > allowance.left:
        allowance = await calls.allowance(path, needed) or allowance
        room = math.floor((allowance.left - asked) / allowance.output_rate)
        wanted = min(wanted, max(room, min(wanted, LEAST_OUTPUT)))
        needed = asked + _output(wanted, allowance)
    if needed > allowance.left:
        raise BudgetExceeded(path=path, needed=needed, left=allowance.left)
    return Reservation(needed, wanted, request_bytes(request))


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
