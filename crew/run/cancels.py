"""Cancels of runs that nobody drives, and of the children of those that were cancelled."""

import asyncio
import time
from collections.abc import Sequence

from crew.errors import Fenced, StoreError
from crew.event import RunEndedByCancel
from crew.journal import OPEN, Post, RunRow
from crew.run.employer import Employer
from crew.run.owned import Owned, opened

MOST_CHILDREN = 1 << 31
"""How many children of a run are cancelled with it: all of them."""


class Cancels:
    """Records cancels where no driver does, and passes them on to children.

    Args:
        employer: the runtime.
        owned: the runs of this process.
    """

    def __init__(self, employer: Employer, owned: Owned) -> None:
        self._employer = employer
        self._owned = owned

    def is_asked(self, row: RunRow) -> bool:
        """Return whether a cancel of a run lies in its inbox, or its parent has ended."""
        store = self._employer.store
        if any(letter.kind == "cancel" for letter in store.letters([row.number])):
            return True
        # Where a process died in between, the parent's end came without a letter to its children.
        parent = None if row.parent is None else store.run(row.parent)
        return parent is not None and parent.status not in OPEN

    async def of_unowned(self, row: RunRow) -> bool:
        """Record the cancel of a run that nobody drives; False where somebody does."""
        if row.number in self._owned.drivers or row.number in self._owned.held:
            return False
        if row.owner is not None and not self._owned.is_gone(row.owner):
            return False
        if (mine := await self._owned.own(row)) is None:
            return False
        return await self.of_held(mine)

    async def of_held(self, mine: RunRow) -> bool:
        """Record the cancel of a run that is owned here and that nobody drives.

        False if another worker has taken it meanwhile: nothing was recorded.
        A letter to each of its open children goes with it, so that no crash leaves one without.
        """
        run, writer = opened(mine), self._employer.writer
        children = self._open_children(mine)
        try:
            usage = await self._employer.accounts.end(mine)
            writer.append(run, RunEndedByCancel(usage), "cancelled")
            posted = [writer.submit(_cancel_of(child)) for child in children]
            await writer.durable(run)
            await asyncio.gather(*posted)
        except StoreError:
            self._owned.give_back_later(mine.number)
            raise
        except Fenced:
            self._owned.held.pop(mine.number, None)
            return False
        self._owned.held.pop(mine.number, None)
        self._employer.followers.wake(mine.number)
        await self._reach(children)
        return True

    async def of_children(self, parent: RunRow) -> None:
        """Cancel the children of a run that was driven here: those too it has not asked for."""
        children = self._open_children(parent)
        await asyncio.gather(*(self._employer.writer.execute(_cancel_of(row)) for row in children))
        await self._reach(children)

    def _open_children(self, parent: RunRow) -> list[RunRow]:
        return self._employer.store.runs(parent=parent.id, status=OPEN, limit=MOST_CHILDREN)

    async def _reach(self, children: Sequence[RunRow]) -> None:
        """Let children see the cancel in their inboxes; record it for those nobody drives."""
        for child in children:
            if not await self.of_unowned(child):
                self._employer.other_runtimes.post(child)
        self._employer.look()


def _cancel_of(row: RunRow) -> Post:
    return Post(row.number, "cancel", "", "null", time.time())
