"""From nodes to a wiring: who feeds whom, and every check that a graph can work."""

from dataclasses import field
from typing import Annotated, Any, Protocol, get_args, get_origin

from pydantic import BaseModel

from crew.define import frozen
from crew.errors import GraphError
from crew.graph.node import Append, Node, leaves, type_name
from crew.graph.patch import check_state
from crew.value import describe


@frozen
class Wiring:
    """A checked graph, as the engine reads it.

    `consumers` maps (producer or None for the run's input, type name) to the nodes that fire;
    `joins` maps a node that fans out to the joins its scope must fire; `ends` holds the
    (producer, type name) pairs whose value, in the root scope, is the run's output, tagged with its
    type if `tags_output`. A `plain` workflow is one node whose value is the output whatever it is.
    `gives` are the names of the types of tokens that a node makes.
    """

    nodes: dict[str, Node]
    consumers: dict[tuple[str | None, str], tuple[str, ...]]
    joins: dict[str, tuple[str, ...]]
    ends: frozenset[tuple[str, str]]
    max_steps: int
    reducers: dict[str, str] = field(default_factory=dict)
    tags_output: bool = False
    plain: bool = False
    gives: dict[str, tuple[str, ...]] = field(init=False)

    def __post_init__(self) -> None:
        gives = {
            node.name: tuple(type_name(leaf) for leaf in node.gives) for node in self.nodes.values()
        }
        object.__setattr__(self, "gives", gives)

    def shape(self) -> str:
        """Return a text that differs where the engine would move another way."""
        nodes = [(n.name, n.joins, n.fans_out, n.quorum, n.takes) for n in self.nodes.values()]
        ends = sorted(self.ends)
        return repr((nodes, self.consumers, self.joins, ends, self.reducers, self.tags_output))


class Definition(Protocol):
    """What a workflow's definition says, as far as wiring it goes."""

    name: str
    input: Any
    output: Any
    state: type[BaseModel] | None
    max_steps: int
    nodes: dict[str, Node]
    plain: bool


def wire(workflow: Definition) -> Wiring:
    """Check a workflow's nodes, and return how they are wired.

    Raises:
        GraphError: the graph cannot work; the message says what to write instead.
    """
    return _Builder(workflow).wiring()


