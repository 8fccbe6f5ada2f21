"""The loop of an agent: model, tools, model, …, output, each call through the journal.

Source: ReAct, Yao et al., 2022, in the form that chat models with tool calls gave it.
"""

import functools
import hashlib
import json
from collections.abc import Mapping
from typing import Any, Protocol

from crew.agent.model_call import ModelCall, reply_from
from crew.agent.recorded import Recorded
from crew.agent.tool_call import ToolCalls, ToolLike
from crew.call.concurrent import together
from crew.call.record import (
    AgentTask,
    Calls,
)
from crew.errors import (
    ModelError,
    OutputInvalid,
)
from crew.llm import Model, ModelReply, ModelRequest
from crew.llm.extraction import json_in
from crew.message import Json, Message, ToolCall, Usage, message_data, message_with
from crew.value import Codec


class Definition(Protocol):
    """What the loop needs of an agent."""

    name: str
    instructions: str
    output: Any
    max_turns: int
    max_tokens: int | None
    temperature: float | None

    @property
    def tools(self) -> Mapping[str, ToolLike]: ...

    @property
    def codec(self) -> Codec: ...


class Loop:
    """One task of one agent: model, tools, model, …, output."""

    def __init__(self, agent: Definition, task: AgentTask, calls: Calls, model: Model) -> None:
        self.agent, self.task, self.calls, self.model = agent, task, calls, model
        self.codec = agent.codec
        self.recorded = Recorded(calls, task)
        self.tool_calls = ToolCalls(agent.tools, calls, task, self.recorded)
        self.schema = None if agent.output is str else self.codec.schema()
        self.messages: list[Message] = []
        self.usage = Usage()
        self.turn = 0
        self.sent = 0
        self.tool_counts: dict[str, int] = {}

    async def run(self) -> dict[str, Json]:
        self.messages = self._first_messages()
        repaired = False
        while self.turn < self.agent.max_turns:
            reply = await self._ask_model()
            self.messages.append(reply.message())
            if reply.tool_calls:
                self.messages += await self._call_tools(reply.tool_calls)
                continue
            try:
                output = self._read(reply.text)
            except OutputInvalid as error:
                if repaired or reply.finish_reason == "length":
                    raise  # a reply that was cut off would be cut off again
                repaired = True
                self.messages.append(Message("user", _repair_request(error)))
                continue
            return self._result(output)
        raise OutputInvalid(
            message=f"agent {self.agent.name!r} gave no answer within max_turns="
            f"{self.agent.max_turns} model calls; raise it, or say in the instructions when to stop"
        )

    def _first_messages(self) -> list[Message]:
        return [*self._opening(), *self.task.history, self.task.message()]

    def _opening(self) -> list[Message]:
        instructions = self.agent.instructions
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
        new = self._of_this_task(self.sent)
        call = ModelCall(self.calls, self.task, self.model, path, self._request())
        data: dict[str, Json] = {"model": self.model.name, "messages": new, **call.provider()}
        if self.turn:
            data["base"] = f"{self.task.path}/model.{self.turn - 1}"
        elif self.task.history:
            data["history"] = len(self.task.history)
        self.sent = len(self.messages) + 1  # with the reply, which its own event holds
        self.turn += 1
        # No lambda: what is no async function by its looks is called in a thread.
        complete = functools.partial(call.complete, data)
        result = await self.recorded.call(
            path, "model", "model", data, complete, self._wrap, paying=call
        )
        self.usage += call.lost + Usage(**result["usage"])
        return reply_from(result)

    def _wrap(self, words: str) -> ModelError:
        return ModelError(message=f"the model {self.model.name!r} raised {words}")

    def _request(self) -> ModelRequest:
        return ModelRequest(
            messages=tuple(self.messages),
            tools=tuple(tool.spec for tool in self.agent.tools.values()),
            schema=self.schema,
            max_tokens=self.agent.max_tokens,
            temperature=self.agent.temperature,
            session=self.task.session,
            cache_salt=_salt(self.task.tenant),
        )

    async def _call_tools(self, wanted: tuple[ToolCall, ...]) -> list[Message]:
        paths = [self._tool_path(call.name) for call in wanted]
        results = await together(map(self.tool_calls.call, wanted, paths))
        return [
            message_with("tool", result, tool_call_id=call.id)
            for call, result in zip(wanted, results, strict=True)
        ]

    def _tool_path(self, name: str) -> str:
        count = self.tool_counts.get(name, 0)
        self.tool_counts[name] = count + 1
        return f"{self.task.path}/{name}.{count}"

    def _read(self, text: str) -> Json:
        if self.agent.output is str:
            return text
        try:
            found = json.loads(json_in(text))
        except ValueError as error:
            raise OutputInvalid(
                message=f"agent {self.agent.name!r} must answer in JSON, got {text!r:.300}",
                received=text,
            ) from error
        return self.codec.passed_on(self.codec.read(found))[0]

    def _result(self, output: Json) -> dict[str, Json]:
        return {
            "output": output,
            "messages": self._of_this_task(0),
            "usage": self.usage.to_data(),
        }


@functools.lru_cache(maxsize=1024)
def _salt(tenant: str) -> str:
    """Return what keeps a tenant's cached prefixes apart, and does not tell who it is."""
    return hashlib.sha256(tenant.encode()).hexdigest()[:32] if tenant else ""


def _repair_request(error: OutputInvalid) -> str:
    return f"That was not a valid answer. {error} Answer again, with the JSON alone."
