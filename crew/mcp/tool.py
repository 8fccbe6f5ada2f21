"""A tool of an MCP server, as an agent has it; and what stands for one that is not there."""

import re
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

from crew.call.invoke import invoke
from crew.content import Content
from crew.errors import ToolError
from crew.llm import ToolSpec
from crew.mcp.session import Session
from crew.message import Json
from crew.tool.definition import RESERVED, Approve
from crew.value import Codec

__all__ = ["Absent", "RemoteTool", "Tell", "name_of"]

Tell = Callable[[str, str], Awaitable[None]]

_ODD = re.compile(r"[^a-zA-Z0-9_-]")
_LONGEST_NAME = 64
_KEY_CHARACTERS = 12
_CODEC = Codec(str, where="what an MCP server returns", only_read=True)


def name_of(tool: str, prefix: str) -> str:
    """Return the name by which a model calls a tool, of a name that may hold anything."""
    name = _ODD.sub("_", f"{prefix}_{tool}" if prefix else tool)[:_LONGEST_NAME]
    return f"{name}_tool" if name in (RESERVED, "") else name


class _Foreign:
    """What all tools have in common that are not of this process."""

    holds_run: bool = False
    retries: int = 0
    timeout: float | None = None
    """The session keeps to the server's: it knows whether a request was sent at all."""
    codec: Codec = _CODEC

    def __init__(self, spec: ToolSpec) -> None:
        self.spec = spec
        """The tool as a model sees it."""

    @property
    def name(self) -> str:
        return self.spec.name

    def defined_by(self) -> tuple[Any, ...]:
        """Return what it is made of; see `crew.source.definition_of`."""
        return (repr(self.spec),)

    def read(self, arguments: dict[str, Json]) -> dict[str, Any]:
        """Return a model's arguments as they are: it is the server that checks them."""
        return arguments

    async def enter(self, context: Any, arguments: dict[str, Json]) -> Any:
        """Refuse: no server is given a run."""
        raise ToolError(message=f"{self.name} holds no run", tool=self.name)


class RemoteTool(_Foreign):
    """A tool that a server has listed.

    Args:
        spec: as a model sees it.
        tool: its name at the server.
        session: what the process has of that.
        effect: what a repeated call does.
        approve: whether a person is asked before a call.
        to: which one.
        tell: tells those who watch the run how far a call is, at a place of its own.
    """

    def __init__(
        self,
        spec: ToolSpec,
        tool: str,
        session: Session,
        effect: str,
        approve: Approve,
        to: str | None,
        tell: Tell,
    ) -> None:
        super().__init__(spec)
        self._tool, self._session, self._tell = tool, session, tell
        self.effect, self.approve, self.to = effect, approve, to

    async def needs_approval(self, arguments: dict[str, Json]) -> bool:
        """Return whether a person is to be asked before a call with these arguments.

        What the model has left out is None there, or the default that the schema names.

        Raises:
            Exception: what the function raises that `approve` is.
        """
        if isinstance(self.approve, bool):
            return self.approve
        properties = self.spec.parameters.get("properties", {})
        given = {name: _default(schema) for name, schema in properties.items()} | arguments
        return bool(await invoke(self.approve, SimpleNamespace(**given)))

    async def act(self, arguments: dict[str, Json], *, idempotency_key: str = "") -> Content:
        """Call it.

        Raises:
            ToolError: it failed.
            CutOff: it acts once, and nobody knows whether it did.
        """

        async def report(number: int, text: str) -> None:
            # The key is that of all attempts: what was told of one is not told again.
            place = f"{self.name}.{idempotency_key[:_KEY_CHARACTERS]}/progress.{number}"
            await self._tell(place, f"{self.name}: {text}")

        return await self._session.call(
            self._tool, arguments, effect=self.effect, key=idempotency_key, report=report
        )


class Absent(_Foreign):
    """A tool that could not be had, and says why: to its model, which can tell its user."""

    effect: str = "read"
    approve: Approve = False
    to: str | None = None

    async def needs_approval(self, arguments: dict[str, Json]) -> bool:
        return False

    async def act(self, arguments: dict[str, Json], *, idempotency_key: str = "") -> Content:
        """Refuse.

        Raises:
            ToolError: always.
        """
        raise ToolError(message=self.spec.description, tool=self.name)


def _default(schema: Json) -> Json:
    return schema.get("default") if isinstance(schema, dict) else None
