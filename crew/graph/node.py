"""One node of a graph: a function, what its annotations say, and the policies it was given."""

import inspect
import typing
from collections.abc import Callable
from dataclasses import dataclass
from types import FrameType
from typing import Any, get_args, get_origin

from crew.define import frozen
from crew.errors import GraphError
from crew.graph.retry import ONCE, Retry
from crew.value import Codec, describe, union_members

Function = Callable[..., Any]


@frozen
class Append:
    """Reducer of a state field that parallel steps write: their values are added to the list."""


@frozen
class Quorum:
    """A join that need not wait for all.

    Once `share` (0 to 1) of its fan-out has arrived, it waits `after` seconds for the rest, then
    fires, and cancels the stragglers.
    """

    share: float
    after: float = 0.0


@frozen
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Policies:
    """What `Workflow.node` was told of a node, besides its function."""

    retry: Retry
    timeout: float | None
    concurrency: int | None
    after: Any
    broadcast: bool
    quorum: Quorum | None


NO_POLICIES = Policies(
    retry=ONCE, timeout=None, concurrency=None, after=None, broadcast=False, quorum=None
)


def read_node(
    workflow: str,
    function: Function,
    *,
    name: str | None,
    frame: FrameType,
    policies: Policies = NO_POLICIES,
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
        takes=leaves(taken if taken is not None else parameter),
        joins=taken is not None,
        gives=leaves(given if given is not None else returned),
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
    members = leaves(annotation)
    lists = [leaf for leaf in members if get_origin(leaf) is list]
    if lists and len(members) > 1:
        raise GraphError(
            message=f"{describe(annotation)} is a list or a single value; write one of them, since "
            "a list is a fan-out or a join"
        )
    return get_args(lists[0])[0] if lists else None


def leaves(annotation: Any) -> tuple[Any, ...]:
    """Return the types of a union, or the one type, without None."""
    return tuple(member for member in union_members(annotation) if member not in (None, type(None)))
