"""Mends of budgets and their accounts, and of what is folded of them: rules 11 and 12."""

from typing import Any

import crew.journal.accounts
import crew.llm.cost
import crew.run.taking
from crew.budget import NOTHING, Amount, Ledger
from crew.fold.accounts import Accounts
from crew.run.calls import RunCalls
from crew.run.sharing import SharedAccounts
from crew.run.spending import Spending
from tests.programs.mends import Patch, mend


@mend(11, "a call of a model is made whatever is left")
def _never_refused(patch: Patch) -> None:
    patch.setattr(Spending, "check", lambda self, run, path, asked: None)
    patch.setattr(Spending, "allowance", _boundless)
    patch.setattr(crew.journal.accounts, "_refusal", lambda draw, row, known: None)


def _boundless(self: Any, path: str) -> Any:
    return crew.run.spending.Allowance(left=1 << 40)


@mend(11, "a child draws on its own account alone")
def _not_shared(patch: Patch) -> None:
    patch.setattr(RunCalls, "around_child", lambda self, path: ())


@mend(11, "a call costs its bound, whatever it took")
def _never_back(patch: Patch) -> None:
    settle = Ledger.settle

    def at_its_bound(self: Any, bound: Amount, cost: Amount) -> None:
        settle(self, bound, max(bound, cost, key=lambda amount: amount.tokens))

    patch.setattr(Ledger, "settle", at_its_bound)


@mend(11, "a call whose answer was lost is free")
def _lost_is_free(patch: Patch) -> None:
    patch.setattr(Accounts, "_lost", lambda self, path, asked: NOTHING)


@mend(11, "what was drawn for an intent that is not on record stays drawn")
def _rows_as_they_were(patch: Patch) -> None:
    def open_as_it_is(self: Any) -> None:
        self._known.update(name for name, _ in self._settlement().held)

    patch.setattr(SharedAccounts, "open", open_as_it_is)


@mend(11, "what is drawn already is drawn once more by whoever takes the run")
def _drawn_twice(patch: Patch) -> None:
    settle = crew.journal.accounts.settle

    def added(settlement: Any, row: Any, held: Any, find: Any) -> Any:
        return settle(settlement, row, [] if not settlement.ends else held, find)

    patch.setattr(crew.journal.accounts, "settle", added)


@mend(11, "nobody waits for what may come back")
def _nobody_waits(patch: Patch) -> None:
    async def at_once(self: Any, path: str, needed: Amount) -> None:
        """Nothing comes back."""

    left = SharedAccounts._left
    patch.setattr(Spending, "until_free", at_once)

    def left_now(self: Any, path: str, needed: Amount) -> Any:
        return (*left(self, path, needed)[:2], False)

    patch.setattr(SharedAccounts, "_left", left_now)


@mend(11, "the engine is not asked how many tokens a request has")
def _not_counted(patch: Patch) -> None:
    async def count_tokens(model: Any, request: Any) -> None:
        """Nobody knows."""

    patch.setattr(crew.llm.cost, "count_tokens", count_tokens)


@mend(12, "what a run has spent is forgotten with its process")
def _forgotten(patch: Patch) -> None:
    fold = crew.run.taking.fold_stored

    async def fold_but_costs(store: Any, driver: Any, workflow: Any, row: Any) -> None:
        await fold(store, driver, workflow, row)
        ledgers = driver.calls.accounts.ledgers
        for ledger in (ledgers.run, *ledgers.of_calls.values()):
            ledger.spent = ledger.reserved = NOTHING
            ledger.calls = 0

    patch.setattr(crew.run.taking, "fold_stored", fold_but_costs)


@mend(12, "the budgets that calls were given are forgotten with the process")
def _limits_forgotten(patch: Patch) -> None:
    fold = crew.run.taking.fold_stored

    async def fold_but_limits(store: Any, driver: Any, workflow: Any, row: Any) -> None:
        await fold(store, driver, workflow, row)
        for ledger in driver.calls.accounts.ledgers.of_calls.values():
            ledger.limit = None

    patch.setattr(crew.run.taking, "fold_stored", fold_but_limits)
