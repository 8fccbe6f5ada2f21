"""Tools of MCP servers: what a server offers is listed, called, and read as a tool's result.

The definition alone is loaded with an agent, the rest by the first task of one that has a server.

Source: Model Context Protocol, https://modelcontextprotocol.io.
"""

from crew.mcp.definition import IDEMPOTENCY_KEY, MCP

__all__ = ["IDEMPOTENCY_KEY", "MCP"]
