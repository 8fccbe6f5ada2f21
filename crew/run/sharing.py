"""What one run draws on accounts that it shares with those that it starts, and that started it.

A run without children draws on no row: what its own calls need is in its fold. From its first child
beneath a limit on it draws on rows, before each call of a model, and gives back in the commit of
what the call came to. So do its children, on theirs and on all above.
"""

import asyncio
from collections.abc import Callable
from dataclasses import replace

from crew.budget import UNLIMITED, Account, Allowance, Amount, smaller
from crew.errors import BudgetExceeded
from crew.journal import AccountRow, Draw, Drawn, RunRow, Settle
from crew.journal.accounts import left
from crew.run.account_rows import AccountRows
from crew.run.spending import Spending


class SharedAccounts:
    """Those of one run that is driven here.

    Args:
        row: the run.
        spending: what it spends itself.
        accounts: those of the process.
        lost: called with the error of a change that was not written: the run has to be driven from
            what is stored, and say anew what it has drawn.
    """

    def __init__(
        self,
        row: RunRow,
        spending: Spending,
        accounts: AccountRows,
        lost: Callable[[Exception], None],
    ) -> None:
        self._row = row
        self._spending = spending
        self._ledgers = spending.ledgers
        self._accounts = accounts
        self._lost = lost
        self._opening: asyncio.Future[object] | None = None
        """What tells when the newest of its rows is written."""
        self._known: set[str] = set()
        """The ids of those that have a row."""
        self._is_over = False
        """Whether what was settled or drawn stands, whatever was under way."""

    def open(self) -> None:
        """Say what the run has drawn so far; from here on it draws on rows."""
        settlement = self._settlement()
        self._known.update(name for name, _ in settlement.held)
        self._opening = self._change(settlement)

    def _change(self, operation: Draw | Settle) -> "asyncio.Future[object]":
        done = self._accounts.change(operation)
        done.add_done_callback(self._see)
        return done

    def _see(self, done: "asyncio.Future[object]") -> None:
        result = done.result()
        if isinstance(result, Exception) and not self._is_over:
            self._lost(result)

    def _settlement(self, *, rests: bool = False, ends: bool = False) -> Settle:
        above = tuple(account.id for account in self._ledgers.above)
        held = tuple(self._spending.drawn(self._row.id, rests=rests))
        return Settle(self._row.number, self._row.epoch, above, held, ends)

    async def around_child(self, path: str) -> tuple[Account, ...]:
        """Return what a child at `path` draws on beside its own, once each has a row.

        Raises:
            Fenced, StoreError: one has none.
        """
        own = self._ledgers.accounts(self._row.id, path)
        if not self._known.issuperset(account.id for account in own):
            self._opening = self._change(self._draw(path, Drawn()))
            self._known.update(account.id for account in own)
        if self._opening is not None:
            result = await asyncio.shield(self._opening)
            if isinstance(result, Exception):
                raise result
        return (*self._ledgers.above, *own)

    async def draw(self, path: str, amount: Drawn) -> None:
        """Draw for a model call at `path`; whoever is cancelled meanwhile has drawn nothing.

        Raises:
            BudgetExceeded: a limit would be passed.
            Fenced, StoreError: nothing is known to be drawn.
        """
        done = self._accounts.ask(self._draw(path, amount, asks=True))
        try:
            result = await asyncio.shield(done)
        except asyncio.CancelledError:
            done.add_done_callback(lambda done: self._undo(path, amount, done.result()))
            raise
        if isinstance(result, BudgetExceeded):
            raise replace(result, path=path)
        if isinstance(result, Exception):
            raise result

    def _undo(self, path: str, amount: Drawn, result: object) -> None:
        if result is None:
            self.change(path, Drawn() - amount)

    def change(self, path: str, amount: Drawn) -> None:
        """Give back what a call at `path` does not need, or has spent beyond."""
        if self._is_over:
            return
        draw = self._draw(path, amount)
        self._known.update(account.id for account in draw.own)
        self._change(draw)

    def _draw(self, path: str, amount: Drawn, *, asks: bool = False) -> Draw:
        row, own = self._row, self._ledgers.accounts(self._row.id, path)
        return Draw(row.number, row.epoch, self._ledgers.above, own, amount, asks)

    async def allowance(self, path: str, needed: Amount) -> Allowance:
        """Return what a model call may spend, once so much is left or nothing can come back."""
        while True:
            tokens, money, may_come = self._left(path, needed)
            if needed.fits(tokens, money) or not may_come:
                return replace(self._spending.allowance(path), left=tokens, money=money)
            await self._accounts.changed()

    def left(self, path: str) -> tuple[int | None, int | None, int | None]:
        """Return the tokens, calls and money that are left at `path`; None without a limit."""
        above, own = self._ledgers.above, self._ledgers.accounts(self._row.id, path)
        rows = self._accounts.rows([account.id for account in (*above, *own)])
        tokens = calls = money = None
        for account in (*above, *own):
            drawn = rows[account.id].total if account.id in rows else Drawn()
            more = left(account, drawn)
            tokens, calls = smaller(tokens, more[0]), smaller(calls, more[1])
            money = smaller(money, more[2])
        return tokens, calls, money

    def _left(self, path: str, needed: Amount) -> tuple[int, int | None, bool]:
        """Return what is left of all around a call, and whether more may be, where that is less."""
        above, own = self._ledgers.above, self._ledgers.accounts(self._row.id, path)
        rows = self._accounts.rows([account.id for account in (*above, *own)])
        if any(account.id not in rows or rows[account.id].is_closed for account in above):
            return 0, 0, False
        least = least_money = None
        may_come = True
        for account in (*above, *own):
            drawn = rows[account.id].total if account.id in rows else Drawn()
            tokens, _, money = left(account, drawn)
            least, least_money = smaller(least, tokens), smaller(least_money, money)
            may_come = may_come and (needed.fits(tokens, money) or drawn.open > 0)
        return UNLIMITED if least is None else least, least_money, may_come

    def lose(self) -> None:
        """Write nothing more: whoever takes the run says anew what it has drawn.

        What its lost calls were to give back counts as under way till then.
        """
        self._is_over = True

    async def close(self) -> AccountRow:
        """Let nothing more be drawn beneath the run, which ends; return all that was."""
        self._is_over = True
        return await self._accounts.settle(self._settlement(rests=True, ends=True))

    async def rest(self) -> None:
        """Note that nothing of the run is under way here any more."""
        self._is_over = True
        await self._accounts.settle(self._settlement(rests=True))
