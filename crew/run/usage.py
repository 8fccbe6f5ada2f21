"""What a run has spent: the tokens and calls of all its agents and children."""

import asyncio
import re
from collections.abc import Iterator
from dataclasses import asdict

from crew.budget import Allowance, Budget, Ledger, smaller
from crew.clock import wall_clock
from crew.errors import BudgetExceeded
from crew.event import BudgetGiven, CallKind
from crew.fold.paths import step_of
from crew.message import Json

UNANSWERED = "unanswered_tokens"
"""The unit of what calls may have cost that came to no answer, at their bounds."""
LEAST_PART = 4096
"""The tokens that a child begins with at least, where others will give some back."""
_TOKENS = ("input_tokens", "output_tokens", UNANSWERED)
_PAID_CALLS: frozenset[CallKind] = frozenset({"model", "child"})
"""An agent's usage is that of its model calls, which are counted one by one."""
_ASKED = ("reserve", "reserve_calls", "bytes", "max_tokens")
"""What is kept of the intent of a call until it ends."""
_BORDERS = re.compile(r"[/~[]|$")
"""Where the path of a call ends within one of what is called, tried again, or mapped there."""


class Usage:
    """Counts what calls cost, and reserves what those under way may still cost.

    A run has an account, and so has each call in it that was given a budget of its own. A call
    draws on all the accounts that are around it.

    Args:
        since: when the seconds of the run's own account begin to count, in unix seconds.
    """

    def __init__(self, since: float) -> None:
        self.ledger = Ledger(since=since)
        self.accounts: dict[str, Ledger] = {}
        """Those of calls, by their paths."""
        self.paid: dict[str, int] = {}
        """What the run paid, by unit."""
        self.reused: dict[str, int] = {}
        """What a fork did not have to pay, since its base's records answered."""
        self._open: dict[str, dict[str, Json]] = {}
        """What is reserved for calls that have no end, by their paths."""
        self._steps: dict[str, set[str]] = {}
        """The paths of both, by the steps that they are in."""
        self._rate, self._output_rate = 0.0, 1.0
        self._under_way: set[str] = set()
        """The model calls that were begun here, and have no end."""
        self._children: set[str] = set()
        """The children that were begun or found here, and have no end."""
        self._waiting: list[asyncio.Future[None]] = []

    def given(self, event: BudgetGiven) -> None:
        """Open an account."""
        limit = Budget(
            tokens=event.tokens,
            calls=event.calls,
            seconds=event.seconds,
            strict=bool(event.strict),
        )
        self.accounts[event.path] = Ledger(limit, event.since)
        self._note(event.path)

    def around(self, path: str) -> Iterator[Ledger]:
        """Yield the accounts that a call draws on, from the run's own down."""
        yield self.ledger
        if self.accounts:
            for place in _around(path):
                if (account := self.accounts.get(place)) is not None:
                    yield account

    def drop(self, step: str) -> None:
        """Forget the accounts of the calls of a step that is over."""
        if step not in self._steps:
            return
        self.left(step)
        for path in self._steps.pop(step):
            self.accounts.pop(path, None)
            self._open.pop(path, None)

    def _agent_left(self, path: str, call: CallKind) -> None:
        """Note that an agent has ended, or begins anew in another host: its call is left."""
        if call == "agent" and self._under_way:
            self.left(path)

    def left(self, path: str) -> None:
        """Note that nothing is under way any more in the step or the call at `path`."""
        step = step_of(path) if self._steps else path
        for place in self._steps.get(step, ()):
            if path == step or _is_in(place, path):
                self._end(place)

    def started(self, path: str, call: CallKind, data: dict[str, Json]) -> None:
        """Reserve what a call that was begun may cost."""
        if call not in _PAID_CALLS:
            self._agent_left(path, call)
            return
        before = self._open.get(path, {})
        asked = {name: data[name] for name in _ASKED if name in data}
        calls = 1 if call == "model" else asked.get("reserve_calls", 0)
        for ledger in self.around(path):
            ledger.settle(before.get("reserve", 0), _lost(before, data))
            ledger.reserve(asked.get("reserve", 0), calls)
        _add(self.paid, data.get("lost", {}))
        if asked:
            self._open[path] = asked
            self._note(path)

    def ended(self, path: str, call: CallKind, result: dict[str, Json]) -> None:
        """Count what a call that has ended did cost, in place of what was reserved for it.

        Where its `usage` is not known that stays reserved.
        """
        if call not in _PAID_CALLS:
            self._agent_left(path, call)
            return
        usage: dict[str, int] | None = result.get("usage")
        asked = self._closed(path)
        self._end(path)
        if usage is None:
            return
        if result.get("reused"):
            _add(self.reused, usage)
            usage = dict[str, int]()
        _add(self.paid, usage)
        if call == "model" and usage and not result.get("estimated"):
            self._learn(asked, usage)
        cost = tokens_of(usage)
        for ledger in self.around(path):
            ledger.settle(asked.get("reserve", 0), cost)
            if call == "child":
                ledger.settle_calls(asked.get("reserve_calls", 0), usage.get("calls", 0))

    def _note(self, path: str) -> None:
        self._steps.setdefault(step_of(path), set()).add(path)

    def _closed(self, path: str) -> dict[str, Json]:
        """Return what was reserved for a call that has ended."""
        asked = self._open.pop(path, None)
        if asked is not None and path not in self.accounts:
            self._steps[step_of(path)].discard(path)
        return asked or {}

    def _learn(self, asked: dict[str, Json], usage: dict[str, int]) -> None:
        """Remember how many tokens a request took, for the bounds of others."""
        if size := asked.get("bytes"):
            self._rate = max(self._rate, usage.get("input_tokens", 0) / size)
        if most := asked.get("max_tokens"):
            self._output_rate = max(self._output_rate, usage.get("output_tokens", 0) / most)

    def limits_tokens(self, path: str) -> bool:
        """Return whether an account around a call has a limit of tokens."""
        return any(ledger.left() is not None for ledger in self.around(path))

    def allowance(self, path: str) -> Allowance:
        """Return what a model call may spend, of all the accounts around it."""
        left: int | None = None
        for ledger in self.around(path):
            left = smaller(left, ledger.left())
        return Allowance(
            left=left or 0,
            strict=self._is_strict(path),
            rate=self._rate,
            output_rate=self._output_rate,
        )

    def _is_strict(self, path: str) -> bool:
        return any(ledger.limit and ledger.limit.strict for ledger in self.around(path))

    async def until_free(self, path: str, needed: int) -> None:
        """Return when so many tokens are left, or nothing under way can give any back."""
        while (self._under_way or self._children) and self.allowance(path).left < needed:
            await self._change()

    async def until_shareable(self, path: str) -> None:
        """Return when a child at `path` gets a part that is worth it, or nothing gives any back."""
        while self._is_held(path):
            await self._change()

    def _is_held(self, path: str) -> bool:
        """Return whether too much is reserved for others that are under way."""
        calls = [ledger.left_calls() for ledger in self.around(path)]
        if self._children and any(left is not None and left < 1 for left in calls):
            return True
        if not self.limits_tokens(path):
            return False
        left = self.allowance(path).left
        in_flight = sum(self._open[call].get("reserve", 0) for call in self._under_way)
        return (in_flight > 0 and left < in_flight) or (bool(self._children) and left < LEAST_PART)

    async def _change(self) -> None:
        """Wait for the end of a call under way."""
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        await turn

    def begun(self, path: str, call: CallKind) -> None:
        """Note that a call is under way here, whose end gives back what it does not need."""
        if call == "child":
            self._children.add(path)
        elif self.limits_tokens(path):
            self._under_way.add(path)

    def _end(self, path: str) -> None:
        self._under_way.discard(path)
        self._children.discard(path)
        waiting, self._waiting = self._waiting, list[asyncio.Future[None]]()
        for turn in waiting:
            if not turn.done():
                turn.set_result(None)

    def forked(self) -> None:
        """Note that a fork begins: what was paid so far it does not pay."""
        _add(self.reused, self.paid)
        self.paid = dict[str, int]()
        self.ledger = Ledger(since=self.ledger.since)
        self.accounts.clear()
        self._open.clear()
        self._steps.clear()

    def total(self) -> dict[str, int]:
        """Return what the run cost, by unit, with the bounds of calls that nobody answered."""
        answered = tokens_of({**self.paid, UNANSWERED: 0})
        unanswered = self.ledger.spent + self.ledger.reserved - answered
        return {**self.paid, UNANSWERED: unanswered} if unanswered > 0 else dict(self.paid)

    def check(self, run: str, path: str, asked: dict[str, Json]) -> None:
        """Let a model call be made that may cost so many tokens.

        Raises:
            BudgetExceeded: an account around it has not so many left, no call, or no time.
        """
        before = self._open.get(path, {})
        freed = before.get("reserve", 0) - _lost(before, asked)
        needed = asked.get("reserve", 0)
        for ledger in self.around(path):
            if (left := ledger.left()) is not None and needed > left + freed:
                raise BudgetExceeded(run=run, path=path, needed=needed, left=left + freed)
            if (calls := ledger.left_calls()) is not None and calls < 1:
                raise BudgetExceeded(run=run, path=path, needed=1, left=calls, unit="calls")
            if (until := ledger.until()) is not None and wall_clock() >= until:
                raise BudgetExceeded(run=run, path=path, needed=1, left=0, unit="seconds")

    def share(self, run: str, path: str) -> dict[str, Json]:
        """Return what a child gets: an equal part for each that asks, of what is left around it.

        Where that were less than `LEAST_PART` fewer get one, and the others wait.

        Raises:
            BudgetExceeded: that is nothing.
        """
        tokens: int | None = None
        calls: int | None = None
        until: float | None = None
        for ledger in self.around(path):
            tokens = smaller(tokens, _part(ledger.left(), ledger.asking, LEAST_PART))
            calls = smaller(calls, _part(ledger.left_calls(), ledger.asking, 1))
            until = smaller(until, ledger.until())
        for unit, count in (("tokens", tokens), ("calls", calls)):
            if count is not None and count < 1:
                raise BudgetExceeded(run=run, path=path, needed=1, left=count, unit=unit)
        share = {"reserve": tokens, "reserve_calls": calls, "until": until}
        known = {name: value for name, value in share.items() if value is not None}
        return {**known, "strict": True} if known and self._is_strict(path) else known

    def to_data(self) -> dict[str, Json]:
        """Return everything but the run's own limit as JSON, for a snapshot."""
        return {
            "usage": self.paid,
            "reused": self.reused,
            "account": self.ledger.to_data(),
            "accounts": {
                path: [account.since, _limit_data(account.limit), account.to_data()]
                for path, account in self.accounts.items()
            },
            "open_calls": self._open,
            "rates": [self._rate, self._output_rate],
        }

    def load(self, data: dict[str, Json]) -> None:
        """Know what `to_data` gave."""
        self.paid, self.reused, self._open = data["usage"], data["reused"], data["open_calls"]
        self._rate, self._output_rate = data["rates"]
        self.ledger.load(data["account"])
        for path, (since, limit, spent) in data["accounts"].items():
            account = self.accounts[path] = Ledger(Budget(**limit), since)
            account.load(spent)
        for path in (*self.accounts, *self._open):
            self._note(path)


