"""A handoff: an agent's model lets another agent go on with the conversation, and answer in it."""

from collections.abc import Callable
from typing import Any

from crew.agent.delegate import Asked, described, tool_name
from crew.call.context import Context
from crew.errors import ToolError
from crew.llm import ToolSpec
from crew.message import Json, message_data, message_from
from crew.value import Codec

__all__ = ["Handoff"]

_PARAMETERS: dict[str, Json] = {"type": "object", "properties": {}, "additionalProperties": False}


class Handoff:
    """What a model calls to hand the conversation on.

    Args:
        agent: who goes on with it.
    """

    effect = "enters"
    holds_run = True
    timeout: float | None = None
    retries = 0
    approve = False
    to: str | None = None

    def __init__(self, agent: Asked) -> None:
        self.agent = agent
        self.name = f"transfer_to_{tool_name(agent.name)}"
        self.codec = Codec(dict[str, Any], where=f"what agent {agent.name!r} came to")

    def __repr__(self) -> str:
        return f"<handoff to {self.agent!r}>"

    @property
    def function(self) -> Callable[..., Any]:
        """What is entered; it raises what the agent's call does."""
        return self.enter

    @property
    def spec(self) -> ToolSpec:
        """The handoff as a model sees it."""
        words = f"Hand the conversation on to {self.agent.name}. {described(self.agent)}".strip()
        return ToolSpec(self.name, words, _PARAMETERS)

    def defined_by(self) -> tuple[Any, ...]:
        """Return what it is made of; see `crew.source.definition_of`."""
        return repr(self.spec), self.agent

    async def enter(self, context: Context, arguments: dict[str, Json]) -> dict[str, Json]:
        """Let the agent go on; return its result as that of the one that handed on.

        Args:
            context: that of the run.
            arguments: the `messages` so far, and whether the answer is to be `emit`ted.

        Raises:
            CrewError: the agent failed.
        """
        messages = [message_from(each) for each in arguments["messages"]]
        found = await context.run(self.agent, "", messages=messages, emit=arguments["emit"])
        codec = self.agent.codec_of(found.agent)
        assert codec is not None  # by which the output was just read
        return {
            "output": codec.passed_on(found.output)[0],
            "messages": [message_data(message) for message in found.messages],
            "usage": found.usage.to_data(),
            "agent": found.agent,
        }

    def read(self, arguments: dict[str, Json]) -> dict[str, Any]:
        """It takes none."""
        return {}

    async def needs_approval(self, arguments: dict[str, Json]) -> bool:
        """It asks nobody by itself."""
        return False

    async def act(self, arguments: dict[str, Json], *, idempotency_key: str = "") -> Any:
        """It is only entered.

        Raises:
            ToolError: always.
        """
        raise ToolError(message=f"{self.name!r} hands a conversation on in a run", tool=self.name)
