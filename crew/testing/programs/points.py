"""Random programs stopped after every event and gone on with: is what comes of them right?

A point is one program, stopped after one event: killed, so that what was not committed is lost, or
left in good order. Another process goes on under another schedule. Right is: no call is executed
again whose end was on disk; the outcome is one that an undisturbed schedule gives; a replay gives
the same; nothing is parked, stuck, or left running; nothing comes behind a run's end.
"""

import random
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from crew.graph import Workflow
from crew.journal import Store
from crew.journal.memory import MemoryStore
from crew.testing.programs.history import History, read
from crew.testing.programs.interpret import workflow_of
from crew.testing.programs.life import NEVER, Life, live
from crew.testing.programs.tree import Tree
from crew.testing.programs.world import Plan, World

How = Literal["kill", "stop"]
MOST_SCHEDULES = 50
FIRST_SCHEDULES = 3
KINDS = ("act", "again", "outcome", "parked", "stuck", "result", "behind", "left", "replay")
"""What may be wrong at a point, the worst first, which is the one that is counted.

An act made twice, or under another key; a call executed again; an outcome that no undisturbed
schedule gives; a run that was parked, or never ends, or has no result; an event behind a run's end;
a task left running; a replay that differs.
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
        self._has_race = "First(" in repr(tree)
        self.workflow: Workflow = workflow_of(tree, name or f"p{seed}")
        self.outcomes: dict[str, int] = {}
        """Those that were seen, and under which schedule."""
        self._schedules = 0
        self.events = 0

    def points(self) -> Iterator[Point]:
        """Yield the undisturbed schedules, then each event with both ways to stop."""
        for _ in range(FIRST_SCHEDULES):
            yield self._point(0, None, self.undisturbed(), History())
        hows: tuple[How, ...] = ("kill", "stop")
        for event in range(1, self.events):
            for how in hows:
                yield self.point(event, how)

    def undisturbed(self, plan: Plan | None = None) -> Life:
        """Run it once under the next schedule, and keep the outcome."""
        self._schedules += 1
        chance = random.Random(f"{self.seed} {self._schedules}")  # noqa: S311  repeatable
        store = self._stores()
        life = live(chance.getrandbits(32), World(chance, plan), store, self.workflow)
        history = read(store, life.number)
        self.events = max(self.events, history.events)
        _check_end(life, history)
        _check_counts(life, History())
        if life.outcome:
            self.outcomes.setdefault(life.outcome, self._schedules)
        return life

    def point(self, event: int, how: How) -> Point:
        """Stop it after an event, go on elsewhere, and look."""
        chance = random.Random(f"{self.seed} {event} {how}")  # noqa: S311  repeatable
        store = self._stores()
        life = live(
            chance.getrandbits(32),
            World(chance),
            store,
            self.workflow,
            kill=event if how == "kill" else NEVER,
            stop=event if how == "stop" else NEVER,
        )
        if life.number == 0:
            return self._point(event, how, life, History())  # it was never accepted
        held = read(store, life.number)
        _check_counts(life, History())
        if life.outcome or life.problems:
            self._check_outcome(life, held)
            return self._point(event, how, life, held)
        again = self._go_on(chance, store, life, held)
        history = read(store, life.number)
        _check_end(again, history)
        _check_counts(again, held)
        _check_acts(again, life.world, held)
        self._check_outcome(again, history)
        return self._point(event, how, again, held)

    def _go_on(self, chance: random.Random, store: Store, life: Life, held: History) -> Life:
        world = World(chance, earlier=life.world.counts.copy(), attempts=life.world.attempts)
        again = live(
            chance.getrandbits(32),
            world,
            store,
            self.workflow,
            number=life.number,
            open_questions=held.questions,
        )
        again.in_flight = life.in_flight
        return again

    def _check_outcome(self, life: Life, history: History) -> None:
        if not life.outcome or life.outcome in self.outcomes:
            return
        if history.unknown and life.outcome.startswith('["failed"'):
            return  # a crash hid whether something happened, and its policy is to fail
        # The same order of completions without a crash, then any other schedule.
        self.undisturbed(history.plan())
        while life.outcome not in self.outcomes and self._schedules < MOST_SCHEDULES:
            self.undisturbed()
        if life.outcome not in self.outcomes:
            life.wrong("outcome", f"{life.outcome} is none of {sorted(self.outcomes)}")

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
            "a retry": any(held.failed[name] for name in life.world.attempts),
            "a race on first completion": self._has_race,
        }
        return frozenset(name for name, seen in saw.items() if seen)


def _check_end(life: Life, history: History) -> None:
    if history.behind:
        life.wrong("behind", f"{history.behind} comes behind the run's end")


def _check_counts(life: Life, held: History) -> None:
    """Nothing is executed again whose end was on disk, nor twice at once."""
    for name, count in life.world.counts.items():
        most = life.world.attempts.get(name, 1) - held.failed[name]
        if name in held.done:
            life.wrong("again", f"{name} was executed again, though its end was on disk")
        elif not name.startswith("child:") and count > most:
            life.wrong("again", f"{name} was executed {count} times, {most} at most was right")


def _check_acts(life: Life, before: World, held: History) -> None:
    """An act in flight is made again with its own key, and not where its policy is to fail."""
    for name, keys in life.world.keys.items():
        if len(keys | before.keys.get(name, set())) > 1:
            life.wrong("act", f"{name} happened under several idempotency keys")
        if keys & held.never_again:
            life.wrong("act", f"{name} was in flight, and its policy is to fail")
    for name in held.never_again & life.world.counts.keys():
        life.wrong("act", f"{name} was in flight, and may be made once")