def tokens_of(usage: dict[str, int]) -> int:
    """Return the tokens that a usage is drawn from a budget for."""
    return sum(usage.get(name, 0) for name in _TOKENS)


def share_in(data: dict[str, Json]) -> Budget | None:
    """Return what a child was given when it was first started."""
    tokens, calls, until = (data.get(name) for name in ("reserve", "reserve_calls", "until"))
    if tokens is calls is until is None:
        return None
    # One whose time is up is ended by its driver, not here.
    seconds = None if until is None else max(until - wall_clock(), 0.001)
    strict = data.get("strict", False)
    return Budget(tokens=tokens, calls=calls, seconds=seconds, strict=strict)


def _around(path: str) -> Iterator[str]:
    """Yield the paths of the calls around a call and of itself, from the outside in."""
    for border in _BORDERS.finditer(path):
        yield path[: border.start()] + ("[]" if border[0] == "[" else "")


def _lost(before: dict[str, Json], asked: dict[str, Json]) -> int:
    """Return what an earlier request of a call cost: what is known of it, or else its bound."""
    lost: dict[str, int] | None = asked.get("lost")
    return before.get("reserve", 0) if lost is None else tokens_of(lost)


def _is_in(path: str, call: str) -> bool:
    return path.startswith(call) and path[len(call) : len(call) + 1] in ("", "/")


def _part(left: int | None, asking: int, least: int) -> int | None:
    """Return an equal part of what is left, but none below `least`, if there is so much."""
    return None if left is None else left // max(1, min(asking, left // least))


def _limit_data(limit: Budget | None) -> dict[str, Json]:
    return asdict(limit) if limit is not None else {}


def _add(total: dict[str, int], more: dict[str, int]) -> None:
    for name, count in more.items():
        total[name] = total.get(name, 0) + count
