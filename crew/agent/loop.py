"""The loop of an agent: model, tools, model, …, output, each call through the journal.

Source: ReAct, Yao et al., 2022, in the form that chat models with tool calls gave it.
"""

import difflib
import functools
import hashlib
import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol, TypeVar, cast

from crew.agent.model_call import ModelCall, reply_from
from crew.call.concurrent import together
from crew.call.invoke import invoke
from crew.call.record import (
    AgentTask,
    Calls,
    idempotency_key,
    outcome,
    unstorable,
)
from crew.errors import (
    BudgetExceeded,
    CrewError,
    EffectUnknown,
    ModelError,
    NotAnException,
    OutputInvalid,
    ToolError,
)
from crew.event import CallKind, failure_from
from crew.failure import failure_of, message_of, raise_again
from crew.llm import Model, ModelReply, ModelRequest, ToolSpec
from crew.llm.wire import INVALID_ARGUMENTS
from crew.message import Json, Message, ToolCall, Usage, message_data
from crew.value import Codec, aside, canonical, document, is_big, own_copy

T = TypeVar("T")

MAX_RESULT_CHARACTERS = 16_000
"""What a model gets to see of one tool result."""


class ToolLike(Protocol):
    """What an agent needs of a tool; `crew.tool.Tool` is one."""

    function: Callable[..., Any]

    @property
    def name(self) -> str: ...
    @property
    def effect(self) -> str: ...
    @property
    def spec(self) -> ToolSpec: ...

    @property
    def codec(self) -> Codec: ...

    async def act(self, arguments: dict[str, Json], *, idempotency_key: str = "") -> Any: ...


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
            self.messages.append(Message("assistant", reply.text, reply.tool_calls))
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
        return [*self._opening(), *self.task.history, Message("user", self.task.text)]

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
        result = await self._journalled(path, "model", "model", data, complete, paying=call)
        self.usage += call.lost + Usage(**result["usage"])
        return reply_from(result)

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
        texts = await together(map(self._call_tool, wanted, paths))
        return [
            Message("tool", text, tool_call_id=call.id)
            for call, text in zip(wanted, texts, strict=True)
        ]

    def _tool_path(self, name: str) -> str:
        count = self.tool_counts.get(name, 0)
        self.tool_counts[name] = count + 1
        return f"{self.task.path}/{name}.{count}"

    async def _call_tool(self, call: ToolCall, path: str) -> str:
        """Return what the model gets to read: the tool's result, or why there is none."""
        tool = self.agent.tools.get(call.name)
        if tool is None:
            return _no_such_tool(call.name, list(self.agent.tools))
        if INVALID_ARGUMENTS in call.arguments:
            text = call.arguments[INVALID_ARGUMENTS]
            return f"error: the arguments of {call.name!r} are not a JSON object: {text!r:.200}"
        key = idempotency_key(self.task.run, path)
        data = {"tool": tool.name, "arguments": call.arguments, "effect": tool.effect}
        fingerprint = f"{tool.name}:{canonical(call.arguments)}"

        async def perform(streamed: str) -> dict[str, Json]:
            result = await tool.act(own_copy(call.arguments), idempotency_key=key)
            try:
                return {"result": await _stored(tool.codec, result)}
            except Exception as error:  # a serializer of the user's raises anything
                if tool.effect == "read":
                    raise ToolError(message=message_of(error), tool=tool.name) from error
                return unstorable(error, path, "the tool")

        try:
            result = await self._journalled(
                path, "tool", fingerprint, data, perform, once=tool.effect == "once"
            )
        except ToolError as error:
            return f"error: {error}"
        if (failure := result.get("unstorable")) is not None:
            return f"{failure_from(failure).message}. It is done: do not call it again for that."
        found = result["result"]
        if not is_big(found):
            return _bounded(_text_of(found))
        text = found if isinstance(found, str) else (await aside(document, found)).decode()
        return _bounded(text)

    async def _journalled(
        self,
        path: str,
        call: CallKind,
        fingerprint: str,
        data: dict[str, Json],
        perform: Callable[[str], Any],
        *,
        once: bool = False,
        paying: ModelCall | None = None,
    ) -> dict[str, Json]:
        """Answer a call from the journal, or make it between its intent and its result."""
        reserves = paying if self.task.limited else None
        if reserves is None:
            record = await self.calls.begin(path, call, fingerprint, data)
        else:
            begin = functools.partial(self.calls.begin, path, call, fingerprint, data)
            record = await self._begun(begin, data, reserves)
        if record is not None and record.state in ("completed", "failed"):
            return record.result if record.error is None else outcome(record)
        if record is not None:
            if once:
                if record.state != "unknown":
                    await self.calls.mark_unknown(path, call)
                raise EffectUnknown(
                    message=f"a crash hid whether the tool call {path} of run {self.task.run} "
                    "happened; look, then fork the run, or declare the tool idempotent",
                    run=self.task.run,
                    path=path,
                )
            if reserves is None:
                await self.calls.restart(path, call, fingerprint, data)
            else:
                restart = functools.partial(self.calls.restart, path, call, fingerprint, data)
                await self._begun(restart, data, reserves)
        try:
            result = await invoke(perform, record.streamed if record is not None else "")
        except Exception as error:  # noqa: BLE001  a tool's code, or a model's, raises anything
            failure = failure_of(self._wrapped(error, path, call), path)
            await self.calls.fail(path, call, failure, paying.cost(error) if paying else None)
            raise_again(failure)
        await self.calls.complete(path, call, result)
        return cast("dict[str, Json]", result)

    async def _begun(
        self, begin: Callable[[], Awaitable[T]], data: dict[str, Json], paying: ModelCall
    ) -> T:
        """Begin a call whose intent is `data`, or begin it anew, once that is paid for."""
        while True:
            data |= await paying.reserve()
            try:
                return await begin()
            except BudgetExceeded as error:
                # Others took what was left while the engine counted; it is asked for once more.
                if error.unit != "tokens":
                    raise

    def _wrapped(self, error: Exception, path: str, call: CallKind) -> CrewError:
        """Return what an error of a model's or a tool's own is recorded as."""
        if isinstance(error, CrewError) and not isinstance(error, NotAnException):
            return error
        described = f"{type(error).__name__}: {message_of(error)}"
        wrapped: CrewError = ToolError(message=described, tool=path)
        if call == "model":
            wrapped = ModelError(message=f"the model {self.model.name!r} raised {described}")
        wrapped.__cause__ = error
        return wrapped

    def _read(self, text: str) -> Json:
        if self.agent.output is str:
            return text
        try:
            found = json.loads(_json_part(text))
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


def _json_part(text: str) -> str:
    """Return the JSON in a reply that a model wrapped in a Markdown fence."""
    stripped = text.strip()
    if stripped.startswith("```"):
        return stripped.removeprefix("```json").removeprefix("```").removesuffix("```")
    return stripped


def _repair_request(error: OutputInvalid) -> str:
    return f"That was not a valid answer. {error} Answer again, with the JSON alone."


def _no_such_tool(name: str, names: list[str]) -> str:
    near = difflib.get_close_matches(name, names, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return f"error: there is no tool {name!r}{hint} There are: {', '.join(names) or 'none'}"


async def _stored(codec: Codec, result: Any) -> Json:
    if is_big(result):
        return (await aside(codec.big, result)).stored
    return codec.passed_on(result)[0]


def _text_of(result: Json) -> str:
    return result if isinstance(result, str) else json.dumps(result, ensure_ascii=False)


def _bounded(text: str) -> str:
    if len(text) <= MAX_RESULT_CHARACTERS:
        return text
    return f"{text[:MAX_RESULT_CHARACTERS]}\n[cut: {len(text)} characters in all]"
