"""What the models of a run cost, and what another run's records spared it."""

from dataclasses import dataclass, field

from crew.event import CallCompleted, RunEvent, RunForked


@dataclass(frozen=True, slots=True)
class Cost:
    """Model calls and tokens that a run paid, and those that another run's records spared it."""

    calls: int = 0
    tokens: int = 0
    reused_calls: int = 0
    reused_tokens: int = 0

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(
            self.calls + other.calls,
            self.tokens + other.tokens,
            self.reused_calls + other.reused_calls,
            self.reused_tokens + other.reused_tokens,
        )

    @property
    def all_calls(self) -> int:
        """The calls that the run would have paid alone."""
        return self.calls + self.reused_calls

    @property
    def all_tokens(self) -> int:
        """The tokens that the run would have paid alone."""
        return self.tokens + self.reused_tokens


@dataclass(slots=True)
class Costs:
    """Adds up what a run cost; the prefix that a fork shares with its base was not paid."""

    cost: Cost = field(default_factory=Cost)

    def apply(self, event: RunEvent, offset: int, at: float) -> None:
        match event:
            case CallCompleted(call="model" | "child", data=data):
                usage: dict[str, int] = data.get("usage") or {}
                calls, tokens = usage.get("calls", 0), tokens_in(usage)
                spared = bool(data.get("reused"))
                self.cost += Cost(0, 0, calls, tokens) if spared else Cost(calls, tokens)
            case RunForked():
                self.cost = Cost(0, 0, self.cost.all_calls, self.cost.all_tokens)
            case _:
                pass


def tokens_in(usage: dict[str, int]) -> int:
    """Return the tokens that were read and written, of a usage by unit."""
    return usage.get("input_tokens", 0) + usage.get("output_tokens", 0)