class _Builder:
    """Checks one workflow and wires it."""

    def __init__(self, workflow: Definition) -> None:
        self.workflow = workflow
        self.nodes = workflow.nodes

    def wiring(self) -> Wiring:
        if not self.nodes:
            raise GraphError(
                message=f"workflow {self.workflow.name!r} has no nodes; add one with "
                f"@{self.workflow.name}.node"
            )
        if self.workflow.state is not None:
            check_state(self.workflow.name, self.workflow.state)
        if self.workflow.plain:
            return self._plain()
        self._check_afters()
        self._check_names()
        consumers = self._consumers()
        joins = self._joins(consumers)
        self._check_reachable(consumers, joins)
        return Wiring(
            nodes=dict(self.nodes),
            consumers=consumers,
            joins=joins,
            ends=frozenset(self._ends(consumers)),
            max_steps=self.workflow.max_steps,
            reducers=self._reducers(),
            tags_output=len(leaves(self.workflow.output)) > 1,
        )

    def _plain(self) -> Wiring:
        (node,) = self.nodes.values()
        return Wiring(
            nodes=dict(self.nodes),
            consumers={(None, type_name(self.workflow.input)): (node.name,)},
            joins={},
            ends=frozenset({(node.name, type_name(self.workflow.output))}),
            max_steps=self.workflow.max_steps,
            reducers=self._reducers(),
            plain=True,
        )

    def _check_afters(self) -> None:
        for node in self.nodes.values():
            if node.after is not None and node.after not in self.nodes:
                raise GraphError(
                    message=f"node {node.name!r} comes after {node.after!r}, which is no node; "
                    f"there are: {', '.join(self.nodes)}"
                )

    def _check_names(self) -> None:
        seen: dict[str, Any] = {}
        for node in self.nodes.values():
            for leaf in (*node.takes, *node.gives):
                if seen.setdefault(type_name(leaf), leaf) != leaf:
                    raise GraphError(
                        message=f"two types of workflow {self.workflow.name!r} are named "
                        f"{type_name(leaf)!r}; journals tell types by name, so rename one"
                    )

    def _consumers(self) -> dict[tuple[str | None, str], tuple[str, ...]]:
        wired: dict[tuple[str | None, str], tuple[str, ...]] = {}
        for leaf in leaves(self.workflow.input):
            wired[None, type_name(leaf)] = self._consumers_of(None, leaf)
        for node in self.nodes.values():
            for leaf in node.gives:
                wired[node.name, type_name(leaf)] = self._consumers_of(node, leaf)
        return wired

    def _consumers_of(self, producer: Node | None, leaf: Any) -> tuple[str, ...]:
        takers = [node for node in self.nodes.values() if _accepts(node, leaf)]
        if producer is not None:
            after = [node for node in takers if node.after == producer.name]
            if after:
                return tuple(node.name for node in after)
        found = [node for node in takers if node.after is None]
        is_end = producer is not None and self._is_output(leaf)
        if is_end:
            # Only a join may stand between an output's value and the run's end: inside a
            # fan-out it collects them, in the root scope there is nothing to collect.
            found = [node for node in found if node.joins]
        if not found and not is_end:
            giver = f"node {producer.name!r} gives" if producer else "the input is"
            raise GraphError(
                message=f"workflow {self.workflow.name!r}: {giver} {describe(leaf)}, which no node "
                f"takes; add a node with a parameter of that type, or make it the output"
            )
        if len(found) > 1 and not (producer is not None and producer.broadcast):
            names = " and ".join(repr(node.name) for node in found)
            giver = repr(producer.name) if producer else "the input"
            way = (
                "use `after=` on them, or `broadcast=True` on the node that gives it"
                if producer
                else "let one of them come after a node by `after=`, or put one before both that "
                "gives it with `broadcast=True`"
            )
            raise GraphError(
                message=f"workflow {self.workflow.name!r}: {names} both take {describe(leaf)} of "
                f"{giver}; {way}"
            )
        return tuple(node.name for node in found)

    def _is_output(self, leaf: Any) -> bool:
        return _bare(leaf) in [_bare(wanted) for wanted in leaves(self.workflow.output)]

    def _ends(
        self, consumers: dict[tuple[str | None, str], tuple[str, ...]]
    ) -> list[tuple[str, str]]:
        return [
            (node.name, type_name(leaf))
            for node in self.nodes.values()
            for leaf in node.gives
            if self._is_output(leaf)
            and not any(
                self.nodes[name].after == node.name
                for name in consumers[node.name, type_name(leaf)]
            )
        ]

    def _joins(
        self, consumers: dict[tuple[str | None, str], tuple[str, ...]]
    ) -> dict[str, tuple[str, ...]]:
        """For each node that fans out, the joins its scopes fire."""
        return {
            node.name: self._joins_of(node, consumers)
            for node in self.nodes.values()
            if node.fans_out
        }

    def _joins_of(
        self, source: Node, consumers: dict[tuple[str | None, str], tuple[str, ...]]
    ) -> tuple[str, ...]:
        found: list[str] = []
        seen: set[tuple[str, int]] = set()
        todo = [(source, 1)]
        while todo:
            node, depth = todo.pop()
            for leaf in node.gives:
                for name in consumers[node.name, type_name(leaf)]:
                    taker = self.nodes[name]
                    at = depth - 1 if taker.joins else depth
                    if taker.joins and depth == 1 and name not in found:
                        found.append(name)
                    inside = at + 1 if taker.fans_out else at
                    if at >= 1 and (name, inside) not in seen and inside <= len(self.nodes):
                        seen.add((name, inside))
                        todo.append((taker, inside))
        return tuple(name for name in self.nodes if name in found)

    def _check_reachable(
        self,
        consumers: dict[tuple[str | None, str], tuple[str, ...]],
        joins: dict[str, tuple[str, ...]],
    ) -> None:
        joined = {name for names in joins.values() for name in names}
        for node in self.nodes.values():
            if node.joins and node.name not in joined:
                raise GraphError(
                    message=f"node {node.name!r} takes {describe(node.parameter)}, but no "
                    "fan-out leads to it; let a node return a list whose items lead there, or take "
                    f"{' | '.join(describe(leaf) for leaf in node.takes)}"
                )
        reached = self._reached(consumers, joins)
        for node in self.nodes.values():
            if node.name not in reached:
                raise GraphError(
                    message=f"node {node.name!r} is never reached: "
                    f"{self._why_unreached(node, reached)}"
                )
        if not any(self._is_output(leaf) for node in self.nodes.values() for leaf in node.gives):
            raise GraphError(
                message=f"workflow {self.workflow.name!r}: no node gives the output, "
                f"{describe(self.workflow.output)}"
            )

    def _why_unreached(self, node: Node, reached: set[str]) -> str:
        """Return what keeps values from a node, and what to write where that is known."""
        taken = " | ".join(describe(leaf) for leaf in node.takes)
        givers = [
            (other.name, leaf)
            for other in self.nodes.values()
            for leaf in other.gives
            if _accepts(node, leaf) and other is not node and node.after in (None, other.name)
        ]
        if not givers:
            return f"no node gives {taken}" + (f" after {node.after!r}" if node.after else "")
        followers = {other.after: other.name for other in self.nodes.values()}
        name, leaf = min(givers, key=lambda item: (item[0] not in reached, item[0] in followers))
        if name not in reached:
            return f"only {name!r} gives it {describe(leaf)}, and is never reached itself"
        if name in followers:
            return (
                f"what {name!r} gives goes to {followers[name]!r} alone, by `after=`; write "
                f"`after={name}` on {node.name!r} too, and `broadcast=True` on {name!r}"
            )
        return (
            f"{name!r} gives {describe(leaf)}, which is the output of workflow "
            f"{self.workflow.name!r} and ends the run there; write `after={name}` on "
            f"{node.name!r}, so that its value goes on to it"
        )

    def _reached(
        self,
        consumers: dict[tuple[str | None, str], tuple[str, ...]],
        joins: dict[str, tuple[str, ...]],
    ) -> set[str]:
        """Return the nodes that can fire; checks on the way that no output is left in a fan-out."""
        seen: set[tuple[str, int]] = set()
        todo = [
            (name, 0) for (giver, _), names in consumers.items() if giver is None for name in names
        ]
        while todo:
            name, depth = todo.pop()
            if (name, depth) in seen or depth > len(self.nodes):
                continue
            seen.add((name, depth))
            node = self.nodes[name]
            inside = depth + 1 if node.fans_out else depth
            if node.fans_out:
                # An empty list fires the joins too, whatever its items' own way is.
                todo += [(join, depth) for join in joins[name]]
            for leaf in node.gives:
                takers = consumers[name, type_name(leaf)]
                if inside and not takers:
                    raise GraphError(
                        message=f"node {name!r} gives the output {describe(leaf)} inside a "
                        f"fan-out, where it ends nothing; add a node that takes "
                        f"list[{describe(leaf)}] and joins them"
                    )
                todo += [
                    (taker, max(0, inside - 1) if self.nodes[taker].joins else inside)
                    for taker in takers
                ]
        return {name for name, _ in seen}

    def _reducers(self) -> dict[str, str]:
        if self.workflow.state is None:
            return {}
        return {
            name: "append"
            for name, info in self.workflow.state.model_fields.items()
            if any(isinstance(item, Append) for item in info.metadata)
        }


def _accepts(node: Node, leaf: Any) -> bool:
    return any(_bare(leaf) == _bare(wanted) for wanted in node.takes)


def _bare(annotation: Any) -> Any:
    return get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation
