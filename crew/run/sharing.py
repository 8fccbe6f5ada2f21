"""What one run draws on accounts that it shares with those that it starts, and that started it.

A run without children draws on no row: what its own calls need is in its fold. From its first child
beneath a limit on it draws on rows, before each call of a model, and gives back in the commit of
what the call came to. So do its children, on theirs and on all above.
"""

from dataclasses import replace

from crew.budget import Account, Allowance, smaller
from crew.errors import BudgetExceeded
from crew.journal import AccountRow, Draw, Drawn, RunRow, Settle
from crew.journal.accounts import left
from crew.run.accounts import Accounts
from crew.run.usage import Usage


class SharedAccounts:
    """Those of one run that is driven here.

    Args:
        row: the run.
        usage: what it has spent itself.
        accounts: those of the process.
    """

    def __init__(self, row: RunRow, usage: Usage, accounts: Accounts) -> None:
        self._row = row
        self._usage = usage
        self._accounts = accounts

    def open(self) -> None:
        """Say what the run has drawn so far; from here on it draws on rows."""
        self._accounts.give(self._settlement())

    def _settlement(self, *, rests: bool = False, ends: bool = False) -> Settle:
        usage, row = self._usage, self._row
        above = tuple(account.id for account in usage.above)
        held = tuple(usage.drawn(row.id, rests=rests))
        return Settle(row.number, row.epoch, above, held, ends)

    def chain(self, path: str) -> tuple[Account, ...]:
        """Return what a child that is started at `path` draws on besides."""
        return (*self._usage.above, *self._usage.own_accounts(self._row.id, path))

    def ready(self, path: str) -> None:
        """Make the accounts around a child that have no row yet."""
        self.change(path, Drawn())

    async def draw(self, path: str, amount: Drawn) -> None:
        """Draw for a model call at `path`.

        Raises:
            BudgetExceeded: a limit would be passed.
        """
        try:
            await self._accounts.draw(self._draw(path, amount, asks=True))
        except BudgetExceeded as error:
            raise replace(error, path=path) from error

    def change(self, path: str, amount: Drawn) -> None:
        """Give back what a call at `path` does not need, or has spent beyond."""
        self._accounts.give(self._draw(path, amount))

    def _draw(self, path: str, amount: Drawn, *, asks: bool = False) -> Draw:
        row, usage = self._row, self._usage
        own = usage.own_accounts(row.id, path)
        return Draw(row.number, row.epoch, usage.above, own, amount, asks)

    async def allowance(self, path: str, needed: int) -> Allowance:
        """Return what a model call may spend, once so much is left or nothing can come back."""
        while True:
            tokens, may_come = self._left(path, needed)
            if tokens >= needed or not may_come:
                return replace(self._usage.allowance(path), left=tokens)
            await self._accounts.changed()

    def _left(self, path: str, needed: int) -> tuple[int, bool]:
        """Return what is left of all around a call, and whether more may be, where that is less."""
        chain = self.chain(path)
        rows = self._accounts.rows([account.id for account in chain])
        least: int | None = None
        may_come = True
        for account in chain:
            found = rows.get(account.id)
            if found is None or found.is_closed:
                if found is None and account not in self._usage.above:
                    found = AccountRow(account.id, self._row.number)
                else:
                    return 0, False
            tokens, _ = left(account, found.total)
            least = smaller(least, tokens)
            if tokens is not None and tokens < needed and not found.total.open:
                may_come = False
        return least or 0, may_come

    async def close(self) -> AccountRow:
        """Let nothing more be drawn beneath the run, which ends; return all that was."""
        return await self._accounts.settle(self._settlement(rests=True, ends=True))

    async def rest(self) -> None:
        """Note that nothing of the run is under way here any more."""
        await self._accounts.settle(self._settlement(rests=True))
