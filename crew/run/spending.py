"""What a run that is driven here may spend, and who of it waits for tokens to come back."""

from collections.abc import Iterator
from typing import Protocol

from crew.budget import NANOS, NOTHING, UNLIMITED, Allowance, Amount, BudgetLeft, budget_left
from crew.clock import wall_clock
from crew.errors import BudgetExceeded
from crew.event import CallCancelled, CallCompleted, CallFailed, RunEvent
from crew.fold.accounts import Accounts
from crew.fold.ledgers import is_around
from crew.journal import Drawn
from crew.message import Json
from crew.run.change import Change


class Shared(Protocol):
    """Where a run draws on accounts that are not its own alone; see `crew.run.sharing`."""

    def change(self, path: str, amount: Drawn) -> None:
        """Give back what a call at `path` does not need, or has spent beyond."""
        ...

    def left(self, path: str) -> tuple[int | None, int | None, int | None]:
        """Return the tokens, calls and money that are left at `path`; None without a limit."""
        ...


class Spending:
    """Lets model calls be made as far as the accounts of a run allow.

    Args:
        accounts: those that are folded of its events.
    """

    def __init__(self, accounts: Accounts) -> None:
        self.shared: Shared | None = None
        """Where the run has a part in accounts that others draw on, too."""
        self._accounts = accounts
        self.ledgers = accounts.ledgers
        self._under_way: set[str] = set()
        """The model calls that were begun here, and have no end."""
        self._change = Change()

    def apply(self, event: RunEvent) -> None:
        """Bring the accounts on by an event, and let go what it gives back."""
        match event:
            case CallCompleted(path=path, call="model") | CallFailed(path=path, call="model"):
                if self.shared is None:
                    self._accounts.apply(event)
                    self._under_way.discard(path)
                    self.wake()
                    return
                bound, before = self._accounts.bound_of(path), self.ledgers.run.drawn
                self._accounts.apply(event)
                self._end(path, bound, self.ledgers.run.drawn - before)
            case CallFailed(path=path, call="agent") | CallCancelled(path=path):
                self.left(path)
            case _:
                self._accounts.apply(event)

    def drop(self, step: str) -> None:
        """Forget the accounts of the calls of a step that is over."""
        self.left(step)
        self._accounts.drop(step)

    def left(self, path: str) -> None:
        """Note that nothing is under way any more in the step or the call at `path`."""
        if self._under_way:
            for place in self._accounts.places_in(path):
                self._end(place, self._accounts.bound_of(place))

    def begun(self, path: str) -> None:
        """Note that a model is called here, whose answer gives back what it does not need."""
        if self.ledgers.limits_amounts(path):
            self._under_way.add(path)

    def rest(self, path: str) -> None:
        """Note that a request that broke off is not made anew yet, so that it gives nothing back.

        Else two of them would wait for each other.
        """
        if path in self._under_way:
            self._end(path, self._accounts.bound_of(path))

    def check(self, run: str, path: str, asked: dict[str, Json]) -> None:
        """Let a model call be made that may cost so many tokens.

        Of accounts that are shared it says nothing but whether there is time.

        Raises:
            BudgetExceeded: an account around it has not so many left, no call, or no time.
        """
        if self.ledgers.are_free:
            return
        needed, freed = self._accounts.needed(path, asked)
        for ledger in self.ledgers.around(path):
            if (until := ledger.until()) is not None and wall_clock() >= until:
                raise BudgetExceeded(run=run, path=path, needed=1, left=0, unit="seconds")
            if self.shared is not None:
                continue
            if (left := ledger.left()) is not None and needed.tokens > left + freed.tokens:
                left += freed.tokens
                raise BudgetExceeded(run=run, path=path, needed=needed.tokens, left=left)
            if (money := ledger.left_money()) is not None and needed.money > money + freed.money:
                wanted, has = needed.money / NANOS, (money + freed.money) / NANOS
                raise BudgetExceeded(run=run, path=path, needed=wanted, left=has, unit="money")
            if (calls := ledger.left_calls()) is not None and calls < 1:
                raise BudgetExceeded(run=run, path=path, needed=1, left=calls, unit="calls")

    def amount(self, path: str, asked: dict[str, Json]) -> Drawn:
        """Return what a model call draws, beside what an earlier request of it has drawn."""
        bound, freed = self._accounts.needed(path, asked)
        back = self._accounts.bound_of(path) if path in self._under_way else NOTHING
        drawn = bound - freed
        return Drawn(drawn.tokens, 1, (bound - back).tokens, drawn.money)

    def drawn(self, run: str, *, rests: bool) -> Iterator[tuple[str, Drawn]]:
        """Yield what the run's own calls have drawn of each of its accounts, the run's first.

        Args:
            run: its id.
            rests: whether nothing of it is under way any more.
        """
        flying = () if rests else self._under_way
        for name, place, ledger in self.ledgers.named(run):
            calls = [call for call in flying if is_around(place, call)]
            back = sum(self._accounts.bound_of(call).tokens for call in calls)
            yield name, Drawn(ledger.drawn.tokens, ledger.calls, back, ledger.drawn.money)

    def allowance(self, path: str) -> Allowance:
        """Return what a model call may spend, of all the accounts around it."""
        tokens, money = self.ledgers.left(path)
        return Allowance(
            left=tokens,
            money=money,
            strict=self.ledgers.is_strict(path),
            rate=self._accounts.rate,
            output_rate=self._accounts.output_rate,
        )

    def budget_left(self, path: str) -> BudgetLeft:
        """Return what is left of all that is around the code at `path`."""
        ledgers = self.ledgers
        until = ledgers.until(path)
        seconds = None if until is None else until - wall_clock()
        if self.shared is not None:
            return budget_left(*self.shared.left(path), seconds)
        tokens, money = ledgers.left(path)
        limited = None if tokens == UNLIMITED else tokens
        return budget_left(limited, ledgers.left_calls(path), money, seconds)

    async def until_free(self, path: str, needed: Amount) -> None:
        """Return when so much is left, or nothing under way can give anything back."""
        while self.shared is None and self._under_way and not needed.fits(*self.ledgers.left(path)):
            await self._change.comes()

    def wake(self) -> None:
        """Let those look again who wait for something to come back."""
        self._change.wake()

    def _end(self, path: str, bound: Amount, more: Amount = NOTHING) -> None:
        """Note that a call has ended that cost so much `more` than its bound."""
        back = bound.tokens if path in self._under_way else 0
        self._under_way.discard(path)
        if self.shared is not None and (back or more):
            self.shared.change(path, Drawn(tokens=more.tokens, open=-back, money=more.money))
        self.wake()
