"""The loop of an agent: model, tools, model, …, output, each call through the journal.

Source: ReAct, Yao et al., 2022, in the form that chat models with tool calls gave it.
"""

import functools
import hashlib
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

from crew.agent.approval import Approvals
from crew.agent.branches import Branches
from crew.agent.check import Check, Checks
from crew.agent.handoff import Handoff
from crew.agent.output import TOOL, Output
from crew.agent.recorded import Recorded
from crew.agent.tool_call import ToolCalls, ToolLike
from crew.agent.tries import Tries
from crew.call.instructions import Instructions
from crew.call.record import AgentTask, Calls
from crew.content import Content
from crew.errors import OutputInvalid
from crew.llm import Model, ModelReply, ModelRequest, ToolSpec
from crew.llm.settings import ModelSettings
from crew.message import (
    Json,
    Message,
    ToolCall,
    Usage,
    message_data,
    message_with,
    usage_from,
)

if TYPE_CHECKING:  # most tasks have no earlier turns
    from crew.agent.compaction import Compacting


class Definition(Protocol):
    """What the loop needs of an agent."""

    name: str
    instructions: Instructions
    max_turns: int
    parallel_tools: int | None
    settings: ModelSettings
    check: Check | None
    retries: int

    @property
    def tools(self) -> Mapping[str, ToolLike]: ...

    @property
    def specs(self) -> tuple[ToolSpec, ...]: ...

    @property
    def parameters(self) -> dict[str, Json]: ...

    @property
    def answers(self) -> Output: ...


