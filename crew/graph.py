"""A workflow's definition: nodes, edges from their annotations, and every check at build time."""

import hashlib
import inspect
import sys
import typing
from collections.abc import Callable
from dataclasses import dataclass, field
from types import FrameType
from typing import Annotated, Any, get_args, get_origin

from pydantic import BaseModel

from crew.errors import GraphError
from crew.retry import ONCE, Retry
from crew.value import Codec, describe, union_members

Function = Callable[..., Any]


@dataclass(frozen=True, slots=True)
class Append:
    """Reducer of a state field that parallel steps write: their values are added to the list."""


@dataclass(frozen=True, slots=True)
class Quorum:
    """A join that need not wait for all.

    Once `share` (0 to 1) of its fan-out has arrived, it waits `after` seconds for the rest, then
    fires, and cancels the stragglers.
    """

    share: float
    after: float = 0.0


@dataclass(frozen=True, slots=True)
class Node:
    """One function of a graph, with what its annotations say and the policies it was given.

    `takes` are the types of tokens it fires for, or of the values it joins when `joins` is set;
    `gives` the types of tokens it makes, each by itself when `fans_out` is set.
    """

    name: str
    function: Function
    takes_context: bool
    parameter: Any
    takes: tuple[Any, ...]
    joins: bool
    gives: tuple[Any, ...]
    fans_out: bool
    input: Codec
    output: Codec
    retry: Retry = ONCE
    timeout: float | None = None
    concurrency: int | None = None
    after: str | None = None
    broadcast: bool = False
    quorum: Quorum | None = None


@dataclass(frozen=True, slots=True)
class Wiring:
    """A checked graph, as the engine reads it.

    `consumers` maps (producer or None for the run's input, type name) to the nodes that fire;
    `joins` maps a node that fans out to the joins its scope must fire; `ends` holds the
    (producer, type name) pairs whose value, in the root scope, is the run's output, tagged with its
    type if `tags_output`. A `plain` workflow is one node whose value is the output whatever it is.
    """

    nodes: dict[str, Node]
    consumers: dict[tuple[str | None, str], tuple[str, ...]]
    joins: dict[str, tuple[str, ...]]
    ends: frozenset[tuple[str, str]]
    max_steps: int
    reducers: dict[str, str] = field(default_factory=dict)
    tags_output: bool = False
    plain: bool = False


class Workflow:
    """A typed async program: a graph of nodes, or one plain function.

    Args:
        name: how it is called, stored and served.
        input: the type a run is started with.
        output: the type that ends a run.
        version: raise it when runs that are under way must not go on with the new code.
        state: a pydantic model of what all steps share, or None.
        max_steps: bounds the steps in one token's own ancestry, so that a loop ends.
    """

    def __init__(
        self,
        name: str,
        *,
        input: Any,  # noqa: A002  the public surface fixes the name
        output: Any,
        version: str = "1",
        state: type[BaseModel] | None = None,
        max_steps: int = 1000,
    ) -> None:
        self.name = name
        self.version = version
        self.input = input
        self.output = output
        self.state = state
        self.max_steps = max_steps
        self.nodes: dict[str, Node] = {}
        self.plain = False
        self._wiring: Wiring | None = None
        self._input_codec = Codec(input, where=f"the input of workflow {name!r}")
        self._output_codec = Codec(output, where=f"the output of workflow {name!r}")

    def __repr__(self) -> str:
        return f"<workflow {self.name!r} version {self.version}: {', '.join(self.nodes)}>"

    @property
    def input_codec(self) -> Codec:
        return self._input_codec

    @property
    def output_codec(self) -> Codec:
        return self._output_codec

    def node(
        self,
        function: Function | None = None,
        *,
        name: str | None = None,
        retry: Retry | None = None,
        timeout: float | None = None,
        concurrency: int | None = None,
        after: Function | str | None = None,
        broadcast: bool = False,
        join: Quorum | None = None,
    ) -> Any:
        """Add a function to the graph; its annotations are its edges.

        Defining a node again under the same name replaces it, as running a notebook's cell again
        does; the next build checks the graph anew.

        Args:
            function: `async def node(ctx, value: T) -> U`; the context is optional.
            name: by default the function's own.
            retry: attempts after a failure; by default one.
            timeout: seconds for one attempt.
            concurrency: how many steps of this node run at once within a run.
            after: take exactly this node's output, whatever other nodes give the same type.
            broadcast: this node's output goes to every node that takes it.
            join: fire a join early.

        Raises:
            GraphError: the signature cannot be a node's.
        """
        frame = sys._getframe(1)  # noqa: SLF001  local classes resolve where they are defined

        def add(function: Function) -> Function:
            policies = _Policies(
                retry=retry or ONCE,
                timeout=timeout,
                concurrency=concurrency,
                after=getattr(after, "__name__", after),
                broadcast=broadcast,
                quorum=join,
            )
            whole = (self.input, self.output)
            node = read_node(
                self.name, function, name=name, frame=frame, policies=policies, whole=whole
            )
            self.nodes[node.name] = node
            self._wiring = None
            return function

        return add if function is None else add(function)

    def build(self) -> Wiring:
        """Check the whole graph and return its wiring.

        Raises:
            GraphError: it cannot work; the message says what to write instead.
        """
        if self._wiring is None:
            self._wiring = _Builder(self).wiring()
        return self._wiring

    def code_hash(self) -> str:
        """Return a hash of the source the workflow was defined by, 12 hex digits."""
        sources = sorted({source_of(node.function) for node in self.nodes.values()})
        return hashlib.sha256("\0".join([self.name, self.version, *sources]).encode()).hexdigest()[
            :12
        ]

    def mermaid(self) -> str:
        """Return the graph as Mermaid text, top to bottom."""
        return _draw(self, self.build())

    def _repr_markdown_(self) -> str:
        return f"```mermaid\n{self.mermaid()}\n```"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Policies:
    retry: Retry
    timeout: float | None
    concurrency: int | None
    after: Any
    broadcast: bool
    quorum: Quorum | None


