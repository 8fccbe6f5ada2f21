"""Plans of graphs at random: each that a seed makes can be built.

A plan grows node by node, each from types that are given by then and taken by nobody, until none is
left; so every node is reached, and every value has its taker.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import count
from random import Random

from tests.programs.graphs import DEEPEST, NodePlan, Plan, Value


def random_plan(seed: int) -> Plan:
    """Return the plan of a seed: every graph that it makes is one that can be built."""
    return _Grower(seed).plan()


@dataclass(slots=True)
class _Grower:
    """Grows one plan, node by node, each from types that are given and not taken yet."""

    seed: int
    chance: Random = field(init=False)
    nodes: list[NodePlan] = field(default_factory=list)
    depths: dict[str, int] = field(default_factory=dict)
    open: list[str] = field(default_factory=list)
    shared: set[str] = field(default_factory=set)
    joined: set[str] = field(default_factory=set)
    numbers: Iterator[int] = field(default_factory=count)
    outputs: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self.chance = Random(self.seed)

    def plan(self) -> Plan:
        inputs = tuple(self._new_type(0) for _ in range(1 + self._is(0.2)))
        self.outputs = ("Out0", "Out1")[: 1 + self._is(0.2)]
        size = self.chance.randint(3, 12)
        while self.open:
            self._grow(is_closing=len(self.nodes) >= size)
        endless = self._is(0.06)
        start = Value(self.chance.choice(inputs), self.chance.randrange(1000), 0)
        most = self.chance.randint(4, 14) if endless or self._is(0.06) else 1000
        plan = Plan(self.seed, tuple(self.nodes), inputs, self.outputs, start, most, endless)
        return _with_state(self.chance, self._with_after(plan))

    def _is(self, share: float) -> bool:
        return self.chance.random() < share

    def _new_type(self, depth: int) -> str:
        name = f"T{next(self.numbers)}"
        self.depths[name] = depth
        self.open.append(name)
        return name

    def _grow(self, *, is_closing: bool) -> None:
        """Add a node that takes some open types of one depth; to close, all of the deepest."""
        depths = sorted({self._depth(name) for name in self.open})
        at = depths[-1] if is_closing else self.chance.choice(depths)
        joins = at > 0 and (is_closing or self._is(0.25))
        takes = self._taken_at(at, joins=joins, is_closing=is_closing)
        if takes:
            self._add(takes, at - joins, joins=joins, is_closing=is_closing)

    def _depth(self, name: str) -> int:
        return self.depths.get(name, 1)  # an output that waits for a taker is inside a fan-out

    def _taken_at(self, at: int, *, joins: bool, is_closing: bool) -> tuple[str, ...]:
        here = [name for name in self.open if self._depth(name) == at]
        if not joins:
            here = [name for name in here if name not in self.outputs]
        is_all = is_closing or (joins and self._is(0.9))
        takes = here if is_all else self.chance.sample(here, min(len(here), 1 + self._is(0.3)))
        self.open = [name for name in self.open if name not in takes]
        self.joined |= {*takes} & {*self.outputs}
        again = sorted(name for name in self.shared - {*takes} if self._depth(name) == at)
        if takes and again and self._is(0.6):
            takes = [*takes, self.chance.choice(again)]  # another one takes it already
        return tuple(takes)

    def _add(self, takes: tuple[str, ...], depth: int, *, joins: bool, is_closing: bool) -> None:
        fans_out = not is_closing and depth < DEEPEST and self._is(0.4 if depth else 0.5)
        broadcast = not is_closing and self._is(0.2 if depth + fans_out else 0.05)
        at = depth + fans_out
        if is_closing and depth == 0 and (not joins or self._is(0.7)):
            gives, back = {self.chance.choice(self.outputs)}, set[str]()
        else:
            gives, back = self._given_at(at, is_alone=is_closing or broadcast)
        if broadcast:
            self.shared |= gives - {*self.outputs}
        order = sorted(gives | back)
        self.chance.shuffle(order)
        node = NodePlan(f"n{len(self.nodes)}", depth, takes, tuple(order), joins, fans_out)
        node = replace(node, back=frozenset(back), broadcast=broadcast)
        self.nodes.append(self._with_policies(node))

    def _given_at(self, at: int, *, is_alone: bool) -> tuple[set[str], set[str]]:
        """Return types to give at a depth: those that lead on, and those that lead back."""
        on = {self._new_type(at)}
        if is_alone:
            return on, set()
        mine = [name for name in self.depths if self._depth(name) == at and name not in self.shared]
        merged = [name for name in self.open if name in mine and name not in on]
        if merged and self._is(0.3):
            extra = self.chance.choice(merged)
            on = {extra} if self._drop(on) else on | {extra}
        if self._is(0.25):
            on.add(self._new_type(at))
        if at < DEEPEST and self._is(0.15):
            on.add(self._output_at(at))
        taken = [name for name in mine if name in self.depths and name not in {*self.open, *on}]
        back = {self.chance.choice(taken)} if taken and self._is(0.45) else set[str]()
        return on, back

    def _drop(self, fresh: set[str]) -> bool:
        """Give up a type that nobody else knows yet, every other time."""
        if self._is(0.5):
            return False
        self.open = [name for name in self.open if name not in fresh]
        self.depths = {name: at for name, at in self.depths.items() if name not in fresh}
        return True

    def _output_at(self, at: int) -> str:
        name = self.chance.choice(self.outputs)
        if at == 1 and name not in self.joined and name not in self.open:
            self.open.append(name)  # inside a fan-out a join has to take it
        return name

    def _with_policies(self, node: NodePlan) -> NodePlan:
        failures = self.chance.choice((0, 0, 0, 0, 1, 2))
        return replace(
            node,
            may_end=self._is(0.3 if node.depth else 0.06),
            failures=failures,
            attempts=failures + 1 + self._is(0.2),
            breaks=self.chance.choice((3, 7)) if self._is(0.04) else 0,
            concurrency=self.chance.randint(1, 3) if self._is(0.25) else None,
        )

    def _with_after(self, plan: Plan) -> Plan:
        """Let up to two nodes take exactly another one's values, where the rest still works."""
        for _ in range(2):
            if not self._is(0.35):
                continue
            giver = self.chance.choice(plan.nodes)
            type_ = self.chance.choice(giver.gives)
            followed = [node for node in plan.nodes if node.after == giver.name]
            if followed:
                continue
            more = replace(plan, nodes=(*plan.nodes, self._after(plan, giver, type_)))
            plan = more if more.is_whole() else plan
        return plan

    def _after(self, plan: Plan, giver: NodePlan, type_: str) -> NodePlan:
        at = giver.depth_given
        joins = at > 0 and (type_ in self.outputs or self._is(0.3))
        depth = at - joins
        known = [name for name in self.depths if self._depth(name) == depth]
        known = [name for name in known if name not in self.shared]
        on = {self.chance.choice(self.outputs)} if depth == 0 else set[str]()
        back = {self.chance.choice(known)} if known and (not on or self._is(0.4)) else set[str]()
        node = NodePlan(f"n{len(plan.nodes)}", depth, (type_,), (*on, *back), joins)
        node = self._with_policies(replace(node, back=frozenset(back), after=giver.name))
        return replace(node, may_end=node.may_end or not on)


def _with_state(chance: Random, plan: Plan) -> Plan:
    """Say where order is open; where it is not outside of fan-outs, let nodes share a state."""
    crowded = [*_crowds(plan)]
    plan = replace(plan, has_ties=any(crowded), may_race=0 in crowded)
    if plan.may_race or chance.random() < 0.4:
        return plan
    nodes = tuple(
        replace(
            node,
            notes=chance.random() < 0.4,
            says_last=node.depth == 0 and chance.random() < 0.4,
            reads=node.depth == 0 and chance.random() < 0.5,
        )
        for node in plan.nodes
    )
    return replace(plan, nodes=nodes, has_state=True)


def _crowds(plan: Plan) -> Iterator[int]:
    """Yield the depths at which one value becomes several without a list around them."""
    for node in plan.nodes:
        if any(len(plan.takers(node, type_)) > 1 for type_ in node.gives):
            yield node.depth_given
        if node.fans_out and len(plan.joins_of(node)) > 1:
            yield node.depth
