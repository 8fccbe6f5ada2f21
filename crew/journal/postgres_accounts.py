"""What PostgreSQL keeps of accounts that runs share, within a transaction that is under way.

Whoever changes them holds the lock of the tree they are of, so that what was read stands.
"""

import json
from collections.abc import Sequence
from dataclasses import astuple
from typing import Any

from crew.errors import BudgetExceeded, Fenced
from crew.journal import AccountRow, Draw, Drawn, RunRow, Settle, accounts
from crew.journal.postgres_link import Db

ACCOUNTS_BY_ID = "SELECT * FROM accounts WHERE id = ANY(%s)"
_OF_RUN = "SELECT * FROM accounts WHERE number = %s"
_WRITE = (
    "INSERT INTO accounts VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s) "
    "ON CONFLICT (id) DO UPDATE SET own_tokens = excluded.own_tokens, "
    "own_calls = excluded.own_calls, own_open = excluded.own_open, tokens = excluded.tokens, "
    "calls = excluded.calls, open = excluded.open, is_closed = excluded.is_closed, "
    "own_money = excluded.own_money, money = excluded.money"
)


def account_row(stored: Sequence[Any]) -> AccountRow:
    """Return a row as it was read."""
    name, number, above, *counts, is_closed = stored
    own, total = Drawn(*counts[:4]), Drawn(*counts[4:])
    return AccountRow(name, number, tuple(json.loads(above)), own, total, is_closed)


def tree_of(operation: Draw | Settle) -> str:
    """Return the outermost of the accounts that an operation changes."""
    if isinstance(operation, Draw):
        return (*operation.above, *operation.own)[0].id
    return operation.above[0] if operation.above else operation.held[0][0]


def draw(db: Db, draw: Draw, row: RunRow | None) -> Fenced | BudgetExceeded | None:
    changed = accounts.draw(draw, row, lambda ids: _found(db, ids))
    if isinstance(changed, Exception):
        return changed
    _write(db, changed)
    return None


def settle(db: Db, settle: Settle, row: RunRow | None) -> AccountRow | Fenced:
    held = [account_row(stored) for stored in db.execute(_OF_RUN, (settle.number,))]
    changed = accounts.settle(settle, row, held, lambda ids: _found(db, ids))
    if isinstance(changed, Fenced):
        return changed
    _write(db, changed)
    return changed[0]


def _found(db: Db, ids: Sequence[str]) -> list[AccountRow]:
    return [account_row(stored) for stored in db.execute(ACCOUNTS_BY_ID, (list(ids),))]


def _write(db: Db, rows: Sequence[AccountRow]) -> None:
    for row in rows:
        place = (row.id, row.number, json.dumps(row.above))
        db.execute(_WRITE, (*place, *astuple(row.own), *astuple(row.total), row.is_closed))
