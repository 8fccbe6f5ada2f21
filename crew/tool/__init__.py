"""Tools: typed functions that an agent may call, and those that come with the package."""

from crew.tool.definition import Tool, tool

__all__ = ["Tool", "tool"]
