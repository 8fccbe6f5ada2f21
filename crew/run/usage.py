"""What a run has spent: the tokens and calls of all its agents and children."""

import asyncio
from collections.abc import Iterator
from typing import Protocol

from crew.budget import Allowance
from crew.clock import wall_clock
from crew.errors import BudgetExceeded
from crew.event import BudgetGiven, CallKind
from crew.fold.paths import step_of
from crew.journal import Drawn
from crew.message import Json
from crew.run.ledgers import Ledgers, is_around

UNANSWERED = "unanswered_tokens"
"""The unit of what calls may have cost that came to no answer, at their bounds."""
_TOKENS = ("input_tokens", "output_tokens", UNANSWERED)
_PAID_CALLS: frozenset[CallKind] = frozenset({"model", "child"})
"""An agent's usage is that of its model calls, which are counted one by one."""
_ASKED = ("reserve", "bytes", "max_tokens")
"""What is kept of the intent of a call until it ends."""


class Shared(Protocol):
    """Where a run draws on accounts that are not its own alone; see `crew.run.sharing`."""

    def change(self, path: str, amount: Drawn) -> None:
        """Give back what a call at `path` does not need, or has spent beyond."""
        ...


class Usage:
    """Counts what calls cost, and reserves what those under way may still cost.

    Args:
        since: when the seconds of the run's own account begin to count, in unix seconds.
    """

    def __init__(self, since: float) -> None:
        self.ledgers = Ledgers(since)
        self.is_shared = False
        """Whether it has a part in accounts that other runs draw on: those above, or its own."""
        self.shared: Shared | None = None
        """They, where the run is driven and has a part in them."""
        self.paid: dict[str, int] = {}
        """What the run paid for calls of its own, by unit."""
        self.below: dict[str, int] = {}
        """What its children did."""
        self.reused: dict[str, int] = {}
        """What a fork did not have to pay, since its base's records answered."""
        self._open: dict[str, dict[str, Json]] = {}
        """What is reserved for calls that have no end, by their paths."""
        self._steps: dict[str, set[str]] = {}
        """The paths of both, by the steps that they are in."""
        self._rate, self._output_rate = 0.0, 1.0
        self._under_way: set[str] = set()
        """The model calls that were begun here, and have no end."""
        self._waiting: list[asyncio.Future[None]] = []

    def given(self, event: BudgetGiven) -> None:
        """Open an account."""
        self.ledgers.given(event)
        self._note(event.path)

    def drop(self, step: str) -> None:
        """Forget the accounts of the calls of a step that is over."""
        if step not in self._steps:
            return
        self.left(step)
        for path in self._steps.pop(step):
            self.ledgers.of_calls.pop(path, None)
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
                self._end(place, self._open.get(place, {}).get("reserve", 0))

    def started(self, path: str, call: CallKind, data: dict[str, Json]) -> None:
        """Reserve what a call that was begun may cost."""
        if call not in _PAID_CALLS:
            self._agent_left(path, call)
            return
        if call == "child":
            self.is_shared = self.is_shared or "shared" in data
            return
        before = self._open.get(path, {})
        asked = {name: data[name] for name in _ASKED if name in data}
        for ledger in self.ledgers.around(path):
            ledger.settle(before.get("reserve", 0), _lost(before, data))
            ledger.reserve(asked.get("reserve", 0), 1)
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
        if usage is not None and result.get("reused"):
            _add(self.reused, usage)
            usage = dict[str, int]()
        if call == "child":
            _add(self.below, usage or {})
        else:
            self._settle(path, usage, estimated=bool(result.get("estimated")))

    def _settle(self, path: str, usage: dict[str, int] | None, *, estimated: bool) -> None:
        asked = self._closed(path)
        bound = asked.get("reserve", 0)
        cost = bound if usage is None else tokens_of(usage)
        self._end(path, bound, cost - bound)
        if usage is None:
            return
        _add(self.paid, usage)
        if usage and not estimated:
            self._learn(asked, usage)
        for ledger in self.ledgers.around(path):
            ledger.settle(bound, cost)

    def _note(self, path: str) -> None:
        self._steps.setdefault(step_of(path), set()).add(path)

    def _closed(self, path: str) -> dict[str, Json]:
        """Return what was reserved for a call that has ended."""
        asked = self._open.pop(path, None)
        if asked is not None and path not in self.ledgers.of_calls:
            self._steps[step_of(path)].discard(path)
        return asked or {}

    def _learn(self, asked: dict[str, Json], usage: dict[str, int]) -> None:
        """Remember how many tokens a request took, for the bounds of others."""
        if size := asked.get("bytes"):
            self._rate = max(self._rate, usage.get("input_tokens", 0) / size)
        if most := asked.get("max_tokens"):
            self._output_rate = max(self._output_rate, usage.get("output_tokens", 0) / most)

    def drawn(self, run: str, *, rests: bool) -> Iterator[tuple[str, Drawn]]:
        """Yield what the run's own calls have drawn of each of its accounts, the run's first.

        Args:
            run: its id.
            rests: whether nothing of it is under way any more.
        """
        flying = () if rests else self._under_way
        for name, place, ledger in self.ledgers.named(run):
            open_calls = [self._open.get(call, {}) for call in flying if is_around(place, call)]
            back = sum(call.get("reserve", 0) for call in open_calls)
            yield name, Drawn(ledger.spent + ledger.reserved, ledger.calls, back)

    def allowance(self, path: str) -> Allowance:
        """Return what a model call may spend, of all the accounts around it."""
        return Allowance(
            left=self.ledgers.left(path),
            strict=self.ledgers.is_strict(path),
            rate=self._rate,
            output_rate=self._output_rate,
        )

    async def until_free(self, path: str, needed: int) -> None:
        """Return when so many tokens are left, or nothing under way can give any back."""
        while self.shared is None and self._under_way and self.allowance(path).left < needed:
            await self._change()

    async def _change(self) -> None:
        """Wait for the end of a call under way."""
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        await turn

    def begun(self, path: str) -> None:
        """Note that a model is called here, whose answer gives back what it does not need."""
        if self.ledgers.limits_tokens(path):
            self._under_way.add(path)

    def _end(self, path: str, bound: int, more: int = 0) -> None:
        """Note that a call has ended that cost so much `more` than its bound."""
        back = bound if path in self._under_way else 0
        self._under_way.discard(path)
        if self.shared is not None and (back or more):
            self.shared.change(path, Drawn(tokens=more, open=-back))
        if self._waiting:
            self.wake()

    def wake(self) -> None:
        """Let those look again who wait for something to come back."""
        waiting, self._waiting = self._waiting, list[asyncio.Future[None]]()
        for turn in waiting:
            if not turn.done():
                turn.set_result(None)

    def forked(self) -> None:
        """Note that a fork begins: what was paid so far it does not pay."""
        _add(self.reused, self.paid)
        _add(self.reused, self.below)
        self.paid, self.below = dict[str, int](), dict[str, int]()
        self.ledgers.forked()
        self._open.clear()
        self._steps.clear()

    def total(self, drawn: Drawn | None = None) -> dict[str, int]:
        """Return what the run cost, by unit, with the bounds of calls that nobody answered.

        Args:
            drawn: what was drawn by it and all beneath it, where that lies in rows.
        """
        known = dict(self.paid)
        _add(known, self.below)
        if drawn is None:
            own = tokens_of({**self.paid, UNANSWERED: 0})
            unanswered = self.ledgers.run.spent + self.ledgers.run.reserved - own
            unanswered += self.below.get(UNANSWERED, 0)
        else:
            unanswered = drawn.tokens - tokens_of({**known, UNANSWERED: 0})
        known.pop(UNANSWERED, None)
        return {**known, UNANSWERED: unanswered} if unanswered > 0 else known

    def check(self, run: str, path: str, asked: dict[str, Json]) -> None:
        """Let a model call be made that may cost so many tokens.

        Of accounts that are shared it says nothing but whether there is time.

        Raises:
            BudgetExceeded: an account around it has not so many left, no call, or no time.
        """
        if self.ledgers.are_free:
            return
        before = self._open.get(path, {})
        freed = before.get("reserve", 0) - _lost(before, asked)
        needed = asked.get("reserve", 0)
        for ledger in self.ledgers.around(path):
            if (until := ledger.until()) is not None and wall_clock() >= until:
                raise BudgetExceeded(run=run, path=path, needed=1, left=0, unit="seconds")
            if self.shared is not None:
                continue
            if (left := ledger.left()) is not None and needed > left + freed:
                raise BudgetExceeded(run=run, path=path, needed=needed, left=left + freed)
            if (calls := ledger.left_calls()) is not None and calls < 1:
                raise BudgetExceeded(run=run, path=path, needed=1, left=calls, unit="calls")

    def amount(self, path: str, asked: dict[str, Json]) -> Drawn:
        """Return what a model call draws, beside what an earlier request of it has drawn."""
        before, bound = self._open.get(path, {}), asked.get("reserve", 0)
        earlier = before.get("reserve", 0)
        back = earlier if path in self._under_way else 0
        return Drawn(bound + _lost(before, asked) - earlier, 1, bound - back)

    def to_data(self) -> dict[str, Json]:
        """Return everything but the run's own limit as JSON, for a snapshot."""
        return {
            "usage": self.paid,
            "below": self.below,
            "shared": self.is_shared,
            "reused": self.reused,
            **self.ledgers.to_data(),
            "open_calls": self._open,
            "rates": [self._rate, self._output_rate],
        }

    def load(self, data: dict[str, Json]) -> None:
        """Know what `to_data` gave."""
        self.paid, self.reused, self._open = data["usage"], data["reused"], data["open_calls"]
        self.below, self.is_shared = data["below"], data["shared"]
        self._rate, self._output_rate = data["rates"]
        self.ledgers.load(data)
        for path in (*self.ledgers.of_calls, *self._open):
            self._note(path)


def tokens_of(usage: dict[str, int]) -> int:
    """Return the tokens that a usage is drawn from a budget for."""
    return sum(usage.get(name, 0) for name in _TOKENS)


def _lost(before: dict[str, Json], asked: dict[str, Json]) -> int:
    """Return what an earlier request of a call cost: what is known of it, or else its bound."""
    lost: dict[str, int] | None = asked.get("lost")
    return before.get("reserve", 0) if lost is None else tokens_of(lost)


def _is_in(path: str, call: str) -> bool:
    return path.startswith(call) and path[len(call) : len(call) + 1] in ("", "/")


def _add(total: dict[str, int], more: dict[str, int]) -> None:
    for name, count in more.items():
        total[name] = total.get(name, 0) + count
