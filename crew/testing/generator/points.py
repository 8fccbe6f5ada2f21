"""Random programs stopped after every event and gone on with: is what comes of them right?

A point is one program, stopped after one event: killed, so that what was not committed is lost, or
left in good order. Another process goes on under another schedule; at some points, after others
that died of it, that left at once, or that had a later version of the code. Right is: no call is
executed again whose end was on disk; the outcome is one that an undisturbed schedule gives; a
replay gives the same; nothing is parked without a cause, stuck, or left running; nothing comes
behind a run's end.
"""

import itertools
import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from crew.errors import StoreError
from crew.graph import Workflow
from crew.journal import Store
from crew.journal.memory import MemoryStore
from crew.testing.generator.books import is_hidden, is_spent
from crew.testing.generator.history import History, read
from crew.testing.generator.interpret import workflow_of
from crew.testing.generator.life import NEVER, Fault, Life, live
from crew.testing.generator.lives import (
    Between,
    Lives,
    between,
    check_acts,
    check_bills,
    check_counts,
)
from crew.testing.generator.tree import Nodes, Tree
from crew.testing.generator.world import Plan, World

How = Literal["kill", "stop", "full", "lost", "deploy", "deaths", "leaves", "letters"]
"""How a program is stopped, or stopped and gone on with in a harder way: see `lives`.

At `full` and `lost` a commit fails instead: see `Fault`.
"""
_BETWEEN: dict[How, Between] = {
    "deploy": "deploy",
    "deaths": "deaths",
    "leaves": "leaves",
    "letters": "letters",
}
HARDER_POINTS = 6
"""At one of so many events a harder way is tried."""
FAULTY_POINTS = 5
"""At one of so many the commit fails."""
LETTER_POINTS = 3
"""At one of so many, in programs that ask for a time, people answer while nobody has the run."""
_SIGNS = {
    "a race on first completion": "First(",
    "a timeout that strikes": "strikes=True",
    "a timeout that does not": "strikes=False",
    "a tool that holds the run": "first='hold'",
    "an agent that asks an agent": "first='ask'",
    "a journalled sleep": "sleeps=True",
    "a question in time": "limit='kept'",
    "a question too late": "limit='passes'",
}
"""What programs have in them, told by their texts."""
_ASKS = {"a question in time", "a question too late"}
MANY_SCHEDULES = 400
"""So many are tried before an outcome is called none of theirs, and more where they give many."""
MOST_SCHEDULES = 2_000
FIRST_SCHEDULES = 3
KINDS = (
    "damaged",
    "act",
    "again",
    "spent",
    "outcome",
    "parked",
    "poison",
    "stuck",
    "result",
    "behind",
    "left",
    "replay",
)
"""What may be wrong at a point, the worst first, which is the one that is counted.

A journal that cannot be read; an act made twice, or under another key; a call executed again; a
budget that is passed, or spares what it could give, or is not what models count; an outcome that no
undisturbed schedule gives; a run that was parked, or was not though its owners died of it, or never
ends, or has no result; an event behind a run's end; a task left running; a replay that differs.
"""


@dataclass(frozen=True, slots=True)
class Wrong:
    """A point at which something was not right."""

    kind: str
    seed: int
    event: int
    how: How | None
    detail: str


@dataclass(frozen=True, slots=True)
class Point:
    """A program stopped after an event, and what was wrong there, if anything.

    `saw` says what was going on.
    """

    seed: int
    event: int
    how: How | None
    wrong: Wrong | None
    saw: frozenset[str]


Stores = Callable[[], Store]


