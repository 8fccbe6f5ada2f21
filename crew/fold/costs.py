"""What the models of a run cost, and what another run's records spared it."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from crew.budget import NANOS
from crew.event import CallCompleted, CallFailed, CallStarted, RunEvent, RunForked


@dataclass(frozen=True, slots=True)
class Cost:
    """What a run paid for models, and what another run's records spared it; money in billionths."""

    calls: int = 0
    tokens: int = 0
    reused_calls: int = 0
    reused_tokens: int = 0
    money_nanos: int = 0
    reused_money_nanos: int = 0

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(
            self.calls + other.calls,
            self.tokens + other.tokens,
            self.reused_calls + other.reused_calls,
            self.reused_tokens + other.reused_tokens,
            self.money_nanos + other.money_nanos,
            self.reused_money_nanos + other.reused_money_nanos,
        )

    @property
    def money(self) -> float:
        """What the run paid, in the currency of the models' prices."""
        return self.money_nanos / NANOS

    @property
    def reused_money(self) -> float:
        """What it was spared."""
        return self.reused_money_nanos / NANOS

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
        nanos = self.money_nanos + self.reused_money_nanos
        return Cost(0, 0, self.all_calls, self.all_tokens, 0, nanos)


@dataclass(slots=True)
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
    calls, nanos = usage.get("calls", 0), usage.get("money_nanos", 0)
    return Cost(calls, tokens_in(usage), money_nanos=nanos)


def tokens_in(usage: Mapping[str, float]) -> int:
    """Return the tokens that were read and written, of a usage by unit."""
    return int(usage.get("input_tokens", 0) + usage.get("output_tokens", 0))


def in_currency(usage: Mapping[str, int]) -> dict[str, float]:
    """Return a usage as people read it: its money in units, where events have billionths."""
    return {
        name.removesuffix("_nanos"): count / NANOS if name.endswith("_nanos") else count
        for name, count in usage.items()
    }
