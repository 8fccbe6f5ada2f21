"""What a run has spent of its budgets: the tokens and calls of all its agents and children."""

from crew.budget import NOTHING, Amount, Budget, accounts_in
from crew.event import (
    BudgetGiven,
    CallCompleted,
    CallFailed,
    CallKind,
    CallStarted,
    RunEvent,
    RunForked,
    RunStarted,
)
from crew.fold.ledgers import Ledgers
from crew.fold.paths import step_of
from crew.message import Json

UNANSWERED = "unanswered_tokens"
"""The unit of what calls may have cost that came to no answer, at their bounds."""
UNANSWERED_MONEY = "unanswered_money_nanos"
_ASKED = ("reserve", "bytes", "max_tokens", "reserve_money")
"""What is kept of the intent of a call until it ends."""


class Accounts:
    """Counts what calls cost, and reserves what those without an end may still cost.

    An agent's usage is that of its model calls, which are counted one by one.

    Args:
        since: when the seconds of the run's own account begin to count, in unix seconds.
    """

    def __init__(self, since: float) -> None:
        self.ledgers = Ledgers(since)
        self.is_shared = False
        """Whether it has a part in accounts that other runs draw on: those above, or its own."""
        self.reused: dict[str, int] = {}
        """What a fork did not have to pay, since its base's records answered, by unit."""
        self.rate, self.output_rate = 0.0, 1.0
        """As an `Allowance` has them."""
        self._paid: dict[str, int] = {}
        """What the run paid for calls of its own."""
        self._below: dict[str, int] = {}
        """What its children did."""
        self._beside: dict[str, int] = {}
        """What those of them did that drew on no account of this run: no limit was around them."""
        self._drawing: set[str] = set()
        """The paths of the others, while they have no end."""
        self._open: dict[str, dict[str, Json]] = {}
        """What is reserved for calls that have no end, by their paths."""
        self._steps: dict[str, set[str]] = {}
        """The paths of both, by the steps that they are in."""

    def apply(self, event: RunEvent, offset: int = 0, at: float = 0.0) -> None:
        match event:
            case RunStarted(above=above):
                self.ledgers.run.limit = _budget_of(event)
                self.ledgers.above = accounts_in(above)
                self.is_shared = self.is_shared or bool(above)
            case CallStarted(path=path, call="model", data=data):
                self._reserve(path, data)
            case CallStarted(path=path, call="child", data=data):
                if "shared" in data:
                    self.is_shared = True
                    self._drawing.add(path)
            case CallCompleted(path=path, call="model" | "child" as call, data=data):
                self._count(path, call, data)
            case CallFailed(path=path, call="model" | "child" as call, usage=usage):
                self._count(path, call, {"usage": usage})
            case BudgetGiven(path=path):
                self.ledgers.given(event)
                self._note(path)
            case RunForked():
                self._forked()
            case _:
                pass

    def drop(self, step: str) -> None:
        """Forget the accounts of the calls of a step that is over."""
        for path in self._steps.pop(step, ()):
            self.ledgers.of_calls.pop(path, None)
            self._open.pop(path, None)
        if self._drawing:
            self._drawing = {path for path in self._drawing if step_of(path) != step}

    def bound_of(self, path: str) -> Amount:
        """Return what is reserved for a call that has no end."""
        asked = self._open.get(path)
        return NOTHING if asked is None else _reserved(asked)

    def places_in(self, path: str) -> list[str]:
        """Return the paths of accounts and open calls in the step or the call at `path`."""
        step = step_of(path) if self._steps else path
        return [place for place in self._steps.get(step, ()) if path == step or _is_in(place, path)]

    def needed(self, path: str, asked: dict[str, Json]) -> tuple[Amount, Amount]:
        """Return what a model call may cost, and what it frees that was reserved for it before."""
        freed = self.bound_of(path) - self._lost(path, asked)
        return _reserved(asked), freed

    def total(self, drawn: Amount | None = None) -> dict[str, int]:
        """Return what the run cost, by unit, with the bounds of calls that nobody answered.

        Args:
            drawn: what is drawn on its account by it and beneath it, where that lies in rows.
        """
        if drawn is None and not (self._paid or self._below or self.ledgers.run.drawn):
            return {}
        known = dict(self._paid)
        _add(known, self._below)
        below = Amount(self._below.get(UNANSWERED, 0), self._below.get(UNANSWERED_MONEY, 0))
        if drawn is None:
            unanswered = self.ledgers.run.drawn - _answered(self._paid) + below
        else:
            unanswered = drawn - (_answered(known) - amount_of(self._beside))
        units = {UNANSWERED: unanswered.tokens, UNANSWERED_MONEY: unanswered.money}
        return {name: count for name, count in known.items() if name not in units} | {
            name: count for name, count in units.items() if count > 0
        }

    def to_data(self) -> dict[str, Json]:
        """Return everything but the run's own limit as JSON, for a snapshot."""
        return {
            "usage": self._paid,
            "below": self._below,
            "beside": self._beside,
            "drawing": sorted(self._drawing),
            "shared": self.is_shared,
            "reused": self.reused,
            **self.ledgers.to_data(),
            "open_calls": self._open,
            "rates": [self.rate, self.output_rate],
        }

    def load(self, data: dict[str, Json]) -> None:
        """Know what `to_data` gave."""
        self._paid, self.reused, self._open = data["usage"], data["reused"], data["open_calls"]
        self._below, self._beside = data["below"], data["beside"]
        self._drawing, self.is_shared = set(data["drawing"]), data["shared"]
        self.rate, self.output_rate = data["rates"]
        self.ledgers.load(data)
        for path in (*self.ledgers.of_calls, *self._open):
            self._note(path)

    def _reserve(self, path: str, data: dict[str, Json]) -> None:
        if "reserve" not in data and "lost" not in data and path not in self._open:
            for ledger in self.ledgers.around(path):
                ledger.reserve(NOTHING, 1)
            return
        bound, lost = self.bound_of(path), self._lost(path, data)
        asked = {name: data[name] for name in _ASKED if name in data}
        for ledger in self.ledgers.around(path):
            ledger.settle(bound, lost)
            ledger.reserve(_reserved(asked), 1)
        _add(self._paid, data.get("lost", {}))
        if asked:
            self._open[path] = asked
            self._note(path)

    def _lost(self, path: str, asked: dict[str, Json]) -> Amount:
        """Return what an earlier request of a call cost: what is known, or else its bound."""
        lost: dict[str, int] | None = asked.get("lost")
        return self.bound_of(path) if lost is None else amount_of(lost)

    def _count(self, path: str, call: CallKind, result: dict[str, Json]) -> None:
        """Count what a call that has ended did cost, in place of what was reserved for it.

        Where its `usage` is not known that stays reserved.
        """
        usage: dict[str, int] | None = result.get("usage")
        if usage is not None and result.get("reused"):
            _add(self.reused, usage)
            usage = dict[str, int]()
        if call == "child":
            self._count_child(path, usage or {})
            return
        asked = self._closed(path)
        if usage is None:
            return
        _add(self._paid, usage)
        if asked and usage and not result.get("estimated"):
            self._learn(asked, usage)
        reserved, cost = _reserved(asked) if asked else NOTHING, amount_of(usage)
        for ledger in self.ledgers.around(path):
            ledger.settle(reserved, cost)

    def _count_child(self, path: str, usage: dict[str, int]) -> None:
        _add(self._below, usage)
        if path not in self._drawing:
            _add(self._beside, usage)
        self._drawing.discard(path)

    def _closed(self, path: str) -> dict[str, Json]:
        """Return what was reserved for a call that has ended."""
        asked = self._open.pop(path, None)
        if asked is not None and path not in self.ledgers.of_calls:
            self._steps[step_of(path)].discard(path)
        return asked or {}

    def _learn(self, asked: dict[str, Json], usage: dict[str, int]) -> None:
        """Remember how many tokens a request took, for the bounds of others."""
        if size := asked.get("bytes"):
            self.rate = max(self.rate, usage.get("input_tokens", 0) / size)
        if most := asked.get("max_tokens"):
            self.output_rate = max(self.output_rate, usage.get("output_tokens", 0) / most)

    def _forked(self) -> None:
        """A fork begins: what was paid so far it does not pay."""
        _add(self.reused, self._paid)
        _add(self.reused, self._below)
        self._paid, self._below = dict[str, int](), dict[str, int]()
        self._beside = dict[str, int]()
        self._drawing.clear()
        self.ledgers.forked()
        self._open.clear()
        self._steps.clear()

    def _note(self, path: str) -> None:
        self._steps.setdefault(step_of(path), set()).add(path)