NO_POLICIES = _Policies(
    retry=ONCE, timeout=None, concurrency=None, after=None, broadcast=False, quorum=None
)


def read_node(
    workflow: str,
    function: Function,
    *,
    name: str | None,
    frame: FrameType,
    policies: _Policies = NO_POLICIES,
    whole: tuple[Any, ...] | None = None,
) -> Node:
    """Read a function's annotations into a node.

    A list is a fan-out or a join, unless it is one of the `whole` types (a graph's own input and
    output); None says that every list is a value, as in a workflow that is one function.

    Raises:
        GraphError: the signature cannot be a node's.
    """
    name = name or function.__name__
    hints = _hints(function, frame)
    takes_context, parameter = _parameter(name, function, hints)
    if "return" not in hints:
        raise GraphError(message=f"node {name!r} needs a return annotation: its type is its edge")
    returned = hints["return"]
    taken = None if whole is None or parameter in whole else _list_item(parameter)
    given = None if whole is None or returned in whole else _list_item(returned)
    where = f"node {name!r} of workflow {workflow!r}"
    return Node(
        name=name,
        function=function,
        takes_context=takes_context,
        parameter=parameter,
        takes=_leaves(taken if taken is not None else parameter),
        joins=taken is not None,
        gives=_leaves(given if given is not None else returned),
        fans_out=given is not None,
        input=Codec(parameter, where=f"the input of {where}"),
        output=Codec(returned, where=f"what {where} returns"),
        retry=policies.retry,
        timeout=policies.timeout,
        concurrency=policies.concurrency,
        after=policies.after,
        broadcast=policies.broadcast,
        quorum=policies.quorum,
    )


def type_name(leaf: Any) -> str:
    """Return the name that tokens of this type carry in journals."""
    return describe(leaf)


def source_of(function: Function) -> str:
    """Return the source a function was defined by: its whole module, or its own lines."""
    module = inspect.getmodule(function)
    try:
        if module is not None and module.__name__ != "__main__":
            return inspect.getsource(module)
        return inspect.getsource(function)
    except (OSError, TypeError):
        code = function.__code__
        return f"{code.co_code.hex()}{code.co_consts!r}"


