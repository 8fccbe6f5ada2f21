"""What the core does that can be taken out, as a change of the loaded code alone."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

Patch = pytest.MonkeyPatch


@dataclass(frozen=True, slots=True)
class Mend:
    """One thing that the core does; `rule` is its number in the issues.

    Rules 1 to 9 are those of the first part; 10 is time, 11 budgets, 12 the fold, 13 what a store
    may do.
    """

    rule: int
    what: str
    """What happens once it is gone."""
    take_out: Callable[[Patch], None]
    first: int = 0
    """The seed of the first program that is tried; what notices may come late from the first on."""

    def __str__(self) -> str:
        return f"{self.rule}: {self.what}"


MENDS: list[Mend] = []


def mend(
    rule: int, what: str, *, first: int = 0
) -> Callable[[Callable[[Patch], None]], Callable[[Patch], None]]:
    """Add what a function takes out to the table."""

    def add(take_out: Callable[[Patch], None]) -> Callable[[Patch], None]:
        MENDS.append(Mend(rule, what, take_out, first))
        return take_out

    return add


@contextmanager
def without(mend: Mend) -> Iterator[None]:
    """A block in which one mend is gone."""
    with Patch.context() as patch:
        mend.take_out(patch)
        yield
