"""A graph's meaning in a few lines: a sequential walk, one value at a time.

It is written from docs/design.md, section 7, and knows nothing of `crew`. It goes to the end of
every branch, so that it finds each way in which the run may end: which of them comes first is
nobody's promise where two values are under way at once.
"""

from collections import Counter, defaultdict
from dataclasses import dataclass, field

from tests.programs.graphs import NodePlan, Plan, State, Taken, Value, decide, key_of

MOST_STEPS = 150
"""A plan with more is run with less fuel."""


class TooLong(Exception):
    """The walk has more steps than a test has time for."""


@dataclass(frozen=True, slots=True)
class Ended:
    """How a run may end: `kind` is `output`, or the type of what it failed with."""

    kind: str
    value: Value | None = None


@dataclass(slots=True)
class Scope:
    """The values of one list that a node returned, as they arrive at joins."""

    arrived: dict[str, list[tuple[tuple[int, ...], Value, int]]] = field(
        default_factory=lambda: defaultdict(list)
    )
    is_stuck: bool = False


class Interpreter:
    """Walks a plan from its start.

    `ends` are its possible outcomes, `steps` what was executed, and `longest` how many steps one
    value came from, at most.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.ends: set[Ended] = set()
        self.steps: Counter[tuple[str, object]] = Counter()
        self.state = State()
        self.longest = 0
        self._go_on(None, plan.start, (), (), 1)
        if not self.ends:
            self.ends.add(Ended("NoOutput"))

    @property
    def is_cut_off(self) -> bool:
        """Whether the run may end while other values are still under way."""
        kinds = {end.kind for end in self.ends}
        return kinds != {"NoOutput"} and (self.plan.may_race or kinds != {"output"})

    def _go_on(
        self,
        giver: NodePlan | None,
        value: Value,
        scopes: tuple[Scope, ...],
        place: tuple[int, ...],
        step: int,
    ) -> None:
        """Take a value to whoever takes it; `step` is the number of the firing that it causes."""
        if not scopes and self.plan.is_end(giver, value.type):
            self.ends.add(Ended("output", value))
            return
        for taker in self.plan.takers(giver, value.type):
            if taker.joins:
                scopes[-1].arrived[taker.name].append((place, value, step))
            else:
                self._fire(taker, value, scopes, place, step)

    def _fire(
        self,
        node: NodePlan,
        taken: Taken,
        scopes: tuple[Scope, ...],
        place: tuple[int, ...],
        step: int,
    ) -> None:
        if step > self.plan.max_steps:
            self._fail("StepLimit", scopes)
            return
        decision = decide(self.plan, node, taken, self.state)
        if decision.breaks:
            self._fail("Broken", scopes)
            return
        self._count(node, taken, step)
        last = self.state.last if decision.last is None else decision.last
        self.state = State((*self.state.notes, *decision.notes), last)
        if isinstance(decision.result, list):
            self._spread(node, decision.result, scopes, place, step)
        elif decision.result is not None:
            self._go_on(node, decision.result, scopes, place, step + 1)

    def _spread(
        self,
        node: NodePlan,
        items: list[Value],
        scopes: tuple[Scope, ...],
        place: tuple[int, ...],
        step: int,
    ) -> None:
        """Take each item of a list to its end, then fire the joins that it leads to, once each."""
        inner = Scope()
        for index, item in enumerate(items):
            self._go_on(node, item, (*scopes, inner), (*place, index), step + 1)
        if inner.is_stuck:
            return
        for join in self.plan.joins_of(node):
            arrived = sorted(inner.arrived[join.name], key=lambda item: item[0])
            last = max((number for _, _, number in arrived), default=step + 1)
            self._fire(join, [value for _, value, _ in arrived], scopes, place, last)

    def _fail(self, kind: str, scopes: tuple[Scope, ...]) -> None:
        """A value that ends the run stays where it is: no scope around it is ever done."""
        self.ends.add(Ended(kind))
        for scope in scopes:
            scope.is_stuck = True

    def _count(self, node: NodePlan, taken: Taken, step: int) -> None:
        self.steps[node.name, key_of(self.plan, taken)] += 1
        self.longest = max(self.longest, step)
        if self.steps.total() > MOST_STEPS:
            raise TooLong
