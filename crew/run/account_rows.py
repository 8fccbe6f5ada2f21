"""The accounts of budgets that several runs draw on: rows of the store."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace

from crew.budget import Amount
from crew.fold import Accounts, typed_of
from crew.journal import AccountRow, Draw, Drawn, RunRow, Settle, Store
from crew.journal.reading import JournalReader
from crew.journal.writer import Writer
from crew.run.change import Change


class AccountRows:
    """Reads and changes the rows, and wakes those who wait for something to come back.

    Args:
        store: where they are.
        writer: writes them.
    """

    def __init__(self, store: Store, writer: Writer) -> None:
        self._store = store
        self._writer = writer
        self._change = Change()

    def rows(self, ids: Sequence[str]) -> dict[str, AccountRow]:
        return {row.id: row for row in self._store.accounts(ids)}

    def ask(self, draw: Draw) -> "asyncio.Future[object]":
        """Draw with the next commit; see `Writer.submit`."""
        return self._writer.submit(draw)

    def change(self, operation: Draw | Settle) -> "asyncio.Future[object]":
        """Change rows with the next commit, and wake whoever waits for that; see `Writer.submit`.

        Where it fails the run is driven from what is stored, and says anew what it has drawn.
        """
        done = self._writer.submit(operation)
        done.add_done_callback(lambda done: self.wake())
        return done

    async def settle(self, settle: Settle) -> AccountRow:
        """Say what a run has drawn; return the row of its account.

        Raises:
            Fenced, StoreError: nothing was written.
        """
        result = await self.change(settle)
        if isinstance(result, Exception):
            raise result
        assert isinstance(result, AccountRow)
        return result

    async def rest(self, row: RunRow) -> None:
        """Note that nothing of a run is under way that is owned here and not driven."""
        for account in self._store.accounts([row.id]):
            held = ((row.id, replace(account.own, open=0)),)
            await self.settle(Settle(row.number, row.epoch, account.above, held))

    async def end(self, row: RunRow) -> dict[str, int] | None:
        """Close the account of a run that ends here and is not driven; return what the run cost.

        What was drawn for a call whose intent was lost comes back. None: the run shares no account,
        so that its journal need not be read.

        Raises:
            Fenced, StoreError: nothing was written.
        """
        if not self._store.accounts([row.id]):
            return None
        accounts = Accounts(row.created_at)
        for event in await JournalReader(self._store, row).read_every(after=0, upto=row.offset):
            if (typed := typed_of(event)) is not None:
                accounts.apply(typed)
        own, above = accounts.ledgers.run, tuple(account.id for account in accounts.ledgers.above)
        held = ((row.id, Drawn(own.drawn.tokens, own.calls, 0, own.drawn.money)),)
        closed = await self.settle(Settle(row.number, row.epoch, above, held, ends=True))
        return accounts.total(Amount(closed.total.tokens, closed.total.money))

    async def changed(self) -> None:
        """Return when something may have come back."""
        await self._change.comes()

    def wake(self) -> None:
        """Let all look again who wait."""
        self._change.wake()
