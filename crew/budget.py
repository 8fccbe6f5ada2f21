"""Limits shared by everything in a run, and the arithmetic of spending them."""

from dataclasses import dataclass
from typing import TypeVar


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """What a run may spend, with its agents and children.

    Args:
        tokens: input and output together.
        calls: of models.
        seconds: since the run was accepted, those in which it waits included.
    """

    tokens: int | None = None
    calls: int | None = None
    seconds: float | None = None

    def __post_init__(self) -> None:
        if self.tokens is self.calls is self.seconds is None:
            raise ValueError("a budget limits tokens, calls or seconds; none was given")
        for name, value in (("tokens", self.tokens), ("calls", self.calls)):
            if value is not None and value < 1:
                raise ValueError(f"{name} must be 1 or more, not {value}")
        if self.seconds is not None and not self.seconds > 0:
            raise ValueError(f"seconds must be above 0, not {self.seconds}")

    def within(self, other: "Budget | None") -> "Budget":
        """Return what both allow: of each limit the smaller."""
        if other is None:
            return self
        return Budget(
            tokens=smaller(self.tokens, other.tokens),
            calls=smaller(self.calls, other.calls),
            seconds=smaller(self.seconds, other.seconds),
        )


@dataclass(slots=True)
class Ledger:
    """What a run spent, and what its calls in flight may still spend.

    A call is reserved at its upper bound before it leaves, and settled at its true cost when its
    answer is recorded; one without an answer stays reserved, since it may have been paid.
    """

    limit: Budget | None = None
    spent: int = 0
    reserved: int = 0
    calls: int = 0
    """Calls that were made, or are reserved."""

    def left(self) -> int | None:
        """Return the tokens that may still be reserved, or None without a limit."""
        if self.limit is None or self.limit.tokens is None:
            return None
        return self.limit.tokens - self.spent - self.reserved

    def left_calls(self) -> int | None:
        """Return the model calls that may still be reserved, or None without a limit."""
        if self.limit is None or self.limit.calls is None:
            return None
        return self.limit.calls - self.calls

    def until(self, began: float) -> float | None:
        """Return when its time is up; None without a limit. Both are unix seconds."""
        if self.limit is None or self.limit.seconds is None:
            return None
        return began + self.limit.seconds

    def reserve(self, bound: int, calls: int) -> None:
        self.reserved += bound
        self.calls += calls

    def settle(self, bound: int, cost: int) -> None:
        self.reserved -= bound
        self.spent += cost

    def settle_calls(self, bound: int, made: int) -> None:
        self.calls += made - bound


N = TypeVar("N", int, float)


def smaller(one: N | None, other: N | None) -> N | None:
    """Return the smaller of two limits, where None is none."""
    return other if one is None else one if other is None else min(one, other)
