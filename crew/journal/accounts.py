"""What is drawn of budgets that several runs share: given the rows of accounts, what comes of it.

All of it is pure, and every store asks here.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from crew.budget import NANOS, Account
from crew.errors import BudgetExceeded, Fenced
from crew.journal import OPEN, AccountRow, Draw, Drawn, RunRow, Settle

Find = Callable[[Sequence[str]], Iterable[AccountRow]]
"""Gives the rows of accounts by their ids, where there are such."""


def draw(draw: Draw, row: RunRow | None, find: Find) -> list[AccountRow] | Fenced | BudgetExceeded:
    """Return the rows of accounts as a draw leaves them, or its refusal."""
    if row is None or not _is_held(draw, row):
        return Fenced(run=row.id if row else str(draw.number))
    ids = [account.id for account in (*draw.above, *draw.own)]
    known = {found.id: found for found in find(ids)}
    if draw.asks and (refusal := _refusal(draw, row, known)) is not None:
        return refusal
    above = tuple(account.id for account in draw.above)
    changed = list[AccountRow]()
    for place, account in enumerate(draw.own):
        missing = AccountRow(account.id, row.number, () if place else above)
        found = known.get(account.id, missing)
        changed.append(_moved(found, own=draw.amount, total=draw.amount))
    # One above that is gone was removed with its run: there is nothing left to count it in.
    changed += [_moved(known[name], total=draw.amount) for name in above if name in known]
    return changed


def _refusal(draw: Draw, row: RunRow, known: dict[str, AccountRow]) -> BudgetExceeded | None:
    """Return why an account has not so much left, if one has not."""
    for account in (*draw.above, *draw.own):
        found = known.get(account.id)
        is_gone = account in draw.above if found is None else found.is_closed
        limit = Account(account.id, 0, 0, money=0) if is_gone else account
        if refusal := _passed(limit, Drawn() if found is None else found.total, draw.amount, row):
            return refusal
    return None


def _passed(account: Account, drawn: Drawn, asked: Drawn, row: RunRow) -> BudgetExceeded | None:
    tokens, calls, money = left(account, drawn)
    if tokens is not None and asked.tokens > max(tokens, 0):
        return BudgetExceeded(run=row.id, needed=asked.tokens, left=tokens)
    if calls is not None and asked.calls > max(calls, 0):
        return BudgetExceeded(run=row.id, needed=asked.calls, left=calls, unit="calls")
    if money is not None and asked.money > max(money, 0):
        needed, has = asked.money / NANOS, money / NANOS
        return BudgetExceeded(run=row.id, needed=needed, left=has, unit="money")
    return None


def left(account: Account, drawn: Drawn) -> tuple[int | None, int | None, int | None]:
    """Return the tokens, calls and money that an account has left; None where it has no limit."""
    return (
        None if account.tokens is None else account.tokens - drawn.tokens,
        None if account.calls is None else account.calls - drawn.calls,
        None if account.money is None else account.money - drawn.money,
    )


def settle(
    settle: Settle, row: RunRow | None, held: Sequence[AccountRow], find: Find
) -> list[AccountRow] | Fenced:
    """Return the rows of accounts as a settlement leaves them, the run's first, or its refusal.

    `held` are all of the run's own.
    """
    if row is None or not _is_held(settle, row):
        return Fenced(run=row.id if row else str(settle.number))
    amounts, before = dict(settle.held), {found.id: found for found in held}
    for place, (name, _) in enumerate(settle.held):
        missing = AccountRow(name, row.number, () if place else settle.above)
        before.setdefault(name, missing)
    order = [*amounts, *(name for name in before if name not in amounts)]
    changed, above = list[AccountRow](), dict[str, AccountRow]()
    for found in map(before.__getitem__, order):
        moved = amounts.get(found.id, replace(found.own, open=0)) - found.own
        closed = replace(found, is_closed=settle.ends)
        changed.append(_moved(closed, own=moved, total=moved))
        for other in find(found.above):
            above[other.id] = _moved(above.get(other.id, other), total=moved)
    return [*changed, *above.values()]


def _is_held(operation: Draw | Settle, row: RunRow) -> bool:
    return row.epoch == operation.epoch and row.status in OPEN


def _moved(row: AccountRow, *, total: Drawn, own: Drawn = Drawn()) -> AccountRow:  # noqa: B008
    return replace(row, own=row.own + own, total=row.total + total)
