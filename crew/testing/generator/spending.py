"""What random programs pay models for, within budgets or without."""

from collections.abc import Awaitable
from typing import Any

from crew.budget import Budget
from crew.errors import BudgetExceeded
from crew.testing.generator.branch import Branch
from crew.testing.generator.calls import weight
from crew.testing.generator.world import world


def given(site: str, budget: Budget | None) -> Budget | None:
    """Return what is called at a site may spend, once that is in the books."""
    if budget is not None:
        world().books.budgets[site] = budget
    return budget


async def paid(branch: Branch, call: Awaitable[Any]) -> Any:
    """Return what agents came to; see instead, and return None, that a budget refused one."""
    try:
        return await call
    except BudgetExceeded as refused:
        branch.see(weight(refused.unit))
        return None
