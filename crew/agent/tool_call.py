"""One call of a tool that a model asked for, and what the model gets to read of it."""

import asyncio
import difflib
import json
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from crew.agent.approval import Approvals
from crew.agent.recorded import Recorded
from crew.call.record import AgentTask, Calls, CutOff, idempotency_key, unstorable
from crew.content import Content, content_in, result_data
from crew.errors import ToolError
from crew.event import failure_from
from crew.failure import message_of
from crew.graph.retry import Retry
from crew.llm import ToolSpec
from crew.llm.wire import INVALID_ARGUMENTS
from crew.message import Json, ToolCall
from crew.value import Codec, aside, canonical, document, is_big, own_copy

__all__ = ["ToolCalls", "ToolLike"]

MAX_RESULT_CHARACTERS = 16_000
"""What a model gets to see of one tool result."""


class ToolLike(Protocol):
    """What an agent needs of a tool; `crew.tool.Tool` is one."""

    @property
    def name(self) -> str: ...
    @property
    def effect(self) -> str: ...
    @property
    def holds_run(self) -> bool: ...
    @property
    def timeout(self) -> float | None: ...
    @property
    def retries(self) -> int: ...
    @property
    def approve(self) -> bool | Callable[[Any], Any]: ...
    @property
    def to(self) -> str | None: ...
    @property
    def spec(self) -> ToolSpec: ...

    @property
    def codec(self) -> Codec: ...

    def defined_by(self) -> tuple[Any, ...]: ...

    def read(self, arguments: dict[str, Json]) -> dict[str, Any]: ...

    async def needs_approval(self, arguments: dict[str, Json]) -> bool: ...

    async def enter(self, context: Any, arguments: dict[str, Json]) -> Any: ...

    async def act(self, arguments: dict[str, Json], *, idempotency_key: str = "") -> Any: ...


class ToolCalls:
    """Makes the calls of tools of one task.

    Args:
        tools: those of the agent, by name.
        calls: the journal of the run.
        task: the agent's.
        recorded: makes them once.
        approvals: asks people about them.
    """

    def __init__(
        self,
        tools: Mapping[str, ToolLike],
        calls: Calls,
        task: AgentTask,
        recorded: Recorded,
        approvals: Approvals,
    ) -> None:
        self._tools, self._calls = tools, calls
        self._task, self._recorded = task, recorded
        self._approvals = approvals

    async def call(self, call: ToolCall, path: str) -> Content:
        """Return what the model gets to read: the tool's result, or why there is none."""
        tool = self._tools.get(call.name)
        if tool is None:
            return _no_such_tool(call.name, list(self._tools))
        if INVALID_ARGUMENTS in call.arguments:
            text = call.arguments[INVALID_ARGUMENTS]
            return f"error: the arguments of {call.name!r} are not a JSON object: {text!r:.200}"
        try:
            if (refusal := await self._approvals.refusal(tool, call, path)) is not None:
                return refusal
            return await self._function(tool, call, path)
        except ToolError as error:
            return f"error: {error}"

    async def _function(self, tool: ToolLike, call: ToolCall, path: str) -> Content:
        """Call a function of the user's, as often as it may be.

        Raises:
            ToolError: it failed each time.
            EffectUnknown: nobody knows whether it acted.
        """
        result = await self._tried(tool, call, path)
        if (failure := result.get("unstorable")) is not None:
            return f"{failure_from(failure).message}. It is done: do not call it again for that."
        found = result["result"]
        if (content := content_in(found)) is not None:
            return content
        if not is_big(found):
            return _bounded(_text_of(found))
        text = found if isinstance(found, str) else (await aside(document, found)).decode()
        return _bounded(text)

    async def _tried(self, tool: ToolLike, call: ToolCall, path: str) -> dict[str, Json]:
        """Make attempts of a call, each with a record of its own, until one succeeds."""
        policy = Retry(attempts=1 + _further_attempts(tool, call))
        # One for all attempts: by it the far side knows that they are the same act.
        key = idempotency_key(self._task.run, path)
        attempt, place, pause = 1, path, 0.0
        while True:
            try:
                return await self._attempt(tool, call, place, key, pause)
            except ToolError as error:
                if not policy.allows(error, attempt):
                    raise
            pause = policy.delay(attempt)
            attempt += 1
            place = f"{path}~{attempt}"

    async def _attempt(
        self, tool: ToolLike, call: ToolCall, path: str, key: str, pause: float
    ) -> dict[str, Json]:
        """Make one attempt, after a pause of so many seconds where it is really made."""
        data = {"tool": tool.name, "arguments": call.arguments, "effect": tool.effect}
        fingerprint = f"{tool.name}:{canonical(call.arguments)}"

        async def perform(streamed: str) -> dict[str, Json]:
            if tool.holds_run:
                return await self._calls.enter(path, tool.name, call.arguments)
            if pause:
                await asyncio.sleep(pause)
            result = await _in_time(tool, own_copy(call.arguments), key, path)
            try:
                return {"result": await _stored(tool.codec, result)}
            except Exception as error:  # a serializer of the user's raises anything
                if tool.effect == "read":
                    raise ToolError(message=message_of(error), tool=tool.name) from error
                return unstorable(error, path, "the tool")

        def wrap(words: str) -> ToolError:
            return ToolError(message=words, tool=path)

        return await self._recorded.call(
            path, "tool", fingerprint, data, perform, wrap, once=tool.effect == "once"
        )


async def _in_time(tool: ToolLike, arguments: dict[str, Json], key: str, path: str) -> Any:
    """Call a tool for as long as it may take.

    Raises:
        ToolError: it took longer.
        CutOff: it did, and acts once.
    """
    acting = tool.act(arguments, idempotency_key=key)
    if tool.timeout is None:
        return await acting
    limit = asyncio.timeout(tool.timeout)
    try:
        async with limit:
            return await acting
    except TimeoutError as error:
        if not limit.expired():
            raise  # of its own
        message = f"tool {tool.name!r} took longer than its timeout of {tool.timeout} s"
        if tool.effect == "once":
            raise CutOff(message) from error
        raise ToolError(message=message, tool=path) from error


def _further_attempts(tool: ToolLike, call: ToolCall) -> int:
    """Return how often a call is made anew that failed; one that can never succeed is not."""
    try:
        if tool.retries:
            tool.read(own_copy(call.arguments))
    except ToolError:
        return 0
    return tool.retries


def _no_such_tool(name: str, names: list[str]) -> str:
    near = difflib.get_close_matches(name, names, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return f"error: there is no tool {name!r}{hint} There are: {', '.join(names) or 'none'}"


async def _stored(codec: Codec, result: Any) -> Json:
    if (data := result_data(result)) is not None:
        return data
    if is_big(result):
        return (await aside(codec.big, result)).stored
    return codec.passed_on(result)[0]


def _text_of(result: Json) -> str:
    return result if isinstance(result, str) else json.dumps(result, ensure_ascii=False)


def _bounded(text: str) -> str:
    if len(text) <= MAX_RESULT_CHARACTERS:
        return text
    return f"{text[:MAX_RESULT_CHARACTERS]}\n[cut: {len(text)} characters in all]"
