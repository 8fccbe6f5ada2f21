"""The tools that an agent has of MCP servers: listed once in each of its tasks, on record."""

from collections.abc import Sequence

from crew.agent.recorded import Recorded
from crew.agent.tool_call import ToolLike
from crew.call.record import AgentTask, Calls, Equipment
from crew.mcp import MCP
from crew.message import Json

__all__ = ["foreign_tools"]


async def foreign_tools(
    servers: Sequence[MCP], task: AgentTask, calls: Calls, equipment: Equipment
) -> list[ToolLike]:
    """Return what servers offer an agent in a task.

    It is recorded: what goes on after a crash has the tools with which it began, whatever became
    of the server, and needs none of it for calls that have come back.

    Raises:
        ExtraMissing: the SDK is not installed.
    """
    from crew.mcp.offer import connect, listed, tools_in

    async def tell(place: str, text: str) -> None:
        await calls.note_progress(f"{task.path}/{place}", text)

    recorded = Recorded(calls, task)
    tools: list[ToolLike] = []
    for number, server in enumerate(servers):

        async def look(streamed: str, server: MCP = server) -> dict[str, Json]:
            for each in servers:  # they get ready beside each other
                connect(each, equipment)
            return {"result": await listed(server, equipment)}

        found = await recorded.call(f"{task.path}/:mcp.{number}", "function", "mcp", {}, look)
        tools.extend(tools_in(found["result"], server, equipment, tell))
    return tools
