"""Typed graphs as data, and what their nodes decide.

A plan says which node takes and gives which types, under which policies. What a node does with a
value is `decide`: a pure function of both. `growing` makes plans at random, `running` a real graph
of a plan; `interpreter` walks the same plan in a few lines of plain Python.

Every type belongs to one depth: how many fan-outs lie around its values. A value carries fuel,
which each edge back costs, so that loops end.
"""

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
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