class Subject:
    """One program, and the outcomes that undisturbed schedules give.

    Args:
        tree: the program.
        seed: of the schedules.
        name: the workflow's, by which it is told from others in the same store.
        stores: makes the stores in which it runs.
    """

    def __init__(
        self, tree: Tree, seed: int, *, name: str = "", stores: Stores = MemoryStore
    ) -> None:
        self.tree, self.seed = tree, seed
        self._stores = stores
        self._has = {sight for sight, sign in _SIGNS.items() if sign in repr(tree)}
        self.workflow: Workflow = workflow_of(tree, name or f"p{seed}")
        self.outcomes: dict[str, int] = {}
        """Those that were seen, and under which schedule."""
        self._schedules = 0
        self.events = 0

    def points(self) -> Iterator[Point]:
        """Yield the undisturbed schedules, then each event with both ways to stop."""
        for _ in range(FIRST_SCHEDULES):
            yield self._point(0, None, *self._undisturbed())
        hows: tuple[How, ...] = ("kill", "stop")
        chance = random.Random(self.seed)  # noqa: S311  repeatable
        for event in range(1, self.events):
            for how in hows:
                yield self.point(event, how)
            if chance.randrange(HARDER_POINTS) == 0:
                yield self.point(event, chance.choice(("deploy", "deaths", "leaves")))
            if chance.randrange(FAULTY_POINTS) == 0:
                yield self.point(event, chance.choice(("full", "lost")))
            if self._has & _ASKS and chance.randrange(LETTER_POINTS) == 0:
                yield self.point(event, "letters")

    def undisturbed(self, plan: Plan | None = None) -> Life:
        """Run it once under the next schedule, and keep the outcome."""
        life, _ = self._undisturbed(plan)
        return life

    def _undisturbed(self, plan: Plan | None = None) -> tuple[Life, History]:
        self._schedules += 1
        chance = random.Random(f"{self.seed} {self._schedules}")  # noqa: S311  repeatable
        store = self._stores()
        life = live(
            chance.getrandbits(32),
            World(chance, plan),
            store,
            self.workflow,
            budget=self.tree.budget,
        )
        history = read(store, life.number)
        self.events = max(self.events, history.events)
        _check_end(life, history)
        check_bills(life, history, store, exact=True)
        check_counts(life)
        if life.outcome:
            self.outcomes.setdefault(life.outcome, self._schedules)
        return life, history

    def point(self, event: int, how: How) -> Point:
        """Stop it after an event, go on elsewhere, and look."""
        try:
            return self._looked_at(event, how)
        except StoreError as error:
            wrong = Wrong("damaged", self.seed, event, how, str(error))
            return Point(self.seed, event, how, wrong, frozenset(self._has))

    def _looked_at(self, event: int, how: How) -> Point:
        chance = random.Random(f"{self.seed} {event} {how}")  # noqa: S311  repeatable
        store = self._stores()
        life = live(
            chance.getrandbits(32),
            World(chance),
            store,
            self.workflow,
            budget=self.tree.budget,
            kill=event if how in ("kill", "deploy", "deaths", "letters") else NEVER,
            stop=event if how in ("stop", "leaves") else NEVER,
            fault=Fault(event - 1, how == "lost") if how in ("full", "lost") else None,
        )
        if life.number == 0:
            return self._point(event, how, life, History())  # it was never accepted
        held = read(store, life.number)
        check_counts(life)
        check_acts(life, {})
        # A run that was let go by a commit that failed is settled by whoever takes it again.
        is_calm = not life.world.is_dead and not life.has_failed
        check_bills(life, held, store, exact=is_calm)
        if life.outcome or life.problems:
            self.check_outcome(life, held)
            return self._point(event, how, life, held)
        lives = Lives(chance, store, self.workflow, life)
        again = between(_BETWEEN.get(how or "kill"), lives, self._renamed())
        history = lives.history()
        _check_end(again, history)
        check_bills(again, history, store, exact=lives.are_calm)
        self.check_outcome(again, history, lives.leaving)
        return self._point(event, how, again, held)

    def _renamed(self) -> Callable[[str], Workflow] | None:
        if isinstance(self.tree, Nodes):
            return None  # what steps did that have ended is asked for by nobody
        return lambda site: workflow_of(self.tree, self.workflow.name, renamed=site)

    def check_outcome(
        self, life: Life, history: History, leaving: Sequence[tuple[float, float]] = ()
    ) -> None:
        """Note in a life what is wrong with its outcome, if no undisturbed schedule gives it.

        Args:
            life: in which the run ended.
            history: what its journals hold.
            leaving: from when to when calls ended to which no code came any more, in unix seconds.
        """
        if not life.outcome or life.outcome in self.outcomes:
            return
        if history.unknown and life.outcome.startswith('["failed"'):
            return  # a crash hid whether something happened, and its policy is to fail
        if is_hidden(life.world.books, history.bills):
            return  # a crash hid what a call cost, which is taken to be its bound
        # The same order of completions without a crash, then any other schedule.
        for leaves, children_first in itertools.product(((), leaving), (True, False)):
            if life.outcome not in self.outcomes:
                self.undisturbed(history.plan(leaves, children_first=children_first))
        while life.outcome not in self.outcomes and not self._has_tried_all():
            self.undisturbed()
        if life.outcome not in self.outcomes:
            life.wrong("outcome", f"{life.outcome} is none of {sorted(self.outcomes)}")

    def _has_tried_all(self) -> bool:
        """Return whether thrice as many schedules gave nothing new as gave all that there is."""
        newest = max(self.outcomes.values(), default=0)
        return self._schedules >= min(max(MANY_SCHEDULES, 4 * newest), MOST_SCHEDULES)

    def _point(self, event: int, how: How | None, life: Life, held: History) -> Point:
        wrong = None
        if life.problems:
            kind, detail = min(life.problems, key=lambda problem: KINDS.index(problem[0]))
            wrong = Wrong(kind, self.seed, event, how, detail)
        return Point(self.seed, event, how, wrong, self._saw(life, held))

    def _saw(self, life: Life, held: History) -> frozenset[str]:
        kinds = Counter(name.partition(":")[0] for name in life.in_flight)
        saw = {
            "two branches in flight": kinds.total() > 1,
            "an act in flight": kinds["effect"] + kinds["tool"] > 0,
            "a child in flight": bool(held.children),
            "a late letter": life.has_letters,
            "a failing commit": life.has_failed,
            "a retry": any(held.failed[name] for name in life.world.attempts),
            "a budget": is_spent(life.world.books, held.bills),
            "a budget that is exhausted": bool(held.bills.refusals),
        }
        return frozenset({name for name, seen in saw.items() if seen} | self._has)


def _check_end(life: Life, history: History) -> None:
    if history.behind:
        life.wrong("behind", f"{history.behind} comes behind the run's end")
