"""Tools given what they do not take: each marked line is refused, and no other."""

from crew import MCP, Tool, tool


@tool
async def refund(order: str, cents: int = 0) -> int:
    """Refund an order."""
    return cents


@tool(effect="read")
def look_up(query: str) -> list[str]:
    """Look something up."""
    return [query]


@tool(effect="twice")  # refused
def again(text: str) -> str:
    """Say it again."""
    return text


@tool(timeout="3")  # refused
def timed(text: str) -> str:
    """Say it in time."""
    return text


tool(3)  # refused
MCP("npx", effect="twice")  # refused
MCP("npx", effect={"search": "twice"})  # refused
MCP("npx", 3)  # refused
MCP("npx", timeout="3")  # refused
Tool("search")  # refused
look_up(3)  # refused
look_up()  # refused
look_up("q", limit=3)  # refused
found: str = look_up("q")  # refused
refund("o1").bit_length()  # refused


async def main() -> None:
    receipt: str = await refund("o1")  # refused
    await refund("o1", "3")  # refused
    print(receipt, found)
