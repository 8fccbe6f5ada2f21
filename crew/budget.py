"""Limits shared by everything in a run, and the arithmetic of spending them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

from crew.define import define, frozen

NANOS = 1_000_000_000
"""The parts of a unit of money in which costs are added up, so that no cent is lost in a sum."""
_PLACES = 9
UNLIMITED = 1 << 62
"""More tokens than anything takes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """What a run, or a call in one, may spend, with its agents and children.

    Args:
        tokens: input and output together.
        calls: of models.
        seconds: since the run was accepted or the call was made, those in which it waits included.
        money: what its tokens may cost, in the currency of the models' prices; a model without a
            price cannot be asked then.
        strict: refuse a call of a model whose tokens can neither be bounded nor counted before it
            is made, instead of estimating them; see promise 10 of docs/design.md.
    """

    tokens: int | None = None
    calls: int | None = None
    seconds: float | None = None
    strict: bool = False
    money: float | None = None

    def __post_init__(self) -> None:
        if self.tokens is self.calls is self.seconds is self.money is None:
            raise ValueError("a budget limits tokens, calls, seconds or money; none was given")
        for name, value in (("tokens", self.tokens), ("calls", self.calls)):
            if value is not None and value < 1:
                raise ValueError(f"{name} must be 1 or more, not {value}")
        if self.seconds is not None and not self.seconds > 0:
            raise ValueError(f"seconds must be above 0, not {self.seconds}")
        if self.money is not None and not self.money > 0:
            raise ValueError(f"money must be above 0, not {self.money}")

    @property
    def money_nanos(self) -> int | None:
        """The limit of money in billionths, as it is reckoned with."""
        return None if self.money is None else round(self.money * NANOS)

    def within(self, other: "Budget | None") -> "Budget":
        """Return what both allow: of each limit the smaller."""
        if other is None:
            return self
        return Budget(
            tokens=smaller(self.tokens, other.tokens),
            calls=smaller(self.calls, other.calls),
            seconds=smaller(self.seconds, other.seconds),
            strict=self.strict or other.strict,
            money=smaller(self.money, other.money),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetLeft:
    """What is left of all the budgets around some code; None where nothing limits it.

    What is reserved for calls of models under way counts as spent until their answers have come.
    """

    tokens: int | None = None
    calls: int | None = None
    seconds: float | None = None
    money: float | None = None


def budget_left(
    tokens: int | None, calls: int | None, nanos: int | None, seconds: float | None
) -> BudgetLeft:
    """Return what is left; what was passed is 0."""
    return BudgetLeft(
        tokens=None if tokens is None else max(tokens, 0),
        calls=None if calls is None else max(calls, 0),
        seconds=None if seconds is None else max(seconds, 0.0),
        money=None if nanos is None else max(nanos, 0) / NANOS,
    )


Limits: TypeAlias = tuple[int | None, int | None, float | None, bool | None, float | None]
"""Tokens, calls, seconds, whether it is strict, and money, as events hold them."""


def limits_of(budget: Budget | None) -> Limits:
    """Return what a budget limits, as events hold it; nothing where there is none."""
    if budget is None:
        return None, None, None, None, None
    return budget.tokens, budget.calls, budget.seconds, budget.strict or None, budget.money


class Amount:
    """Tokens, and the money that they cost in billionths; nobody changes one."""

    # No frozen dataclass: several are made for each call, at three times the cost.
    __slots__ = ("money", "tokens")

    def __init__(self, tokens: int = 0, money: int = 0) -> None:
        self.tokens, self.money = tokens, money

    def __repr__(self) -> str:
        return f"Amount({self.tokens}, {self.money})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Amount):
            return NotImplemented
        return (self.tokens, self.money) == (other.tokens, other.money)

    def __hash__(self) -> int:
        return hash((self.tokens, self.money))

    def __add__(self, other: "Amount") -> "Amount":
        return Amount(self.tokens + other.tokens, self.money + other.money)

    def __sub__(self, other: "Amount") -> "Amount":
        return Amount(self.tokens - other.tokens, self.money - other.money)

    def __bool__(self) -> bool:
        return bool(self.tokens or self.money)

    def fits(self, tokens: int | None, money: int | None) -> bool:
        """Return whether so much, where None is no limit, is enough."""
        return (tokens is None or self.tokens <= tokens) and (money is None or self.money <= money)


NOTHING = Amount()


@frozen
class Account:
    """Where a run, or a call in one, draws on a limit together with what is beneath it.

    Its `id` is that of the run; that of a call has its path behind it. Money is in billionths.
    """

    id: str
    tokens: int | None = None
    calls: int | None = None
    strict: bool = False
    money: int | None = None


def accounts_data(accounts: Iterable[Account]) -> list[list[str | int | bool | None]]:
    """Return accounts as events hold them."""
    return [[each.id, each.tokens, each.calls, each.strict, each.money] for each in accounts]


def accounts_in(data: Iterable[Iterable[Any]] | None) -> tuple[Account, ...]:
    """Return the accounts that an event holds."""
    return tuple(Account(*each) for each in data or ())


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowance:
    """What a model call may spend, and what its run has seen of how tokens are counted."""

    left: int
    """Tokens that may still be reserved; `UNLIMITED` where nothing limits them."""
    money: int | None = None
    """Billionths of money that may; None where nothing limits it."""
    strict: bool = False
    rate: float = 0.0
    """The most tokens a byte of a request that an endpoint counted; 0 if none did."""
    output_rate: float = 1.0
    """How far an answer went beyond its limit at most, at an endpoint that does not keep to it."""


@define
class Ledger:
    """An account: what was spent of a budget, and what calls in flight may still spend.

    A call is reserved at its upper bound before it leaves, and settled at its true cost when its
    answer is recorded; one without an answer stays reserved, since it may have been paid.
    """

    limit: Budget | None = None
    since: float = 0.0
    """When its seconds begin to count, in unix seconds."""
    spent: Amount = NOTHING
    reserved: Amount = NOTHING
    calls: int = 0
    """Calls that were made, or are reserved."""

    @property
    def drawn(self) -> Amount:
        """What was spent, or is reserved."""
        return self.spent + self.reserved

    def left(self) -> int | None:
        """Return the tokens that may still be reserved, or None without a limit."""
        if self.limit is None or self.limit.tokens is None:
            return None
        return self.limit.tokens - self.drawn.tokens

    def left_money(self) -> int | None:
        """Return the billionths of money that may still be reserved, or None without a limit."""
        if self.limit is None or (money := self.limit.money_nanos) is None:
            return None
        return money - self.drawn.money

    def left_calls(self) -> int | None:
        """Return the model calls that may still be reserved, or None without a limit."""
        if self.limit is None or self.limit.calls is None:
            return None
        return self.limit.calls - self.calls

    def until(self) -> float | None:
        """Return when its time is up, in unix seconds; None without a limit."""
        if self.limit is None or self.limit.seconds is None:
            return None
        return self.since + self.limit.seconds

    def reserve(self, bound: Amount, calls: int) -> None:
        self.reserved += bound
        self.calls += calls

    def settle(self, bound: Amount, cost: Amount) -> None:
        self.reserved -= bound
        self.spent += cost

    def to_data(self) -> dict[str, int]:
        """Return what was spent as JSON, without the limit."""
        data = {"spent": self.spent.tokens, "reserved": self.reserved.tokens, "calls": self.calls}
        money = {"money": self.spent.money, "reserved_money": self.reserved.money}
        return data | {name: nanos for name, nanos in money.items() if nanos}

    def load(self, data: Mapping[str, int]) -> None:
        """Know what `to_data` gave."""
        self.spent = Amount(data["spent"], data.get("money", 0))
        self.reserved = Amount(data["reserved"], data.get("reserved_money", 0))
        self.calls = data["calls"]


def money_sum(one: float, other: float) -> float:
    """Add money in units; exact to a billionth, up to some million units."""
    return round(one + other, _PLACES)


N = TypeVar("N", int, float)


def smaller(one: N | None, other: N | None) -> N | None:
    """Return the smaller of two limits, where None is none."""
    return other if one is None else one if other is None else min(one, other)
