"""What an agent cannot be made of, told when it is made: each message says what to write."""

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Protocol, TypeGuard, runtime_checkable

from pydantic.errors import PydanticInvalidForJsonSchema, PydanticUserError

from crew.agent.delegate import Asked
from crew.agent.handoff import Handoff
from crew.agent.tool_call import ToolLike
from crew.errors import GraphError
from crew.llm import choice
from crew.tool import Tool
from crew.value import Codec, describe

if TYPE_CHECKING:  # most agents have no server, and a program's first call does not wait for it
    from crew.mcp import MCP

__all__ = [
    "require_check",
    "require_model",
    "require_name",
    "require_number",
    "require_output",
    "servers_in",
    "tools_of",
    "with_foreign",
]


@runtime_checkable
class Askable(Asked, Protocol):
    """An agent, which another one may ask."""

    def as_tool(self) -> ToolLike: ...


def require_name(name: object) -> None:
    """Refuse a name by which nobody could call an agent."""
    if not isinstance(name, str) or not name.strip() or not name.isprintable():
        raise GraphError(message=f"an agent's name is a text of one line, not {name!r:.200}")


def require_model(model: object, agent: str) -> None:
    """Refuse what is no model, the class of one too; names are looked up later."""
    if inspect.isclass(model):
        raise GraphError(
            message=f"agent {agent!r}: model= is the class {model.__name__}; give an object of it"
        )
    choice.check(model, agent)


def require_number(agent: str, what: str, value: object, *, least: int) -> None:
    """Refuse what is no whole number, or less than one."""
    if type(value) is not int or value < least:
        raise GraphError(
            message=f"agent {agent!r}: {what}= is a whole number, {least} or more, not {value!r}"
        )


def require_check(agent: str, check: object) -> None:
    """Refuse a check that cannot be called."""
    if check is not None and not callable(check):
        raise GraphError(
            message=f"agent {agent!r}: check= is a function of the output, not {check!r:.200}"
        )


def require_output(agent: str, output: Any, codec: Callable[[], Codec]) -> None:
    """Refuse a type of which a model cannot be told what to answer.

    One that is not defined yet is looked at when the agent is called.
    """
    if output is str:
        return
    try:
        codec().schema()
    except GraphError as error:
        if not _is_not_defined_yet(error.__cause__):
            raise
    except (PydanticInvalidForJsonSchema, PydanticUserError) as error:
        reason = str(error).strip().splitlines()[0]
        raise GraphError(
            message=f"agent {agent!r}: output= {describe(output)} has no JSON schema ({reason}); "
            "use JSON types, dataclasses or pydantic models"
        ) from error


def _is_not_defined_yet(error: BaseException | None) -> bool:
    return isinstance(error, NameError) or (
        getattr(error, "code", "") in ("class-not-fully-defined", "undefined-annotation")
    )


def tools_of(
    agent: str, given: Iterable[object], handoffs: Iterable[object] = (), *, reserved: str = ""
) -> Mapping[str, ToolLike]:
    """Return what an agent may call, by name; a plain function becomes a tool with the defaults.

    Args:
        agent: its name.
        given: functions, tools and agents; servers are left out.
        handoffs: agents that it hands conversations on to.
        reserved: a name that no tool may have.

    Raises:
        GraphError: something is neither, or two have one name.
        ToolError: a function cannot be a tool.
    """
    if isinstance(given, (str, Mapping)) or not isinstance(given, Iterable):
        raise GraphError(message=f"agent {agent!r}: tools= is a list, not {given!r:.200}")
    own = (_tool_of(agent, each) for each in given if not _is_server(each))
    every = [*own, *_handoffs_of(agent, handoffs)]
    return _by_name(agent, {}, every, reserved, way="Tool(function, name=…)")


def servers_in(given: Iterable[object]) -> "tuple[MCP, ...]":
    """Return the servers among what an agent was given; each tells its tools in a task."""
    return tuple(each for each in given if _is_server(each))


def _is_server(given: object) -> "TypeGuard[MCP]":
    # Not by its class, which an agent without one need not load.
    return getattr(type(given), "is_mcp_server", False)


def with_foreign(
    agent: str, own: Mapping[str, ToolLike], foreign: Iterable[ToolLike], *, reserved: str = ""
) -> Mapping[str, ToolLike]:
    """Return an agent's tools and those that its servers offer, by name.

    Raises:
        GraphError: two have one name.
    """
    return _by_name(agent, own, foreign, reserved, way="MCP(…, prefix=…)")


def _by_name(
    agent: str,
    before: Mapping[str, ToolLike],
    every: Iterable[ToolLike],
    reserved: str,
    *,
    way: str,
) -> Mapping[str, ToolLike]:
    tools = dict(before)
    for tool in every:
        if tool.name in tools:
            raise GraphError(
                message=f"agent {agent!r} has two tools named {tool.name!r}; give one another "
                f"name: {way}"
            )
        if tool.name == reserved:
            raise GraphError(
                message=f"agent {agent!r}: by a tool named {reserved!r} its model gives its "
                f"answer; give yours another name: {way}"
            )
        tools[tool.name] = tool
    return tools


def _handoffs_of(agent: str, given: Iterable[object]) -> Iterator[ToolLike]:
    for each in given:
        if not isinstance(each, Askable):
            raise GraphError(
                message=f"agent {agent!r}: {each!r:.200} in handoffs= is no agent; give agents, "
                "and what is to be called in tools="
            )
        yield Handoff(each)


def _tool_of(agent: str, given: object) -> ToolLike:
    if _is_tool(given):
        return given
    if isinstance(given, Askable):
        return given.as_tool()
    if not callable(given):
        raise GraphError(
            message=f"agent {agent!r}: {given!r:.200} in tools= is neither a function nor a tool; "
            "write a function whose docstring says what it is for, with a type for each parameter"
        )
    return Tool(given)


def _is_tool(given: object) -> TypeGuard[ToolLike]:
    return not inspect.isclass(given) and hasattr(given, "spec") and hasattr(given, "act")
