"""What is sent to `/mcp`; the SDK reads it."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

__all__ = ["McpBody"]


class McpBody(BaseModel):
    """A message of JSON-RPC 2.0."""

    model_config = ConfigDict(extra="allow")

    jsonrpc: Literal["2.0"]
    method: str
    params: dict[str, Any] | None = None
    id: int | str | None = None
