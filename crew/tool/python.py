"""The `python` tool: code that a model wrote, run where it can reach nothing."""

from crew.errors import SandboxUnavailable, ToolError
from crew.tool.definition import Tool


def python_tool(*, seconds: float = 10) -> Tool:
    """Return a tool named `python`; offer it only where `python_available()` is empty.

    Args:
        seconds: how long one piece of code may run.
    """

    async def python(code: str) -> str:
        """Run Python code in a sandbox without network or files, and return what it printed.

        Args:
            code: Python; the value of a last line that is an expression is printed.
        """
        from crew.sandbox import open_sandbox

        done = await open_sandbox().run(code, seconds=seconds)
        if done.error:
            raise ToolError(message=done.error, tool="python")
        return done.stdout

    return Tool(python, effect="read")


def python_available() -> str:
    """Return why code cannot be isolated on this machine, or an empty text where it can."""
    from crew.sandbox import open_sandbox

    try:
        open_sandbox()
    except SandboxUnavailable as error:
        return str(error)
    return ""
