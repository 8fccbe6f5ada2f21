"""The accounts of one run: its own, those of its calls, and those above it that it draws on."""

import re
from collections.abc import Iterator
from dataclasses import asdict

from crew.budget import UNLIMITED, Account, Budget, Ledger, smaller
from crew.event import BudgetGiven
from crew.message import Json

_BORDERS = re.compile(r"[/~[]|$")
"""Where the path of a call ends within one of what is called, tried again, or mapped there."""


class Ledgers:
    """Finds what is around a call.

    A run has an account, and so has each call in it that was given a budget of its own. A call
    draws on all those that are around it.

    Args:
        since: when the seconds of the run's own account begin to count, in unix seconds.
    """

    def __init__(self, since: float) -> None:
        self.run = Ledger(since=since)
        self.of_calls: dict[str, Ledger] = {}
        """By the paths of the calls."""
        self.above: tuple[Account, ...] = ()
        """Those of the runs above this one, the outermost first."""

    def given(self, event: BudgetGiven) -> None:
        """Open the account of a call."""
        limit = Budget(
            tokens=event.tokens,
            calls=event.calls,
            seconds=event.seconds,
            strict=bool(event.strict),
            money=event.money,
        )
        self.of_calls[event.path] = Ledger(limit, event.since)

    def around(self, path: str) -> Iterator[Ledger]:
        """Yield what of this run a call draws on, from the run's own down."""
        yield self.run
        if self.of_calls:
            for place in _around(path):
                if (account := self.of_calls.get(place)) is not None:
                    yield account

    @property
    def are_free(self) -> bool:
        """Whether nothing is limited anywhere in the run, which is so for most."""
        return self.run.limit is None and not self.of_calls and not self.above

    def limits_amounts(self, path: str) -> bool:
        """Return whether there is a limit of tokens or of money around a call."""
        if self.are_free:
            return False
        if any(not (each.tokens is each.money is None) for each in self.above):
            return True
        return any(
            not (ledger.left() is ledger.left_money() is None) for ledger in self.around(path)
        )

    def limits_children(self, path: str) -> bool:
        """Return whether a child at `path` draws on anything beside its own."""
        if self.above or self.limits_amounts(path):
            return True
        return any(ledger.left_calls() is not None for ledger in self.around(path))

    def is_strict(self, path: str) -> bool:
        """Return whether a budget around a call is strict."""
        if any(account.strict for account in self.above):
            return True
        return any(ledger.limit and ledger.limit.strict for ledger in self.around(path))

    def left(self, path: str) -> tuple[int, int | None]:
        """Return the tokens and the money that a call may reserve, of what is around it here."""
        tokens = money = None
        for ledger in self.around(path):
            tokens = smaller(tokens, ledger.left())
            money = smaller(money, ledger.left_money())
        return UNLIMITED if tokens is None else tokens, money

    def left_calls(self, path: str) -> int | None:
        """Return the calls of models that may be made at `path`; None without a limit."""
        calls: int | None = None
        for ledger in self.around(path):
            calls = smaller(calls, ledger.left_calls())
        return calls

    def until(self, path: str) -> float | None:
        """Return when the time of what is around a call is up, in unix seconds, if it has some."""
        until: float | None = None
        for ledger in self.around(path):
            until = smaller(until, ledger.until())
        return until

    def accounts(self, run: str, path: str) -> tuple[Account, ...]:
        """Return what is around a call in this run, as others know it; the first is the run's."""
        places = [place for place in _around(path) if place in self.of_calls]
        return (
            _account(run, self.run),
            *(_account(_name(run, place), self.of_calls[place]) for place in places),
        )

    def named(self, run: str) -> Iterator[tuple[str, str, Ledger]]:
        """Yield the id of each account of this run, its place, and the account; the run's first."""
        yield run, "", self.run
        for place, ledger in self.of_calls.items():
            yield _name(run, place), place, ledger

    def forked(self) -> None:
        """Note that a fork begins, of which nothing was spent."""
        self.run = Ledger(since=self.run.since)
        self.of_calls.clear()

    def to_data(self) -> dict[str, Json]:
        """Return everything but the run's own limit as JSON, for a snapshot."""
        return {
            "account": self.run.to_data(),
            "accounts": {
                path: [account.since, _limit_data(account.limit), account.to_data()]
                for path, account in self.of_calls.items()
            },
        }

    def load(self, data: dict[str, Json]) -> None:
        """Know what `to_data` gave."""
        self.run.load(data["account"])
        for path, (since, limit, spent) in data["accounts"].items():
            account = self.of_calls[path] = Ledger(Budget(**limit), since)
            account.load(spent)


def is_around(place: str, path: str) -> bool:
    """Return whether a call draws on the account at a place; that of the run is at none."""
    return not place or place in _around(path)


def _around(path: str) -> Iterator[str]:
    """Yield the paths of the calls around a call and of itself, from the outside in."""
    for border in _BORDERS.finditer(path):
        yield path[: border.start()] + ("[]" if border[0] == "[" else "")


def _name(run: str, place: str) -> str:
    return f"{run}:{place}"


def _account(name: str, ledger: Ledger) -> Account:
    limit = ledger.limit
    if limit is None:
        return Account(name)
    return Account(name, limit.tokens, limit.calls, limit.strict, limit.money_nanos)


def _limit_data(limit: Budget | None) -> dict[str, Json]:
    return asdict(limit) if limit is not None else {}
