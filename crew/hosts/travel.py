"""What cannot go to another process as it is: refused before a run goes there.

Hosts on Ray get copies of what a workflow's nodes, its agents and their tools hold. What cannot be
copied, as a lock or a connection, is named; and so is what would be changed there while everybody
else keeps what it was: a container, a counter or a ContextVar that code reaches around itself. The
functions that are looked at are nodes, tools, checks and the like, and those of the same module
that they call.
"""

import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from dataclasses import replace
from typing import Any

from crew.call.record import is_performer
from crew.define import frozen
from crew.errors import GraphError
from crew.graph import Workflow
from crew.hosts.changes import changed_by
from crew.source import held_by, is_installed

__all__ = ["agent_bytes", "workflow_bytes"]

_WAY = (
    "On Ray code runs in other processes, each with a copy: open what it shares by the workflow's "
    "deps=, and take it from ctx.deps; or give it as data"
)
_CONTEXT_WAY = (
    "let the tool take the context as its first parameter: async def tool(ctx: Context, …)"
)

Dumps = Callable[[Any], bytes]


@frozen
class _Held:
    """A value, whose it is (`tool 'look' of agent 'clerk'`), and under which name.

    What it changes matters where it is `near`: not what other modules do, nor `deps=`.
    """

    whose: str
    name: str
    value: Any
    near: bool = True


def workflow_bytes(workflow: Workflow, dumps: Dumps) -> bytes:
    """Return a workflow as bytes.

    Raises:
        GraphError: it holds what cannot travel, or what would be changed as a copy; the message
            names each node, or agent and tool, and the variable.
    """
    name = f"workflow {workflow.name!r}"
    held = list(_nodes(workflow))
    held += [_Held(f"the override of {key!r}", "", it) for key, it in workflow.overrides.items()]
    if workflow.deps is not None:
        held.append(_Held(f"deps= of {name}", "", workflow.deps, near=False))
    return _bytes(name, workflow, held, dumps)


def agent_bytes(agent: Any, dumps: Dumps) -> bytes:
    """Return an agent as bytes.

    Raises:
        GraphError: as by `workflow_bytes`.
    """
    # A tool that holds the run is entered here, with what it closes over: there only described.
    held = [
        replace(each, near=not getattr(each.value, "holds_run", False)) for each in _of_agent(agent)
    ]
    return _bytes(f"agent {agent.name!r}", agent, held, dumps)


def _bytes(name: str, value: Any, held: list[_Held], dumps: Dumps) -> bytes:
    every = list(_within(held, set()))
    if problems := [problem for each in every for problem in _changes(each)]:
        raise GraphError(message=f"{name} cannot run on Ray: {'; '.join(problems)}. {_WAY}")
    try:
        return dumps(value)
    except Exception as error:
        raise GraphError(
            message=f"{name} cannot go to a Ray host: {_not_copied(every, dumps, error)}"
        ) from error


def _within(held: list[_Held], seen: set[int]) -> Iterator[_Held]:
    """Yield all that is held, each thing once, what is inside something before that."""
    for each in held:
        if id(each.value) not in seen:
            seen.add(id(each.value))
            parts = [replace(part, near=each.near and part.near) for part in _parts(each)]
            yield from _within(parts, seen)
            yield each


def _parts(held: _Held) -> Iterator[_Held]:
    """Yield what a thing holds that a user wrote; objects of other kinds are taken as a whole."""
    value = held.value
    if inspect.isfunction(value):
        yield from _of_function(held)
    elif inspect.ismethod(value):
        yield replace(held, value=value.__func__)
    elif isinstance(value, functools.partial):
        for part in (value.func, *value.args, *value.keywords.values()):
            yield replace(held, value=part)
    elif isinstance(value, Workflow):
        yield from _nodes(value)
    elif is_performer(value):
        yield from _of_agent(value)
    elif hasattr(type(value), "defined_by"):
        yield from _of_tool(value, held.whose)
    elif isinstance(value, (list, tuple)):
        yield from (replace(held, value=item) for item in value)
    elif isinstance(value, dict):
        yield from (replace(held, value=item) for item in value.values())


def _nodes(workflow: Workflow) -> Iterator[_Held]:
    for node in workflow.nodes.values():
        yield _Held(f"node {node.name!r}", "", node.function)


def _of_function(held: _Held) -> Iterator[_Held]:
    function = held.value
    if not _is_own(function):  # the wrapper of a library's decorator
        if (inner := getattr(function, "__wrapped__", None)) is not None:
            yield replace(held, value=inner)
        return
    for name, value in held_by(function).items():
        if not inspect.isclass(value) and not inspect.ismodule(value):
            is_far = inspect.isfunction(value) and value.__globals__ is not function.__globals__
            yield _Held(held.whose, name, value, near=not is_far)


def _is_own(function: Any) -> bool:
    return not is_installed(function.__globals__.get("__name__", "__main__"))


def _of_agent(agent: Any) -> Iterator[_Held]:
    whose = f"agent {agent.name!r}"
    state = agent.__getstate__()
    for name, value in state.items() if isinstance(state, dict) else ():
        if name == "tools" and isinstance(value, Mapping):
            yield from (
                _Held(f"tool {tool.name!r} of {whose}", "", tool) for tool in value.values()
            )
        else:
            yield _Held(whose, name, value)


def _of_tool(tool: Any, whose: str) -> Iterator[_Held]:
    for name in ("function", "approve", "agent"):
        if (value := getattr(tool, name, None)) is not None and not inspect.ismethod(value):
            yield _Held(whose, name, value)


def _changes(held: _Held) -> Iterator[str]:
    """Say what would be changed, or is looked for, where nobody else sees it."""
    value = held.value
    if isinstance(value, ContextVar):
        yield f"{held.whose} holds the ContextVar {value.name!r}, whose value stays in this process"
    elif held.near and inspect.isfunction(value) and _is_own(value):
        for name, changed in changed_by(value).items():
            yield f"{held.whose} changes {name!r}, {_kind(changed)} that it shares with other code"


def _not_copied(every: list[_Held], dumps: Dumps, error: Exception) -> str:
    """Say which of these things is the first that cannot be copied."""
    for each in every:
        try:
            dumps(each.value)
        except Exception as inner:  # noqa: BLE001  this is what is looked for
            way = _CONTEXT_WAY if getattr(each.value, "is_crew_context", False) else _WAY
            what = f" holds {each.name!r}, {_kind(each.value)}, which" if each.name else ""
            return f"{each.whose}{what} cannot be copied ({inner}). {way}"
    return f"{error}. {_WAY}"


def _kind(value: Any) -> str:
    name = type(value).__name__
    return f"{'an' if name[:1].lower() in 'aeiou' else 'a'} {name}"
