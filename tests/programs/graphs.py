"""Random typed graphs as data, and what their nodes decide.

A plan says which node takes and gives which types, under which policies. What a node does with a
value is `decide`: a pure function of both. `running` makes a real graph of a plan; `interpreter`
walks the same plan in a few lines of plain Python.

Every type belongs to one depth: how many fan-outs lie around its values. A value carries fuel,
which each edge back costs, so that loops end.
"""

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from random import Random
from typing import NamedTuple

DEEPEST = 2
"""How many fan-outs may lie around a value."""


class Value(NamedTuple):
    """A value of the type named `type`."""

    type: str
    n: int
    fuel: int


Taken = Value | list[Value]
"""What a node is given: one value, or those that it joins."""


@dataclass(frozen=True, slots=True)
class State:
    """What all steps of a run share: notes that any may add, and the last word of one at a time."""

    notes: tuple[int, ...] = ()
    last: int = 0


@dataclass(frozen=True, slots=True)
class NodePlan:
    """One node: what it takes and gives, and its policies.

    `depth` is where it runs; `back` are those of `gives` that cost fuel. The first `failures`
    attempts at each value fail; one value in `breaks` fails always (0: none).
    """

    name: str
    depth: int
    takes: tuple[str, ...]
    gives: tuple[str, ...]
    joins: bool = False
    fans_out: bool = False
    back: frozenset[str] = frozenset()
    may_end: bool = False
    after: str | None = None
    broadcast: bool = False
    failures: int = 0
    attempts: int = 1
    breaks: int = 0
    concurrency: int | None = None
    notes: bool = False
    says_last: bool = False
    reads: bool = False

    @property
    def depth_given(self) -> int:
        return self.depth + self.fans_out


@dataclass(frozen=True, slots=True)
class Plan:
    """A graph, and what it is run with.

    `has_ties` says that two values may stand at one place of a fan-out, so that a join's list has
    no full order; `may_race` that two values may be outside of all fan-outs at a time.
    """

    seed: int
    nodes: tuple[NodePlan, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    start: Value
    max_steps: int = 1000
    endless: bool = False
    has_ties: bool = False
    may_race: bool = False
    has_state: bool = False

    def takers(self, giver: NodePlan | None, type_: str) -> list[NodePlan]:
        """Return the nodes that a value goes to, by the rules of `after` and of outputs."""
        all_takers = [node for node in self.nodes if type_ in node.takes]
        if giver is not None and (after := [n for n in all_takers if n.after == giver.name]):
            return after
        found = [node for node in all_takers if node.after is None]
        is_output = giver is not None and type_ in self.outputs
        return [node for node in found if node.joins] if is_output else found

    def is_end(self, giver: NodePlan | None, type_: str) -> bool:
        """Return whether a value outside of all fan-outs is the run's output."""
        if giver is None or type_ not in self.outputs:
            return False
        return not any(node.after == giver.name for node in self.takers(giver, type_))

    def joins_of(self, source: NodePlan) -> list[NodePlan]:
        """Return the joins that a fan-out leads to, in the order of the graph's nodes."""
        inside = {node.name for node in self._inside(source)}
        return [node for node in self.nodes if node.joins and node.name in inside]

    def _inside(self, source: NodePlan) -> Iterator[NodePlan]:
        """Yield what a fan-out's values reach before they leave its scope, the joins included."""
        seen: set[str] = set()
        todo = [source]
        while todo:
            giver = todo.pop()
            for type_ in giver.gives:
                for taker in self.takers(giver, type_):
                    if taker.name in seen or giver.depth_given <= source.depth:
                        continue
                    seen.add(taker.name)
                    if taker.depth > source.depth:
                        todo.append(taker)
                    elif taker.joins:
                        yield taker

    def reached(self) -> set[str]:
        """Return the names of the nodes that may fire."""
        todo = [node for type_ in self.inputs for node in self.takers(None, type_)]
        seen = set[str]()
        while todo:
            node = todo.pop()
            if node.name in seen:
                continue
            seen.add(node.name)
            todo += [taker for type_ in node.gives for taker in self.takers(node, type_)]
        return seen

    def is_whole(self) -> bool:
        """Return whether each node may fire, and each join lies behind a fan-out."""
        fans = [node for node in self.nodes if node.fans_out]
        joined = {join.name for fan in fans for join in self.joins_of(fan)}
        joins = {node.name for node in self.nodes if node.joins}
        return joins <= joined and len(self.reached()) == len(self.nodes)


@dataclass(frozen=True, slots=True)
class Decision:
    """What a node does with a value: break for good, or return `result` and change the state."""

    result: Value | list[Value] | None = None
    breaks: bool = False
    notes: tuple[int, ...] = ()
    last: int | None = None


def digest(*parts: object) -> int:
    return zlib.crc32(repr(parts).encode())


def key_of(plan: Plan, taken: Taken) -> tuple[object, ...]:
    """Return what a node was given, without the order of a list that has none."""
    if isinstance(taken, Value):
        return taken
    return tuple(sorted(taken) if plan.has_ties else taken)


def decide(plan: Plan, node: NodePlan, taken: Taken, state: State) -> Decision:
    """Return what a node does: a pure function of its value, and of the state if it reads that."""
    n = digest(node.name, *key_of(plan, taken))
    if node.reads:
        n = digest(n, sorted(state.notes), state.last)
    fuel = taken.fuel if isinstance(taken, Value) else max((item.fuel for item in taken), default=0)
    if node.breaks and taken and n % node.breaks == 0:
        return Decision(breaks=True)
    notes = (n % 97, n % 89) if node.notes else ()
    last = n % 83 if node.says_last else None
    return Decision(_result(plan, node, n, fuel), False, notes, last)


def _result(plan: Plan, node: NodePlan, n: int, fuel: int) -> Value | list[Value] | None:
    if node.may_end and n % 5 == 0:
        return None
    if node.fans_out:
        size = digest(n, "size") % 5
        items = [_given(plan, node, digest(n, index), fuel) for index in range(size)]
        return [item for item in items if item is not None]
    return _given(plan, node, n, fuel)


def _given(plan: Plan, node: NodePlan, n: int, fuel: int) -> Value | None:
    open_ = [name for name in node.gives if fuel > 0 or plan.endless or name not in node.back]
    if not open_:
        return None
    # A way back is taken more often than not, or loops would hardly turn.
    back = [name for name in open_ if name in node.back]
    chosen = back if back and digest(n, "back") % 3 else open_
    type_ = chosen[digest(n, "type") % len(chosen)]
    return Value(type_, n, fuel - (type_ in node.back and not plan.endless))


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


def drawing(plan: Plan) -> Sequence[str]:
    """Return a plan as text, a line for each node."""
    head = f"seed {plan.seed}: {plan.start} -> {' | '.join(plan.outputs)}, {plan.max_steps} steps"
    return [head, *(_line(node) for node in plan.nodes)]


def _line(node: NodePlan) -> str:
    taken, given = " | ".join(node.takes), " | ".join(node.gives)
    taken = f"list[{taken}]" if node.joins else taken
    given = f"list[{given}]" if node.fans_out else given
    names = ("may_end", "after", "broadcast", "failures", "attempts", "breaks", "concurrency")
    more = {name: getattr(node, name) for name in (*names, "notes", "says_last", "reads")}
    rest = ", ".join(f"{name}={value}" for name, value in more.items() if value)
    return f"  {node.name}: {taken} -> {given}  back={sorted(node.back)} {rest}"
