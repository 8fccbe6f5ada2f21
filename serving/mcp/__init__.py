"""`/mcp`: workflows as the tools of an MCP server, over streamable HTTP, by `crew serve --mcp`.

Source: Model Context Protocol, https://modelcontextprotocol.io.
"""

from serving.http.operation import Operation
from serving.mcp.body import McpBody
from serving.mcp.protocol import serve_mcp

__all__ = ["OPERATIONS"]

OPERATIONS = [
    Operation(
        method="POST",
        path="/mcp",
        summary="A message of the Model Context Protocol: workflows are tools.",
        handle=serve_mcp,
        body=McpBody,
        streams=True,
        errors=[404, 406],
    )
]
