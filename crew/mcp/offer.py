"""What an agent is offered of a server: its list of tools, as it is recorded, and as it is read."""

import json
import logging
from collections.abc import Iterator

from crew.call.record import Equipment
from crew.errors import ToolError
from crew.failure import message_of
from crew.llm import ToolSpec
from crew.mcp.definition import MCP
from crew.mcp.session import session_of
from crew.mcp.tool import Absent, RemoteTool, Tell, name_of
from crew.message import Json

__all__ = ["connect", "listed", "tools_in"]

MOST_TOOLS = 128
"""Of one server; some models take no more in all."""
MOST_SCHEMA_CHARACTERS = 64_000
MOST_DESCRIPTION_CHARACTERS = 4_000

logger = logging.getLogger(__name__)


def connect(server: MCP, equipment: Equipment) -> None:
    """Have a connection made meanwhile.

    Raises:
        ExtraMissing: the SDK is not installed.
    """
    session_of(server, equipment).connect()


async def listed(server: MCP, equipment: Equipment) -> dict[str, Json]:
    """Return what is recorded of the tools that are wanted of a server.

    They are `tools`, each with a `problem` if it cannot be offered; or there is one with them all.
    """
    try:
        found = await session_of(server, equipment).listing()
    except ToolError as error:
        return _unavailable(server, str(error))
    named: dict[str, dict[str, Json]] = {}
    for tool in found:
        named.setdefault(tool["name"], tool)
    if server.include is None and len(named) > MOST_TOOLS:
        words = f"it lists {len(named)} tools, more than {MOST_TOOLS}: name yours in include="
        return _unavailable(server, words)
    wanted = server.include or named
    return {"tools": [_entry(name, named, server) for name in wanted]}


def tools_in(
    listing: dict[str, Json], server: MCP, equipment: Equipment, tell: Tell
) -> Iterator[RemoteTool | Absent]:
    """Return the tools of a listing that was recorded; `tell` is for how far their calls are."""
    entries = listing.get("tools") or [
        {"name": name, "problem": listing["problem"]} for name in server.include or (server.label,)
    ]
    taken: set[str] = set()
    for entry in entries:
        name = _unlike(name_of(entry["name"], server.prefix), taken)
        taken.add(name)
        if (problem := entry.get("problem")) is not None:
            words = f"Not available: {problem}"
            yield Absent(ToolSpec(name, words, {"type": "object", "properties": {}}))
        else:
            yield RemoteTool(
                ToolSpec(name, entry["description"], entry["schema"]),
                entry["name"],
                session_of(server, equipment),
                server.effect_of(entry["name"], entry["hint"]),
                server.approve_of(entry["name"]),
                server.to,
                tell,
            )


def _unavailable(server: MCP, problem: str) -> dict[str, Json]:
    logger.warning("mcp.unavailable", extra={"server": server.label, "why": problem})
    return {"problem": problem}


def _entry(name: str, named: dict[str, dict[str, Json]], server: MCP) -> dict[str, Json]:
    tool = named.get(name)
    if tool is None:
        has = ", ".join(named) or "none"
        problem = f"MCP server {server.label!r} has no tool {name!r}; it has: {has:.1000}"
    else:
        problem = _problem_of(tool["inputSchema"])
    if tool is None or problem:
        logger.warning("mcp.no_tool", extra={"server": server.label, "tool": name, "why": problem})
        return {"name": name, "problem": problem}
    return {
        "name": name,
        "description": (tool.get("description") or "")[:MOST_DESCRIPTION_CHARACTERS],
        "schema": tool["inputSchema"],
        "hint": _hint_of(tool.get("annotations") or {}),
    }


def _problem_of(schema: dict[str, Json]) -> str:
    """Return why an endpoint would refuse a schema, and all that is asked for with it."""
    from jsonschema import SchemaError
    from jsonschema.validators import validator_for

    text = json.dumps(schema)
    if len(text) > MOST_SCHEMA_CHARACTERS:
        return f"its input schema has {len(text)} characters"
    if '"$ref": "' in text.replace('"$ref": "#', ""):
        return "its input schema refers to another document"
    try:
        validator_for(schema).check_schema(schema)
    except SchemaError as error:
        return f"its input schema is none: {message_of(error):.500}"
    return ""


def _hint_of(annotations: dict[str, Json]) -> str:
    if annotations.get("readOnlyHint"):
        return "read"
    return "idempotent" if annotations.get("idempotentHint") else ""


def _unlike(name: str, taken: set[str]) -> str:
    """Return a name that no other tool of the server has."""
    number = 1
    other = name
    while other in taken:
        number += 1
        other = f"{name[: 64 - len(str(number)) - 1]}_{number}"
    return other
