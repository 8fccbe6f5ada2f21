"""The world in which a random program runs: how long its calls take, and what was executed."""

import asyncio
import functools
import os
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from contextvars import Context as Variables
from dataclasses import dataclass, field
from pathlib import Path

from crew.testing.generator.books import Books
from crew.testing.scheduler import SeededLoop

DELAYS = (0.0001, 0.0001, 0.001, 0.004, 0.01, 0.01, 0.02, 0.04)
"""Seconds that a call may take. Never none, so that what takes no time always ends before it."""
FOREVER = 1e7
"""Seconds that are never over."""
NEVER_SECONDS = 50_000.0
"""How long a call takes that did not end where the order is from."""
PACE = 15.0
"""How many times longer calls take in processes that are killed from outside, so that they can be.

Shorter than a cancelled effect is given.
"""
WITNESS = "CREW_PROGRAMS_WITNESS"
"""The variable that names the file in which processes on Ray write down what they execute."""
UNANSWERED = "n"
"""How the keys of questions begin that nobody answers."""


@dataclass(frozen=True, slots=True)
class Plan:
    """An order of completions, to be lived again without a crash.

    `ranks` are the places in it of each call's ends, by its name; `fails`, how many of them were
    failures of a call that is tried again. Those `together` come at once behind the one before.
    """

    ranks: Mapping[str, Sequence[int]]
    fails: Mapping[str, int]
    together: frozenset[int] = frozenset()


class Turns:
    """Lets calls end in a given order, each once nothing comes of the one before any more.

    Where that cannot be had, as where other steps were let in first, those that are there still end
    in the order given.
    """

    GAP_SECONDS = 0.05
    """Time between two ends: more than a commit takes, less than a cancelled effect is given."""
    PATIENCE_SECONDS = 60.0
    """How long calls wait for one before them: it may have been cancelled meanwhile."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._next = 0
        self._waiting: dict[int, asyncio.Future[None]] = {}
        self._counts: Counter[str] = Counter()
        self._timer: asyncio.TimerHandle | None = None

    async def wait(self, name: str) -> None:
        """Return when it is a call's turn to end."""
        ranks, number = self._plan.ranks.get(name, ()), self._counts[name]
        self._counts[name] += 1
        if number >= len(ranks):
            await asyncio.sleep(NEVER_SECONDS)
            return
        rank = ranks[number]
        self._waiting[rank] = asyncio.get_running_loop().create_future()
        self._set_timer()
        try:
            await self._waiting[rank]
        finally:
            del self._waiting[rank]
            self._next = max(self._next, rank + 1)
            if rank + 1 in self._plan.together and rank + 1 in self._waiting:
                self._end(rank + 1)  # before anything comes of this one, and behind it
            else:
                self._set_timer()

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._waiting:
            is_next = min(self._waiting) <= self._next
            seconds = self.GAP_SECONDS if is_next else self.PATIENCE_SECONDS
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(seconds, self._let_end, context=Variables())

    def _let_end(self) -> None:
        self._end(min(self._waiting))

    def _end(self, rank: int) -> None:
        if not self._waiting[rank].done():
            self._waiting[rank].set_result(None)


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
    kept: dict[str, list[str]] = field(default_factory=dict)
    """What functions keep between their calls, and return."""
    attempts: dict[str, int] = field(default_factory=dict)
    """How often calls that are retried may be executed in all."""
    books: Books = field(default_factory=Books)
    """What models count, in this life and those before."""
    is_dead: bool = False
    """Whether the process was killed: what its tasks still do has never happened."""
    pace: float = 1.0
    """How many times longer calls take."""
    _turns: Turns | None = None

    def next(self) -> "World":
        """Return the world in which another process goes on, which remembers nothing."""
        earlier = self.earlier + self.counts
        return World(self.chance, earlier=earlier, attempts=self.attempts, books=self.books)

    async def happen(self, name: str, key: str = "") -> None:
        """Note that a call's body is executed, and let it take its time."""
        self.note(name, key)
        self.under_way[name] += 1
        try:
            await self.take_time(name)
        finally:
            self.under_way[name] -= 1

    def note(self, name: str, key: str = "") -> None:
        """Note that a call's body is executed, of an effect under which idempotency key."""
        if self.is_dead:
            return
        self.counts[name] += 1
        if key:
            self.keys.setdefault(name, set()).add(key)

    def executions(self, name: str) -> int:
        """Return how often a call's body was executed, in lives before, too."""
        return self.earlier[name] + self.counts[name]

    def pay(self, name: str, tokens: int) -> None:
        """Note that a model computes so many tokens."""
        if not self.is_dead:
            self.books.paid[name] += tokens

    async def take_time(self, name: str) -> None:
        """Wait for as long as a call takes."""
        if self.plan is not None:
            await self.turn(name)
        else:
            await asyncio.sleep(self.pace * self.chance.choice(DELAYS))

    def patience(self, number: int) -> float:
        """Return how long something waits in vain, in seconds: far more than all calls take.

        Two of them are far apart, each by its number.
        """
        seconds = 200.0 + 300.0 * (number % 31)
        return seconds if self.plan is None else 3 * seconds

    async def turn(self, name: str) -> None:
        """Wait for a call's turn to end, if there is an order."""
        if self.plan is not None:
            self._turns = self._turns or Turns(self.plan)
            await self._turns.wait(name)

    def is_to_fail(self, name: str, fails: int) -> bool:
        """Return whether this execution of a call that is retried fails, as the first ones do."""
        self.attempts[name] = fails + 1
        if self.plan is not None:
            fails = self.plan.fails.get(name, 0)
        return self.executions(name) <= fails


class Witnessed(World):
    """The world of several processes that may be killed: a file tells what was executed in them.

    Args:
        file: has a line for each execution of a body: the call's name, and the idempotency key.
    """

    def __init__(self, file: Path) -> None:
        super().__init__(random.Random(), pace=PACE)  # noqa: S311  it chooses delays
        self._file = file

    def note(self, name: str, key: str = "") -> None:
        # Before the body, as one write: a process that is killed then has executed it, or not.
        with self._file.open("a", encoding="ascii") as file:
            file.write(f"{name} {key}\n")

    def executions(self, name: str) -> int:
        return read_witness(self._file).counts[name]


def read_witness(file: Path, *, begin: int = 0, end: int | None = None) -> World:
    """Return a world in which happened what a file tells between two places, in bytes."""
    found = World(random.Random(0))  # noqa: S311  it chooses nothing
    for line in file.read_bytes()[begin:end].decode().splitlines():
        name, _, key = line.partition(" ")
        found.note(name, key)
    return found


class ProgramLoop(SeededLoop):
    """An event loop with a world, for random programs."""

    def __init__(self, seed: int, world: World, *, limit: float, began: float | None) -> None:
        super().__init__(seed, limit=limit, began=began)
        self.world = world


def go_on_in(world: World) -> World:
    """Let what comes on the running loop from now on come in another world."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, ProgramLoop)
    loop.world = world
    return world


_ELSEWHERE = World(random.Random(0))  # noqa: S311  it chooses delays


@functools.lru_cache(maxsize=1)
def _witnessed(file: str) -> World:
    return Witnessed(Path(file))


def world() -> World:
    """Return the world of the running loop; where it has none, that of processes on Ray.

    If nobody writes down what they execute, calls there just take a moment.
    """
    loop = asyncio.get_running_loop()
    if isinstance(loop, ProgramLoop):
        return loop.world
    file = os.environ.get(WITNESS)
    return _witnessed(file) if file else _ELSEWHERE
