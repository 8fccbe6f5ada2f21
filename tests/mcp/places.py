"""The servers of these tests, and what an agent reads of them."""

import shutil
import sys
from pathlib import Path

from crew import MCP, Agent, Message, ToolCall
from crew.testing import ScriptedModel

SERVERS = Path(__file__).parent / "servers"


def shop(**options) -> MCP:
    """The server of the official SDK."""
    return MCP(sys.executable, str(SERVERS / "shop.py"), **options)


def library(**options) -> MCP:
    """The server of plain JavaScript."""
    assert shutil.which("node"), "these tests need Node"
    return MCP("node", str(SERVERS / "library.mjs"), **options)


def unsound(way: str, **options) -> MCP:
    """The server that misbehaves."""
    return MCP(sys.executable, str(SERVERS / "unsound.py"), way, **options)


def clerk(server: MCP, *calls: ToolCall, **options) -> Agent:
    """An agent whose model makes these calls, one after the other, and is done."""
    model = ScriptedModel([*calls, "done"])
    return Agent("clerk", model=model, tools=[server], max_turns=20, **options)


async def read(server: MCP, *calls: ToolCall) -> list[Message]:
    """Return what an agent reads of these calls."""
    answer = await clerk(server, *calls).run("hello")
    assert answer.output == "done"
    return [message for message in answer.messages if message.role == "tool"]