class Loop:
    """One task of one agent: model, tools, model, …, output."""

    def __init__(
        self,
        agent: Definition,
        task: AgentTask,
        calls: Calls,
        models: Sequence[Model],
        earlier: "Compacting | None" = None,
    ) -> None:
        self.agent, self.task, self.calls = agent, task, calls
        self.output = agent.answers
        self.recorded = Recorded(calls, task)
        answers, spoken = self.output, task
        if task.emit and not answers.is_text and not (answers.has_text and not agent.tools):
            spoken = replace(task, emit=False)  # what a reader gets is made of the whole answer
        self.tries = Tries(calls, spoken, models, self.recorded)
        self.checks = Checks(agent.check, task, self.recorded) if agent.check is not None else None
        self.earlier = earlier
        self.specs = agent.specs
        self.repairs = agent.retries
        self.is_forced = False
        """Whether the model has said that it is done, so that no tool is offered any more."""
        self.has_offered = False
        """Whether tools could be called by the last reply."""
        self.messages: list[Message] = []
        self.usage = Usage()
        self.turn = 0
        self.answered = ""
        """The path of the call that gave the last reply."""
        self.sent = 0
        self.tool_counts: dict[str, int] = {}
        self.handed_to: str | None = None
        """The handoff that the model has called."""

    @functools.cached_property
    def branches(self) -> Branches:
        """Where its tools are called; most tasks call none."""
        return Branches(self.calls, self.task.path, self.agent.parallel_tools)

    @functools.cached_property
    def tool_calls(self) -> ToolCalls:
        approvals = Approvals(self.calls, self.recorded, self.branches)
        return ToolCalls(self.agent.tools, self.calls, self.task, self.recorded, approvals)

    async def run(self) -> dict[str, Json]:
        if self.earlier is not None:
            history = await self.earlier.fitted(self._asked_after)
            self.task = replace(self.task, history=history)
        self.messages = self._first_messages(self.task.history)
        while self.turn < self.agent.max_turns:
            reply = await self._ask_model()
            self.messages.append(reply.message())
            if reply.tool_calls and not self._is_given(reply):
                self.messages += await self._call_tools(reply.tool_calls)
                if self.handed_to is not None:
                    return await self._hand_on(self.handed_to)
            else:
                try:
                    output = await self._answer(reply)
                except OutputInvalid as error:
                    self._ask_again(reply, error)
                else:
                    return self._result(output, reply)
            await self._take_back(reply)
        raise OutputInvalid(
            message=f"agent {self.agent.name!r} gave no answer within max_turns="
            f"{self.agent.max_turns} model calls; raise it, or say in the instructions when to stop"
        )

    def _is_given(self, reply: ModelReply) -> bool:
        """Return whether a reply is an answer, given by its tool.

        Beside other calls it is none: it was made without what they come to.
        """
        is_alone = {call.name for call in reply.tool_calls} == {TOOL}
        return is_alone and not self.output.is_text

    async def _answer(self, reply: ModelReply) -> Json:
        """Return the answer in a reply, encoded.

        Raises:
            OutputInvalid: it is none, or the agent's check refuses it.
        """
        try:
            if reply.tool_calls:
                output = self.output.given(reply.tool_calls[0])
            else:
                is_cut_off = reply.finish_reason == "length"
                output = self.output.read(reply.text, is_cut_off=is_cut_off)
        except OutputInvalid:
            if self.has_offered and not reply.tool_calls:
                # Nothing made it answer in the form that is wanted: to ask for that is no repair.
                self.is_forced, self.repairs = True, self.repairs + 1
            raise
        if self.checks is not None:
            await self.checks.require(self.output, output)
        return output

    def _ask_again(self, reply: ModelReply, error: OutputInvalid) -> None:
        """Let the model repair its answer.

        Raises:
            OutputInvalid: it may not; one that was cut off would be cut off again, but for one in
                words where a schema is forced next.
        """
        is_other = self.is_forced and self.has_offered
        if not self.repairs or (reply.finish_reason == "length" and not is_other):
            raise error
        self.repairs -= 1
        if reply.tool_calls:
            words = f"error: that was not a valid answer. {error} Call {TOOL} again."
            self.messages += [_result_of(call, words) for call in reply.tool_calls]
        else:
            form = "" if self.output.is_text else ", with the JSON alone"
            words = f"That was not a valid answer. {error} Answer again{form}."
            self.messages.append(Message("user", words))

    async def _take_back(self, reply: ModelReply) -> None:
        """Let a reader forget what was passed on of a reply that is not the answer."""
        if self.task.emit and reply.text:
            await self.calls.discard_text(self.answered)

    def _first_messages(self, history: Sequence[Message]) -> list[Message]:
        begun = [*self._opening(), *history]
        is_asked = self.task.text or self.task.parts or not history
        return [*begun, self.task.message()] if is_asked else begun

    def _asked_after(self, history: Sequence[Message]) -> ModelRequest:
        """Return the first request of the task, were this what was said before."""
        return replace(self._request(), messages=tuple(self._first_messages(history)))

    def _opening(self) -> list[Message]:
        written, own = self.task.instructions, self.agent.instructions
        instructions = own if written is None and isinstance(own, str) else written
        return [Message("system", instructions)] if instructions else []

    def _of_this_task(self, first: int) -> list[dict[str, Json]]:
        """Return the messages from number `first`, but those of earlier turns.

        Their own runs hold these; storing them again would make each turn cost the conversation.
        """
        begin = len(self._opening())
        end = begin + len(self.task.history)
        return [
            message_data(message)
            for number, message in enumerate(self.messages[first:], first)
            if not begin <= number < end
        ]

    async def _ask_model(self) -> ModelReply:
        path = f"{self.task.path}/model.{self.turn}"
        data: dict[str, Json] = {"messages": self._of_this_task(self.sent)}
        if self.turn:
            data["base"] = self.answered
        elif self.task.history:
            data["history"] = len(self.task.history)
        self.sent = len(self.messages) + 1  # with the reply, which its own event holds
        self.turn += 1
        answered = await self.tries.answer(path, self._request(), data)
        self.usage = answered.usage if self.turn == 1 else self.usage + answered.usage
        self.answered = answered.path
        return answered.reply

    def _request(self) -> ModelRequest:
        """Return what is asked for: while tools may be called, no schema is forced."""
        is_last = self.turn == self.agent.max_turns
        self.has_offered = bool(self.specs) and not self.is_forced and not is_last
        return ModelRequest(
            messages=tuple(self.messages),
            tools=self.specs if self.has_offered else (),
            schema=None if self.has_offered else self.output.schema,
            max_tokens=self.agent.settings.max_tokens,
            temperature=self.agent.settings.temperature,
            parameters=self.agent.parameters,
            session=self.task.session,
            cache_salt=_salt(self.task.tenant),
        )

    async def _call_tools(self, wanted: tuple[ToolCall, ...]) -> list[Message]:
        if not self.has_offered:
            words = "error: no tool can be called any more; answer with what you know"
            return [_result_of(call, words) for call in wanted]
        results = await self.branches.run(map(self._tool_call, wanted))
        return list(map(_result_of, wanted, results))

    def _tool_call(self, call: ToolCall) -> Callable[[], Coroutine[Any, Any, Content]]:
        if call.name == TOOL and not self.output.is_text:
            return _too_early
        if isinstance(self.agent.tools.get(call.name), Handoff):
            return functools.partial(self._handed, call.name)
        path = self._tool_path(call.name)
        return functools.partial(self.tool_calls.call, call, path)

    async def _handed(self, handoff: str) -> Content:
        """Return what the conversation holds of a call of a handoff; the first one counts."""
        if self.handed_to not in (None, handoff):
            return "error: the conversation goes on with another agent already"
        self.handed_to = handoff
        return "The conversation goes on there."

    async def _hand_on(self, handoff: str) -> dict[str, Json]:
        """Let another agent go on, and return what it comes to as this one's result."""
        path = self._tool_path(handoff)
        said = [message_data(message) for message in self.messages if message.role != "system"]
        data: dict[str, Json] = {
            "tool": handoff,
            "arguments": {},
            "effect": self.agent.tools[handoff].effect,
        }

        async def perform(streamed: str) -> dict[str, Json]:
            return await self.calls.enter(path, handoff, {"messages": said, "emit": self.task.emit})

        found = (await self.recorded.call(path, "tool", handoff, data, perform))["result"]
        return {
            **found,
            "messages": [*self._of_this_task(0), *found["messages"]],
            "usage": (self.usage + usage_from(found["usage"])).to_data(),
        }

    def _tool_path(self, name: str) -> str:
        count = self.tool_counts.get(name, 0)
        self.tool_counts[name] = count + 1
        return f"{self.task.path}/{name}.{count}"

    def _result(self, output: Json, reply: ModelReply) -> dict[str, Json]:
        if reply.tool_calls:
            # As words: a call without a result is refused by endpoints that get it as history.
            self.messages[-1] = Message("assistant", self.output.words(reply.tool_calls[0]))
        return {
            "output": output,
            "messages": self._of_this_task(0),
            "usage": self.usage.to_data(),
        }


def _result_of(call: ToolCall, content: Content) -> Message:
    return message_with("tool", content, tool_call_id=call.id)


async def _too_early() -> Content:
    return "error: it came beside other calls; give the answer once you have read their results"


@functools.lru_cache(maxsize=1024)
def _salt(tenant: str) -> str:
    """Return what keeps a tenant's cached prefixes apart, and does not tell who it is."""
    return hashlib.sha256(tenant.encode()).hexdigest()[:32] if tenant else ""
