"""The lives of one random program after its first: what happens to it before it may end.

Between the process that was stopped and the one that ends the run, others may come: they leave or
die at once, or hold a later version of the code.
"""

import random
from collections.abc import Callable, Mapping
from typing import Literal, TypeAlias

from crew.graph import Workflow
from crew.journal import Store
from crew.testing.generator.books import problems
from crew.testing.generator.history import History, read, rows_of
from crew.testing.generator.letters import MARGIN_SECONDS, last_deadline, post
from crew.testing.generator.life import NEVER, Life, live

Between: TypeAlias = Literal["deploy", "deaths", "leaves", "letters"]
DEATHS = LEAVES = 3
"""How many owners of a run die before it is parked, or leave, and it is not."""


class Lives:
    """The lives of a run in one store, each checked for calls that are made again.

    Args:
        chance: of their schedules.
        store: where the run is.
        workflow: the program.
        first: the life that was stopped.
    """

    def __init__(
        self, chance: random.Random, store: Store, workflow: Workflow, first: Life
    ) -> None:
        self.last = first
        self.leaving = [first.leaving]
        """When its processes left in good order."""
        self.problems: list[tuple[str, str]] = []
        """What was wrong in any of them."""
        self._chance = chance
        self._store = store
        self._workflow = workflow
        self.are_calm = not first.world.is_dead
        """Whether no process died that had it."""
        self._keys: dict[str, set[str]] = {}
        self._note(first)

    def go_on(
        self,
        *,
        workflow: Workflow | None = None,
        kill: int = NEVER,
        stop: int = NEVER,
        resumed: bool = False,
        began: float | None = None,
    ) -> Life:
        """Go on with the run in another process; its own problems are left to the caller.

        Args:
            workflow: another version of it.
            kill: after how many further events that process is killed.
            stop: after how many it leaves in good order.
            resumed: whether somebody asks for it, since it was parked.
            began: when it begins, in unix seconds; as the last one ended by default.
        """
        held, before = self.history(), self.last.world
        spent = list(problems(before.books, held.bills, self._store, exact=self.are_calm))
        life = live(
            self._chance.getrandbits(32),
            before.next(),
            self._store,
            workflow or self._workflow,
            number=self.last.number,
            held=held,
            kill=kill,
            stop=stop,
            resumed=resumed,
            began=began or self.last.leaving[1],
        )
        life.has_letters = began is not None
        life.in_flight = self.last.in_flight
        life.problems += [("spent", problem) for problem in spent]
        check_counts(life)
        check_acts(life, self._keys)
        self._note(life)
        self.leaving.append(life.leaving)
        self.are_calm = self.are_calm and not life.world.is_dead
        self.last = life
        return life

    def _note(self, life: Life) -> None:
        for part in life.parts():
            for name, keys in part.world.keys.items():
                self._keys.setdefault(name, set()).update(keys)

    def post(self) -> float | None:
        """Let people answer while nobody has the run; return when all questions are closed.

        If something else has a deadline, nobody says anything.
        """
        held = self.history()
        last = last_deadline(held)
        if last is None:
            return None
        post(self._chance.getrandbits(32), self._store, held, now=self.last.leaving[1])
        return last + 2 * MARGIN_SECONDS

    def history(self) -> History:
        return read(self._store, self.last.number)

    def has_children(self) -> bool:
        return len(rows_of(self._store, self.last.number)) > 1

    def acts(self) -> list[str]:
        """Return the places of effects that are on record under a key of the context's."""
        names = (name.partition(":") for name in sorted(self._keys))
        return [site for kind, _, site in names if kind == "effect"]

    def died_at_once(self) -> bool:
        """Whether the last owner was killed while the run was under way, and had done nothing."""
        row = self._store.numbered(self.last.number)
        assert row is not None
        last = self._store.events(row.number, after=row.offset - 1)
        return row.status == "running" and [event.kind for event in last] == ["run.taken"]


def between(what: Between | None, lives: Lives, renamed: Callable[[str], Workflow] | None) -> Life:
    """Let happen what comes before the last life, and return that one.

    `renamed` gives the program with another key for the effect at a place, if it is one step.
    """
    if what == "deploy" and renamed is not None:
        return _deploy(lives, renamed)
    if what == "deaths":
        return _deaths(lives)
    if what == "letters":
        return lives.go_on(began=lives.post())
    return _leaves(lives) if what == "leaves" else lives.go_on()


def _deploy(lives: Lives, renamed: Callable[[str], Workflow]) -> Life:
    """New code finds an effect on record that it does not ask for: it parks the run, or ends it.

    In the first case the old code can end it.
    """
    acts = lives.acts()
    if lives.has_children() or not acts:
        return lives.go_on()
    new = lives.go_on(workflow=renamed(acts[-1]))
    parked = [detail for kind, detail in new.problems if kind == "parked"]
    if not parked:
        return new
    new.problems = [problem for problem in new.problems if problem[0] != "parked"]
    return _with_problems_of(new, lives.go_on(resumed=True))


def _deaths(lives: Lives) -> Life:
    """The run ends its owners one after the other: the third names it, and a person goes on."""
    if lives.has_children():
        return lives.go_on()
    for _ in range(DEATHS - 1):
        life = lives.go_on(kill=1)
        if life.outcome or life.problems:
            return life
        if not lives.died_at_once():
            return lives.go_on()  # it waits, so that nobody dies of it
    named = lives.go_on()
    poisoned = [detail for kind, detail in named.problems if "poisoned" in detail]
    if not poisoned:
        named.wrong("poison", f"{DEATHS} owners died of it, and it is not parked")
        return named
    named.problems = [problem for problem in named.problems if problem[1] not in poisoned]
    return _with_problems_of(named, lives.go_on(resumed=True))


def _leaves(lives: Lives) -> Life:
    """Owners leave one after the other before anything is done: that says nothing of the run."""
    for _ in range(LEAVES):
        life = lives.go_on(stop=1)
        if life.outcome or life.problems:
            return life
    return lives.go_on()


def _with_problems_of(earlier: Life, life: Life) -> Life:
    life.problems += earlier.problems
    return life


def check_counts(life: Life) -> None:
    """Nothing is executed again whose end was on disk, nor twice at once."""
    for part in life.parts():
        for name, count in part.world.counts.items():
            most = part.world.attempts.get(name, 1) - part.held.failed[name]
            if name in part.held.done:
                life.wrong("again", f"{name} was executed again, though its end was on disk")
            elif not name.startswith("child:") and count > most:
                life.wrong("again", f"{name} was executed {count} times, {most} at most was right")


def check_bills(life: Life, history: History, store: Store, *, exact: bool) -> None:
    """Models, journals and accounts agree on what was spent, and no budget is passed."""
    for problem in problems(life.world.books, history.bills, store, exact=exact):
        life.wrong("spent", problem)


def check_acts(life: Life, before: Mapping[str, set[str]]) -> None:
    """An act in flight is made again with its own key, and not where its policy is to fail."""
    known = dict(before)
    for part in life.parts():
        never_again = part.held.never_again
        for name, keys in part.world.keys.items():
            known[name] = keys | known.get(name, set())
            if len(known[name]) > 1:
                life.wrong("act", f"{name} happened under several idempotency keys")
            if keys & never_again:
                life.wrong("act", f"{name} was in flight, and its policy is to fail")
        for name in never_again & part.world.counts.keys():
            life.wrong("act", f"{name} was in flight, and may be made once")
