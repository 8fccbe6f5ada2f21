"""An agent as a tool of another one: asked with a text, its answer is the tool's result."""

import re
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from crew.call.context import Context
from crew.call.instructions import Instructions
from crew.call.record import Performer
from crew.errors import ToolError
from crew.llm import ToolSpec
from crew.message import Json
from crew.value import Codec

__all__ = ["AgentTool", "Asked", "described", "tool_name"]

_NOT_IN_NAMES = re.compile(r"[^a-zA-Z0-9_-]")
_PARAMETERS: dict[str, Json] = {
    "type": "object",
    "properties": {"text": {"type": "string", "description": "everything it needs to know"}},
    "required": ["text"],
    "additionalProperties": False,
}


class Asked(Performer[Any], Protocol):
    """What is needed of the agent that is asked."""

    instructions: Instructions
    description: str

    @property
    def codec(self) -> Codec: ...

    def codec_of(self, name: str) -> Codec | None: ...

    def reached(self, name: str, around: Sequence[str] = ()) -> Any:
        """Return the agent of this name that conversations are handed on to, or None."""
        ...


class AgentTool:
    """Lets a model ask an agent, as a call of its own beneath the tool's.

    Args:
        agent: who is asked.
        name: how the model calls it; by default the agent's name.
        description: what the model reads of it; by default the agent's description.
    """

    effect = "enters"
    holds_run = True
    timeout: float | None = None
    retries = 0
    approve = False
    to: str | None = None

    def __init__(self, agent: Asked, name: str = "", description: str = "") -> None:
        self.agent = agent
        self.name = name or tool_name(agent.name)
        self.description = description or f"Ask the agent {agent.name}. {described(agent)}".strip()

    def __repr__(self) -> str:
        return f"<tool {self.name!r}: {self.agent!r}>"

    @property
    def function(self) -> Callable[..., Any]:
        """What is entered; it raises what the agent's call does."""
        return self.enter

    @property
    def spec(self) -> ToolSpec:
        """The tool as a model sees it."""
        return ToolSpec(self.name, self.description, _PARAMETERS)

    @property
    def codec(self) -> Codec:
        """What stores the answer."""
        return self.agent.codec

    def defined_by(self) -> tuple[Any, ...]:
        """Return what it is made of; see `crew.source.definition_of`."""
        return self.name, self.description, self.agent

    async def enter(self, context: Context, arguments: dict[str, Json]) -> Any:
        """Ask the agent.

        Raises:
            ToolError: the model gave no text.
            CrewError: the agent failed.
        """
        return (await context.run(self.agent, self.read(arguments)["text"])).output

    def read(self, arguments: dict[str, Json]) -> dict[str, Any]:
        """Return the arguments, which are one text.

        Raises:
            ToolError: they are something else.
        """
        if not isinstance(arguments.get("text"), str) or len(arguments) != 1:
            raise ToolError(message=f"{self.name!r} takes one text, as `text`", tool=self.name)
        return arguments

    async def needs_approval(self, arguments: dict[str, Json]) -> bool:
        """It asks nobody by itself."""
        return False

    async def act(self, arguments: dict[str, Json], *, idempotency_key: str = "") -> Any:
        """It is only entered.

        Raises:
            ToolError: always.
        """
        raise ToolError(message=f"{self.name!r} is an agent, which a run calls", tool=self.name)


def tool_name(agent: str) -> str:
    """Return the name of an agent as that of a tool may be."""
    return _NOT_IN_NAMES.sub("_", agent)


def described(agent: Asked) -> str:
    """Return what other agents' models read of an agent."""
    instructions = agent.instructions if isinstance(agent.instructions, str) else ""
    return agent.description or instructions.strip().partition("\n")[0]
