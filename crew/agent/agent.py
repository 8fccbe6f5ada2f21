"""An agent: instructions, a model, tools and an output type."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Generic

from typing_extensions import TypeForm, TypeVar

from crew.agent.check import Check
from crew.agent.delegate import AgentTool
from crew.agent.handoff import Handoff
from crew.agent.loop import Loop
from crew.agent.output import TOOL, Output
from crew.agent.requirements import (
    require_check,
    require_model,
    require_name,
    require_number,
    require_output,
    servers_in,
    tools_of,
    with_foreign,
)
from crew.agent.tool_call import ToolLike
from crew.call.instructions import Instructions, require_instructions
from crew.call.invoke import run_sync
from crew.call.record import AgentTask, Calls, Equipment
from crew.config import load_settings
from crew.content import Part, as_content, split
from crew.define import frozen
from crew.errors import GraphError, Unreadable
from crew.hosts import Resources
from crew.llm import Model, ToolSpec
from crew.llm.choice import ModelChoice, models_of, name_of
from crew.llm.settings import ModelSettings
from crew.message import Json, Message, Usage, message_from, usage_from
from crew.source import definition_of
from crew.value import Codec

if TYPE_CHECKING:  # most agents have none, and a program's first call does not wait for it
    from crew.agent.compaction import Compacting
    from crew.agent.history import History
    from crew.mcp import MCP

T = TypeVar("T", default=str, covariant=True)


@frozen
class WithModel:
    """Any agent, with another model: what stands in for `"*"` in the overrides of a fork."""

    model: ModelChoice

    def __call__(self, agent: "Agent[Any]") -> "Agent[Any]":
        """Return the agent with this model."""
        other = copy.copy(agent)
        other.model = self.model
        return other

    def definition(self) -> str:
        """Return a text that differs for another model."""
        return f"model={name_of(self.model)}"


def _history_of(agent: str, given: "bool | History") -> "History | None":
    from crew.agent.history import history_of

    return history_of(agent, given)


_DERIVED = frozenset({"answers", "codec", "parameters", "specs", "_asked", "_code", "_schema"})


@dataclass(frozen=True, slots=True)
class AgentResult(Generic[T]):
    """What an agent came to: its output, the messages of this task, and its cost in tokens.

    `agent` is who answered: itself, or whom it handed the conversation on to.
    """

    output: T
    messages: tuple[Message, ...]
    usage: Usage
    agent: str = ""


class Agent(Generic[T]):
    """A definition, never a process: the same agent may work on many tasks at once.

    Args:
        name: how it is called in paths, logs and hosts.
        instructions: what it is for, or a function of the context that writes it, once for each
            call; the prompt begins with it, so keep clocks and ids out.
        description: what another agent's model reads of it that may ask it; by default the first
            line of the instructions.
        model: where its tokens come from: a name of `crew.toml`, a model, or a `Fallback`; by
            default what the settings say.
        output: the type of its answer: `str`, or a type whose JSON schema the model must follow,
            such as `Plan`, `Plan | str` or `list[Plan]`.
        tools: what it may call: tools; functions, which become tools that act once, or hold the run
            if they take a context; agents, which are asked as by `as_tool`; and MCP servers, whose
            tools are listed in each task.
        handoffs: agents that its model may hand the conversation on to. What the other one answers
            is its answer; in the next turn of the thread it is that one which begins.
        max_turns: bounds its model calls; the last one is made without tools, and must answer.
        settings: how its model is asked.
        max_tokens: bounds each answer; short for `ModelSettings(max_tokens=…)`.
        temperature: short for `ModelSettings(temperature=…)`.
        resources: what its Ray host needs.
        history: what it sees of the earlier turns of the run's thread; True for all that fit into
            its model's window, as `History()`.
        check: a function of the output, which refuses it with a text for the model, or a
            ValueError; what else it raises fails the call.
        retries: how often the model may repair an output that does not validate, or that `check`
            refuses.
        parallel_tools: how many of the calls that one reply asks for are under way at once; 1 for
            one after the other, None for all.

    Raises:
        GraphError, ToolError: it cannot work; the message says what to write instead.
    """

    def __init__(
        self,
        name: str,
        *,
        instructions: Instructions = "",
        description: str = "",
        model: ModelChoice = None,
        output: TypeForm[T] = str,  # type: ignore[assignment]  what T is by default
        tools: "Sequence[ToolLike | Callable[..., Any] | Agent[Any] | MCP]" = (),
        handoffs: "Sequence[Agent[T]]" = (),
        max_turns: int = 8,
        settings: ModelSettings | None = None,
        max_tokens: int | None = None,
        temperature: float | None = None,
        resources: Resources | None = None,
        history: "bool | History" = False,
        check: Check[T] | None = None,
        retries: int = 1,
        parallel_tools: int | None = None,
    ) -> None:
        require_name(name)
        require_model(model, name)
        require_instructions(name, instructions)
        require_check(name, check)
        require_number(name, "retries", retries, least=0)
        if parallel_tools is not None:
            require_number(name, "parallel_tools", parallel_tools, least=1)
        self.name = name
        self.instructions = instructions
        self.description = description
        self.model = model
        self.output: Any = output
        require_output(name, output, lambda: self.codec)
        self.tools = tools_of(name, tools, handoffs, reserved="" if output is str else TOOL)
        self.servers = servers_in(tools)
        self.holds_run = any(tool.holds_run for tool in self.tools.values())
        """Whether a tool of its is entered where its run is driven."""
        self.hands_on = any(isinstance(tool, Handoff) for tool in self.tools.values())
        """Whether it may hand a conversation on."""
        require_number(name, "max_turns", max_turns, least=2 if self.tools or self.servers else 1)
        self.max_turns = max_turns
        self.check = check
        self.retries = retries
        self.settings = (settings or ModelSettings()).with_short_forms(
            max_tokens=max_tokens, temperature=temperature
        )
        self.resources = resources or Resources()
        self.history = None if history is False else _history_of(name, history)
        self.parallel_tools = parallel_tools

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
        from crew.agent.outside import Outside, OutsideContext, written_outside

        content = as_content(text)
        if content is None:
            raise GraphError(message=f"{self.name}.run(…) takes texts, images and files")
        equipment = Equipment(load_settings())
        try:
            said, parts = split(content)
            written = await written_outside(self, OutsideContext(equipment, 0, self.name))
            task = AgentTask("", self.name, said, parts=parts, instructions=written)
            return self.result_of(await self.perform(task, Outside(self, equipment), equipment))
        finally:
            await equipment.close()

    def run_sync(self, text: str | Sequence[Part]) -> AgentResult[T]:
        """Do one task from a script; see `run`."""
        return run_sync(self.run(text), f"{self.name}.run(…)")

    async def perform(self, task: AgentTask, calls: Calls, equipment: Equipment) -> dict[str, Json]:
        """Do a task, each model and tool call through `calls`; the result is JSON."""
        models = models_of(self.model, equipment)
        agent = self
        if self.servers:
            from crew.agent.foreign import foreign_tools

            agent = self._with(await foreign_tools(self.servers, task, calls, equipment))
        earlier = self._earlier(task, calls, models, equipment)
        result = await Loop(agent, task, calls, models, earlier).run()
        return result if earlier is None else earlier.kept_in(result)

    def _with(self, foreign: Sequence[ToolLike]) -> "Agent[T]":
        """Return it as it is in a task, with what its servers offer."""
        reserved = "" if self.output is str else TOOL
        other = copy.copy(self)
        vars(other).update(vars(self))  # what is derived, too: only the tools differ
        other.tools = with_foreign(self.name, self.tools, foreign, reserved=reserved)
        vars(other).pop("specs", None)
        return other

    def _earlier(
        self, task: AgentTask, calls: Calls, models: Sequence[Model], equipment: Equipment
    ) -> "Compacting | None":
        """Return what fits the earlier turns of a thread into the window, if the task has some."""
        if task.compacted is None or not (task.history or task.compacted.turns):
            return None
        from crew.agent.compaction import Compacting  # only where there are such turns
        from crew.agent.history import History

        history = self.history or History()  # it may see them in another's name
        asked = history.summarise_with
        summarisers = () if asked is None else models_of(asked, equipment)
        return Compacting(self.name, history, task, models, summarisers, calls)

    def definition(self) -> str:
        """Return what the agent is made of as text, for the name of the host that runs it."""
        return repr((*self._set, self._code))

    def defined_by(self) -> tuple[Any, ...]:
        """Return what it is made of; see `crew.source.definition_of`."""
        return repr(self._set), self._schema, self._made_of

    @property
    def _set(self) -> tuple[Any, ...]:
        instructions = "" if self._writes else self.instructions
        of_prompt = (self.name, instructions, name_of(self.model), self.history)
        return (*of_prompt, self.max_turns, self._asked, self.retries, self.parallel_tools)

    @property
    def _writes(self) -> Callable[..., Any] | None:
        """The function that writes its instructions, if one does."""
        return None if isinstance(self.instructions, str) else self.instructions

    @cached_property
    def _asked(self) -> str:
        return repr(self.settings)

    @cached_property
    def _code(self) -> str:
        return self._schema + definition_of(self._made_of, around=self)

    @property
    def _made_of(self) -> list[Any]:
        return [self._writes, self.check, *self.tools.values(), *self.servers]

    @cached_property
    def _schema(self) -> str:
        return repr(self.codec.schema())

    def result_of(self, result: dict[str, Json]) -> AgentResult[T]:
        agent = result.get("agent", self.name)
        codec = self.codec_of(agent)
        if codec is None:
            raise Unreadable(
                recorded=f"an answer of agent {agent!r}: {result['output']!r:.200}",
                asked=f"agent {self.name!r}, which does not hand on to that one",
            )
        return AgentResult(
            output=codec.decode(result["output"]),
            messages=tuple(message_from(item) for item in result["messages"]),
            usage=usage_from(result["usage"]),
            agent=agent,
        )

    def codec_of(self, name: str) -> Codec | None:
        """Return what stores the output of the agent of this name; see `reached`."""
        found = self.reached(name)
        return None if found is None else found.codec

    def reached(self, name: str, around: Sequence[str] = ()) -> "Agent[Any] | None":
        """Return the agent of this name: itself, or one that conversations are handed on to.

        Args:
            name: the agent's.
            around: the names of those that were looked through before.
        """
        if name == self.name:
            return self
        for tool in self.tools.values():
            if isinstance(tool, Handoff) and tool.agent.name not in around:
                found = tool.agent.reached(name, (*around, self.name))
                if found is not None:
                    return found
        return None

    @cached_property
    def codec(self) -> Codec:
        """What stores the agent's output."""
        return Codec(self.output, where=f"the output of agent {self.name!r}")

    @cached_property
    def specs(self) -> tuple[ToolSpec, ...]:
        """What its model is offered to call."""
        specs = tuple(tool.spec for tool in self.tools.values())
        return (*specs, self.answers.spec()) if specs and not self.answers.is_text else specs

    @cached_property
    def parameters(self) -> dict[str, Json]:
        """What its requests hold beside the usual."""
        return self.settings.parameters()

    @cached_property
    def answers(self) -> Output:
        """What its model is told to answer, and what reads that."""
        return Output(self.name, self.codec)
