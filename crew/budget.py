"""A limit on tokens, shared by everything in a run, and the arithmetic of spending it."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """At most `tokens` tokens, input and output together, over a run and its children."""

    tokens: int

    def __post_init__(self) -> None:
        if self.tokens < 1:
            raise ValueError(f"tokens must be 1 or more, not {self.tokens}")


@dataclass(slots=True)
class Ledger:
    """What a run spent, and what its calls in flight may still spend.

    A call is reserved at its upper bound before it leaves, and settled at its true cost when its
    answer is recorded; one without an answer stays reserved, since it may have been paid.
    """

    limit: int | None = None
    spent: int = 0
    reserved: int = 0

    def left(self) -> int | None:
        """Return the tokens that may still be reserved, or None without a limit."""
        return None if self.limit is None else self.limit - self.spent - self.reserved

    def reserve(self, bound: int) -> None:
        self.reserved += bound

    def settle(self, bound: int, cost: int) -> None:
        self.reserved -= bound
        self.spent += cost
