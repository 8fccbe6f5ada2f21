"""A workflow's definition: its nodes, its types, and its drawing."""

import copy
import hashlib
import sys
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any, Generic, Self, overload

from pydantic import BaseModel
from typing_extensions import TypeForm, TypeVar

from crew.define import frozen
from crew.errors import GraphError
from crew.graph.node import Function, Node, Policies, Quorum, read_node
from crew.graph.retry import ONCE, Retry
from crew.graph.wiring import Wiring, wire
from crew.source import definition_of
from crew.value import Codec

In = TypeVar("In", default=Any)
Out = TypeVar("Out", default=Any)
F = TypeVar("F", bound=Function)


@frozen
class Edge:
    """An arrow of a graph's drawing: values of type `type` go from `giver` to `taker`.

    The run's input and output are drawn as nodes of these names. `is_list` says that many arrive:
    each by itself, or all together where the taker joins.
    """

    giver: str
    taker: str
    type: str
    is_list: bool


class Workflow(Generic[In, Out]):
    """A typed async program: a graph of nodes, or one plain function.

    Args:
        name: how it is called, stored and served.
        input: the type a run is started with.
        output: the type that ends a run.
        version: raise it when runs that are under way must not go on with the new code.
        state: a pydantic model of what all steps share, or None.
        max_steps: bounds the steps in one token's own ancestry, so that a loop ends.
        deps: opens what its code depends on, as a pool of connections: a function that returns an
            async context manager. It is entered once in each process that runs the code, before the
            first step, and left with the runtime; `ctx.deps` is what it gives.

    Raises:
        GraphError: `deps` is no function.
    """

    def __init__(
        self,
        name: str,
        *,
        input: TypeForm[In],  # noqa: A002  the public surface fixes the name
        output: TypeForm[Out],
        version: str = "1",
        state: type[BaseModel] | None = None,
        max_steps: int = 1000,
        deps: Callable[[], AbstractAsyncContextManager[Any]] | None = None,
    ) -> None:
        is_opened = hasattr(type(deps), "__aenter__")
        if deps is not None and (is_opened or not callable(deps)):
            raise GraphError(
                message=f"deps of workflow {name!r} is {deps!r}; give the function that opens it, "
                "one with @asynccontextmanager, and not what it returns"
            )
        self.deps = deps
        self.name = name
        self.version = version
        self.input: Any = input
        self.output: Any = output
        self.state = state
        self.max_steps = max_steps
        self.nodes: dict[str, Node] = {}
        self.plain = False
        self.overrides: Mapping[str, Any] = {}
        """Agents that stand in for those of these names."""
        self._wiring: Wiring | None = None
        self._shape = ""
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

    @overload
    def node(self, function: F) -> F: ...
    @overload
    def node(
        self,
        *,
        name: str | None = None,
        retry: Retry | None = None,
        timeout: float | None = None,
        concurrency: int | None = None,
        after: Function | str | None = None,
        broadcast: bool = False,
        join: Quorum | None = None,
    ) -> Callable[[F], F]: ...
    def node(
        self,
        function: F | None = None,
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

        def add(function: F) -> F:
            policies = Policies(
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
            self._wiring = wire(self)
            self._shape = hashlib.sha256(self._wiring.shape().encode()).hexdigest()[:12]
        return self._wiring

    def shape_hash(self) -> str:
        """Return a hash of how the nodes are wired, 12 hex digits."""
        self.build()
        return self._shape

    def code_hash(self) -> str:
        """Return a hash of the code the workflow is made of, 12 hex digits.

        It changes with the nodes' source, and with what they hold: constants, other functions, and
        the agents' definitions.
        """
        made_of = [definition_of(node.function) for node in self.nodes.values()]
        if self.deps is not None:
            made_of.append(definition_of(self.deps))
        made_of += [agent.definition() for agent in self.overrides.values()]
        text = "\0".join([self.name, self.version, *made_of])
        return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:12]

    def defined_by(self) -> tuple[Any, ...]:
        """Return what it is made of, for the hash of code that holds it, as a parent's does."""
        functions = (node.function for node in self.nodes.values())
        return (self.name, self.version, *functions, self.deps, *self.overrides.values())

    def frozen(self) -> Self:
        """Return this workflow as it is now, whatever nodes are defined later."""
        other = copy.copy(self)
        other.nodes = dict(self.nodes)
        return other

    def is_same(self, other: "Workflow") -> bool:
        """Return whether no node was defined anew between two states of a workflow."""
        if self.deps is not other.deps or self.overrides != other.overrides:
            return False
        return self.nodes.keys() == other.nodes.keys() and all(
            node is other.nodes[name] for name, node in self.nodes.items()
        )

    def overridden(self, overrides: Mapping[str, Any], version: str) -> Self:
        """Return this workflow with other agents, as a version of its own."""
        other = copy.copy(self)
        other.overrides, other.version = dict(overrides), version
        return other

    def edges(self) -> list[Edge]:
        """Return what a drawing of the graph has between its nodes, `input` and `output`.

        Raises:
            GraphError: it cannot work.
        """
        wiring = self.build()
        between = [
            _edge(wiring, giver, leaf, taker)
            for (giver, leaf), takers in wiring.consumers.items()
            for taker in takers
        ]
        return between + [Edge(giver, "output", leaf, False) for giver, leaf in sorted(wiring.ends)]

    def mermaid(self) -> str:
        """Return the graph as Mermaid text, top to bottom."""
        return _draw(self, self.build())

    def _repr_markdown_(self) -> str:
        return f"```mermaid\n{self.mermaid()}\n```"


def _edge(wiring: Wiring, giver: str | None, leaf: str, taker: str) -> Edge:
    is_each = giver is not None and wiring.nodes[giver].fans_out
    return Edge(giver or "input", taker, leaf, is_each or wiring.nodes[taker].joins)


def _draw(workflow: Workflow, wiring: Wiring) -> str:
    ids = {name: _id(name, number) for number, name in enumerate(wiring.nodes)}
    lines = ["flowchart TD", "    input([input])", "    output([output])"]
    lines += [f"    {ids[name]}[{_quoted(name)}]" for name in wiring.nodes]
    lines += [_arrow(wiring, edge, ids) for edge in workflow.edges()]
    return "\n".join(lines)


def _id(name: str, number: int) -> str:
    """Return a node's id in the drawing: its name, where mermaid reads that as one."""
    return name if name.isidentifier() and name not in _NO_IDS else f"node_{number}"


def _arrow(wiring: Wiring, edge: Edge, ids: Mapping[str, str]) -> str:
    label = edge.type
    if edge.is_list:
        label = f"{'all' if wiring.nodes[edge.taker].joins else 'each'} {edge.type}"
    text = label if label.replace(" ", "").isalnum() else _quoted(label)
    giver, taker = ids.get(edge.giver, "input"), ids.get(edge.taker, "output")
    return f"    {giver} -->|{text}| {taker}"


def _quoted(text: str) -> str:
    return '"' + text.replace('"', "#quot;") + '"'


_NO_IDS = frozenset({"input", "output", "end", "graph", "subgraph", "flowchart", "style", "class"})
"""What a drawing has already, and words of mermaid's own."""
