"""An agent: instructions, a model, tools and an output type."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Generic, TypeVar, cast

from crew.agent.delegate import AgentTool
from crew.agent.loop import Loop
from crew.agent.tool_call import ToolLike
from crew.call.record import AgentTask, Calls, Equipment, Unrecorded
from crew.config import load_settings
from crew.content import Part, as_content, split
from crew.errors import GraphError
from crew.hosts import Resources
from crew.llm import Model
from crew.message import Json, Message, Usage, message_from
from crew.run import run_sync
from crew.source import definition_of
from crew.value import Codec

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class WithModel:
    """Any agent, with another model: what stands in for `"*"` in the overrides of a fork."""

    model: Model

    def __call__(self, agent: "Agent[Any]") -> "Agent[Any]":
        """Return the agent with this model."""
        other = copy.copy(agent)
        other.model = self.model
        return other

    def definition(self) -> str:
        """Return a text that differs for another model."""
        return f"model={self.model.name}"


_DERIVED = frozenset({"codec", "_code"})


@dataclass(frozen=True, slots=True)
class AgentResult(Generic[T]):
    """What an agent came to: its output, the messages of this task, and its cost in tokens."""

    output: T
    messages: tuple[Message, ...]
    usage: Usage


class Agent(Generic[T]):
    """A definition, never a process: the same agent may work on many tasks at once.

    Args:
        name: how it is called in paths, logs and hosts.
        instructions: what it is for; the prompt begins with it, so keep clocks and ids out.
        description: what another agent's model reads of it that may ask it; by default the first
            line of the instructions.
        model: where its tokens come from; by default what the settings say.
        output: the type of its answer: `str`, or a type whose JSON schema the model must follow.
        tools: what it may call; an agent among them is asked as by `as_tool`.
        max_turns: bounds its model calls.
        max_tokens: bounds each answer.
        temperature: None leaves it to the model.
        resources: what its Ray host needs.
        history: whether it sees the earlier turns of the run's thread.
    """

    def __init__(
        self,
        name: str,
        *,
        instructions: str = "",
        description: str = "",
        model: Model | None = None,
        output: Any = str,
        tools: "Sequence[ToolLike | Agent[Any]]" = (),
        max_turns: int = 8,
        max_tokens: int | None = None,
        temperature: float | None = None,
        resources: Resources | None = None,
        history: bool = False,
    ) -> None:
        self.name = name
        self.instructions = instructions
        self.description = description
        self.model = model
        self.output = output
        given = [tool.as_tool() if isinstance(tool, Agent) else tool for tool in tools]
        self.tools: dict[str, ToolLike] = {tool.name: tool for tool in given}
        self.holds_run = any(tool.holds_run for tool in given)
        """Whether a tool of its is entered where its run is driven."""
        self.max_turns = max_turns
        self.max_tokens = max_tokens
        self.temperature = temperature
        self.resources = resources or Resources()
        self.history = history

    def __repr__(self) -> str:
        return f"<agent {self.name!r}>"

    def __getstate__(self) -> dict[str, Any]:
        # What is derived stays here: it is made again where the agent travels to.
        return {name: value for name, value in vars(self).items() if name not in _DERIVED}

    def as_tool(self, name: str = "", description: str = "") -> AgentTool:
        """Return it as a tool of another agent, whose model asks it with a text.

        Its own calls are journalled beneath the tool's, under the same budgets.

        Args:
            name: how the model calls it; by default the agent's name.
            description: what the model reads of it; by default the agent's own.
        """
        return AgentTool(self, name, description)

    async def run(self, text: str | Sequence[Part]) -> AgentResult[T]:
        """Do one task outside any workflow; nothing is stored.

        Args:
            text: what is asked, or a list of texts, images and files.

        Raises:
            GraphError: it is something else.
        """
        content = as_content(text)
        if content is None:
            raise GraphError(message=f"{self.name}.run(…) takes texts, images and files")
        equipment = Equipment(load_settings())
        try:
            said, parts = split(content)
            task = AgentTask("", self.name, said, parts=parts)
            return self.result_of(await self.perform(task, Unrecorded(), equipment))
        finally:
            await equipment.close()

    def run_sync(self, text: str | Sequence[Part]) -> AgentResult[T]:
        """Do one task from a script; see `run`."""
        return cast("AgentResult[T]", run_sync(self.run(text), f"{self.name}.run(…)"))

    async def perform(self, task: AgentTask, calls: Calls, equipment: Equipment) -> dict[str, Json]:
        """Do a task, each model and tool call through `calls`; the result is JSON."""
        return await Loop(self, task, calls, self._model(equipment)).run()

    def definition(self) -> str:
        """Return what the agent is made of as text, for the name of the host that runs it."""
        return repr((*self._settings, self._code))

    def defined_by(self) -> tuple[Any, ...]:
        """Return what it is made of; see `crew.source.definition_of`."""
        return repr(self._settings), repr(self.codec.schema()), [*self.tools.values()]

    @property
    def _settings(self) -> tuple[Any, ...]:
        model = self.model.name if self.model else ""
        of_prompt = (self.name, self.instructions, model, self.history)
        return (*of_prompt, self.max_turns, self.max_tokens, self.temperature)

    @cached_property
    def _code(self) -> str:
        tools = definition_of([*self.tools.values()], around=self)
        return repr((self.codec.schema(), tools))

    def result_of(self, result: dict[str, Json]) -> AgentResult[T]:
        return AgentResult(
            output=self.codec.decode(result["output"]),
            messages=tuple(message_from(item) for item in result["messages"]),
            usage=Usage(**result["usage"]),
        )

    @cached_property
    def codec(self) -> Codec:
        """What stores the agent's output."""
        return Codec(self.output, where=f"the output of agent {self.name!r}")

    def _model(self, equipment: Equipment) -> Model:
        if (model := self.model) is not None:
            return equipment.use(model)

        def make() -> Model:
            from crew.llm.choice import default_model  # engines load when first needed

            return default_model(equipment.settings, will_close=True)

        return equipment.keep("default model", make)
