"""The world in which a random program runs: how long its calls take, and what was executed."""

import asyncio
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from crew.testing.scheduler import SeededLoop

DELAYS = (0.0, 0.0, 0.001, 0.004, 0.01, 0.01, 0.02, 0.04)
"""Seconds that a call may take; 0 is one that ends without waiting."""
STEP_SECONDS = 3.0
"""Time between two completions where their order is given: more than any grace or linger."""
NEVER_SECONDS = 3000.0
"""How long a call takes that did not complete where the order is from."""


@dataclass(frozen=True, slots=True)
class Plan:
    """An order of completions, to be lived again without a crash.

    `ranks` are the places in it of each call's ends, by its name; `fails`, how many of them were
    failures of a call that is tried again.
    """

    ranks: Mapping[str, Sequence[int]]
    fails: Mapping[str, int]


@dataclass(slots=True)
class World:
    """What happens to the functions, tools and models of programs on one event loop.

    Args:
        chance: decides how long calls take.
        plan: an order of completions instead.
        earlier: how often each call was executed in lives before.
    """

    chance: random.Random
    plan: Plan | None = None
    earlier: Counter[str] = field(default_factory=Counter)
    counts: Counter[str] = field(default_factory=Counter)
    """How often each call's body was executed, by its name."""
    keys: dict[str, set[str]] = field(default_factory=dict)
    """The idempotency keys under which each effect happened."""
    under_way: Counter[str] = field(default_factory=Counter)
    attempts: dict[str, int] = field(default_factory=dict)
    """How often calls that are retried may be executed in all."""
    is_dead: bool = False
    """Whether the process was killed: what its tasks still do has never happened."""

    async def happen(self, name: str, key: str = "") -> None:
        """Note that a call's body is executed, and let it take its time."""
        self.note(name)
        if key:
            self.keys.setdefault(name, set()).add(key)
        self.under_way[name] += 1
        try:
            if seconds := self._seconds(name):
                await asyncio.sleep(seconds)
        finally:
            self.under_way[name] -= 1

    def note(self, name: str) -> None:
        """Note that a call's body is executed."""
        if not self.is_dead:
            self.counts[name] += 1

    def is_to_fail(self, name: str, fails: int) -> bool:
        """Return whether this execution of a call that is retried fails, as the first ones do."""
        self.attempts[name] = fails + 1
        if self.plan is not None:
            fails = self.plan.fails.get(name, 0)
        return self.earlier[name] + self.counts[name] <= fails

    def wait_for_answer(self, name: str) -> float:
        """Return after how many seconds a person answers."""
        return self._seconds(name, count=1)

    def _seconds(self, name: str, count: int = 0) -> float:
        if self.plan is None:
            return self.chance.choice(DELAYS)
        ranks = self.plan.ranks.get(name, ())
        number = (count or self.counts[name]) - 1
        if number >= len(ranks):
            return NEVER_SECONDS
        now = asyncio.get_running_loop().time()
        return max(0.0, (ranks[number] + 1) * STEP_SECONDS - now)


class ProgramLoop(SeededLoop):
    """An event loop with a world, for random programs."""

    def __init__(self, seed: int, world: World, *, limit: float) -> None:
        super().__init__(seed, limit=limit)
        self.world = world


_ELSEWHERE = World(random.Random(0))  # noqa: S311  it chooses delays


def world() -> World:
    """Return the world of the running loop; where it has none, calls just take a moment."""
    loop = asyncio.get_running_loop()
    return loop.world if isinstance(loop, ProgramLoop) else _ELSEWHERE