def amount_of(usage: dict[str, int]) -> Amount:
    """Return what a usage draws from a budget."""
    tokens = usage.get("input_tokens", 0) + usage.get("output_tokens", 0)
    return Amount(
        tokens + usage.get(UNANSWERED, 0),
        usage.get("money_nanos", 0) + usage.get(UNANSWERED_MONEY, 0),
    )


def _answered(usage: dict[str, int]) -> Amount:
    return amount_of({**usage, UNANSWERED: 0, UNANSWERED_MONEY: 0})


def _reserved(asked: dict[str, Json]) -> Amount:
    return Amount(asked.get("reserve", 0), asked.get("reserve_money", 0))


def _budget_of(started: RunStarted) -> Budget | None:
    limits = (started.budget, started.budget_calls, started.budget_seconds, started.budget_money)
    if all(limit is None for limit in limits):
        return None
    return Budget(
        tokens=started.budget,
        calls=started.budget_calls,
        seconds=started.budget_seconds,
        strict=bool(started.budget_strict),
        money=started.budget_money,
    )


def _is_in(path: str, call: str) -> bool:
    return path.startswith(call) and path[len(call) : len(call) + 1] in ("", "/")


def _add(total: dict[str, int], more: dict[str, int]) -> None:
    for name, count in more.items():
        total[name] = total.get(name, 0) + count