def _hints(function: Function, frame: FrameType) -> dict[str, Any]:
    try:
        return typing.get_type_hints(
            function,
            globalns=function.__globals__,
            localns=dict(frame.f_locals),
            include_extras=True,
        )
    except (NameError, AttributeError) as error:
        raise GraphError(
            message=f"the annotations of {function.__name__!r} cannot be resolved ({error}); "
            "define its types before it, at the top of the module or in the same function"
        ) from error


def _parameter(name: str, function: Function, hints: dict[str, Any]) -> tuple[bool, Any]:
    parameters = list(inspect.signature(function).parameters.values())
    takes_context = bool(parameters) and _is_context(parameters[0].name, hints)
    values = parameters[1:] if takes_context else parameters
    if len(values) > 1 or any(p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD) for p in values):
        raise GraphError(
            message=f"node {name!r} takes {len(values)} values; a node takes one (after the "
            "context): put them into one model"
        )
    if not values:
        return takes_context, type(None)
    if values[0].name not in hints:
        raise GraphError(
            message=f"node {name!r}: annotate {values[0].name!r}; its type is the edge into it"
        )
    return takes_context, hints[values[0].name]


def _is_context(name: str, hints: dict[str, Any]) -> bool:
    annotation = hints.get(name)
    return name == "ctx" or getattr(annotation, "is_crew_context", False)


def _list_item(annotation: Any) -> Any:
    """Return T of list[T] (also as `list[T] | None`), or None.

    Raises:
        GraphError: a list stands beside other types, so that it is no clear fan-out or join.
    """
    leaves = _leaves(annotation)
    lists = [leaf for leaf in leaves if get_origin(leaf) is list]
    if lists and len(leaves) > 1:
        raise GraphError(
            message=f"{describe(annotation)} is a list or a single value; write one of them, since "
            "a list is a fan-out or a join"
        )
    return get_args(lists[0])[0] if lists else None


def _leaves(annotation: Any) -> tuple[Any, ...]:
    return tuple(member for member in union_members(annotation) if member not in (None, type(None)))


class _Builder:
    """Checks one workflow and wires it."""

    def __init__(self, workflow: Workflow) -> None:
        self.workflow = workflow
        self.nodes = workflow.nodes

    def wiring(self) -> Wiring:
        if not self.nodes:
            raise GraphError(
                message=f"workflow {self.workflow.name!r} has no nodes; add one with "
                f"@{self.workflow.name}.node"
            )
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
            tags_output=len(_leaves(self.workflow.output)) > 1,
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
        for leaf in _leaves(self.workflow.input):
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
            raise GraphError(
                message=f"workflow {self.workflow.name!r}: {names} both take {describe(leaf)} of "
                f"{giver}; use `after=` on them, or `broadcast=True` on the node that gives it"
            )
        return tuple(node.name for node in found)

    def _is_output(self, leaf: Any) -> bool:
        return _bare(leaf) in [_bare(wanted) for wanted in _leaves(self.workflow.output)]

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
                    message=f"node {node.name!r} is never reached: no node gives "
                    f"{' | '.join(describe(leaf) for leaf in node.takes)}"
                    + (f" after {node.after!r}" if node.after else "")
                )
        if not any(self._is_output(leaf) for node in self.nodes.values() for leaf in node.gives):
            raise GraphError(
                message=f"workflow {self.workflow.name!r}: no node gives the output, "
                f"{describe(self.workflow.output)}"
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


def _draw(workflow: Workflow, wiring: Wiring) -> str:
    lines = ["flowchart TD", "    input([input])", "    output([output])"]
    lines += [f'    {name}["{name}"]' for name in wiring.nodes]
    for (giver, leaf), takers in wiring.consumers.items():
        lines += [_edge(wiring, giver, leaf, taker) for taker in takers]
    lines += [f"    {giver} -->|{_label(leaf)}| output" for giver, leaf in sorted(wiring.ends)]
    return "\n".join(lines)


def _edge(wiring: Wiring, giver: str | None, leaf: str, taker: str) -> str:
    many = giver is not None and wiring.nodes[giver].fans_out
    label = f"each {leaf}" if many else leaf
    if wiring.nodes[taker].joins:
        label = f"all {leaf}"
    return f"    {giver or 'input'} -->|{_label(label)}| {taker}"


def _label(text: str) -> str:
    return '"' + text.replace('"', "'") + '"' if not text.replace(" ", "").isalnum() else text
