"""Whether a person lets an agent call a tool: asked before the call's intent, and once."""

import json
from collections.abc import Callable
from typing import Any, Protocol

from crew.agent.branches import Branches
from crew.agent.recorded import Recorded
from crew.call import approval
from crew.call.addressee import addressed
from crew.call.record import Calls, fingerprint_of
from crew.errors import ToolError
from crew.message import Json, ToolCall
from crew.value import canonical, describe, own_copy

__all__ = ["Approvals", "Guarded"]

MOST_CHARACTERS = 4_000
"""Of a call's arguments, as a person gets to read them."""


class Guarded(Protocol):
    """A tool that a person may have to agree to."""

    @property
    def name(self) -> str: ...

    @property
    def approve(self) -> bool | Callable[[Any], Any]: ...

    @property
    def to(self) -> str | None:
        """The role or the name of who is asked; None: whoever the run talks with."""
        ...

    async def needs_approval(self, arguments: dict[str, Json]) -> bool: ...


class Approvals:
    """Asks people for the tools of one task.

    Args:
        calls: the journal of the run.
        recorded: makes calls once.
        branches: those of the task, which wait meanwhile.
    """

    def __init__(self, calls: Calls, recorded: Recorded, branches: Branches) -> None:
        self._calls, self._recorded, self._branches = calls, recorded, branches

    async def refusal(self, tool: Guarded, call: ToolCall, path: str) -> str | None:
        """Return what the model gets to read of a call that a person refused.

        None says that the call at `path` may be made.

        Raises:
            ToolError: whether it has to be asked cannot be told.
            GraphError: nobody can be asked, since there is no run.
        """
        if tool.approve is False or not await self._is_needed(tool, call, path):
            return None
        answer = approval.read(await self._answer(call, path, addressed(tool.to)))
        if answer.approved:
            return None
        why = f": {answer.reason}" if answer.reason else ""
        return (
            f"a person refused this call of {tool.name!r}{why}. It was not made; do not make it "
            "again unless you are asked to."
        )

    async def _is_needed(self, tool: Guarded, call: ToolCall, path: str) -> bool:
        """Decide it once: what follows of it is in the journal."""
        if tool.approve is True:
            return True

        async def decide(streamed: str) -> dict[str, Json]:
            return {"result": await tool.needs_approval(own_copy(call.arguments))}

        def wrap(words: str) -> ToolError:
            return ToolError(message=f"`approve` of tool {tool.name!r} raised {words}", tool=path)

        fingerprint = fingerprint_of("approve", canonical(call.arguments))
        found = await self._recorded.call(
            f"{path}/:approve", "function", fingerprint, {}, decide, wrap
        )
        return bool(found["result"])

    async def _answer(self, call: ToolCall, path: str, whom: dict[str, Json]) -> Json:
        """Return a person's answer; what waits for it holds no process."""
        question = f"May {call.name} be called with {_shown(call.arguments)}?"
        path, key = f"{path}/:approval", path.partition("/")[2]
        codec = approval.codec()
        data: dict[str, Json] = {
            "question": question,
            "key": key,
            "schema": approval.SCHEMA,
            "type": describe(codec.annotation),
            **whom,
        }
        fingerprint = fingerprint_of("approval", [call.name, canonical(call.arguments)])
        record = await self._calls.begin(path, "ask", fingerprint, data)
        if record is not None and record.state == "completed":
            return record.result["value"]
        if record is not None and record.state == "cancelled":
            await self._calls.restart(path, "ask", fingerprint, data)
        async with self._branches.waiting(path):
            return await self._calls.approval(path)


def _shown(arguments: dict[str, Json]) -> str:
    text = json.dumps(arguments, ensure_ascii=False)
    if len(text) <= MOST_CHARACTERS:
        return text
    return f"{text[:MOST_CHARACTERS]} [cut: {len(text)} characters in all]"
