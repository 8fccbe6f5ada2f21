"""What the models of a run cost, and what another run's records spared it."""

from collections.abc import Mapping
from dataclasses import field

from crew.budget import NANOS, money_sum
from crew.define import define, frozen
from crew.event import CallCompleted, CallFailed, CallStarted, RunEvent, RunForked


@frozen
class Cost:
    """What a run paid for models, and what another run's records spared it.

    Money is in the currency of the models' prices.
    """

    calls: int = 0
    tokens: int = 0
    reused_calls: int = 0
    reused_tokens: int = 0
    money: float = 0.0
    reused_money: float = 0.0

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(
            self.calls + other.calls,
            self.tokens + other.tokens,
            self.reused_calls + other.reused_calls,
            self.reused_tokens + other.reused_tokens,
            money_sum(self.money, other.money),
            money_sum(self.reused_money, other.reused_money),
        )

    @property
    def all_calls(self) -> int:
        """The calls that the run would have paid alone."""
        return self.calls + self.reused_calls

    @property
    def all_tokens(self) -> int:
        """The tokens that the run would have paid alone."""
        return self.tokens + self.reused_tokens

    def as_reused(self) -> "Cost":
        """Return all of it as what another run's records spare."""
        money = money_sum(self.money, self.reused_money)
        return Cost(0, 0, self.all_calls, self.all_tokens, 0.0, money)


@define
class Costs:
    """Adds up what a run cost; the prefix that a fork shares with its base was not paid."""

    cost: Cost = field(default_factory=Cost)

    def apply(self, event: RunEvent, offset: int, at: float) -> None:
        match event:
            case CallCompleted(call="model" | "child", data=data):
                cost = _cost_of(data.get("usage") or {})
                self.cost += cost.as_reused() if data.get("reused") else cost
            case CallFailed(call="model" | "child", usage=usage):
                self.cost += _cost_of(usage or {})
            case CallStarted(call="model", data={"lost": lost}):
                self.cost += _cost_of(lost)  # a request of it that broke off
            case RunForked():
                self.cost = self.cost.as_reused()
            case _:
                pass


def _cost_of(usage: Mapping[str, int]) -> Cost:
    money = usage.get("money_nanos", 0) / NANOS
    return Cost(usage.get("calls", 0), tokens_in(usage), money=money)


def tokens_in(usage: Mapping[str, float]) -> int:
    """Return the tokens that were read and written, of a usage by unit."""
    return int(usage.get("input_tokens", 0) + usage.get("output_tokens", 0))


def in_currency(usage: Mapping[str, int]) -> dict[str, float]:
    """Return a usage as people read it: its money in units, where events have billionths."""
    if not usage:
        return {}
    return {"money": 0.0} | {
        name.removesuffix("_nanos"): count / NANOS if name.endswith("_nanos") else count
        for name, count in usage.items()
    }
