"""A shop as a server of the official SDK; what it does is counted in the file that ACTS names.

Over its standard input and output, or over HTTP at the port that is its argument.
"""

import asyncio
import os
import sys
from pathlib import Path

from mcp.server.mcpserver import Context, Image, MCPServer
from mcp_types import ToolAnnotations
from pydantic import BaseModel

PIXEL = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010806000000"
    "1f15c4890000000d49444154789c626001000000ffff03000006000557bfabd4"
    "0000000049454e44ae426082"
)
server = MCPServer("shop", log_level="ERROR")


class Receipt(BaseModel):
    order: str
    cents: int


def act(what: str) -> None:
    with Path(os.environ.get("ACTS", os.devnull)).open("a") as file:
        file.write(f"{what}\n")


@server.tool(annotations=ToolAnnotations(read_only_hint=True))
def search(query: str, limit: int = 5) -> str:
    """Search the catalogue."""
    act("search")
    return f"{limit} x {query}"


@server.tool()
def refund(order: str, cents: int) -> Receipt:
    """Give money back."""
    act("refund")
    return Receipt(order=order, cents=cents)


@server.tool()
def picture() -> Image:
    """Return what it looks like."""
    return Image(data=PIXEL, format="png")


@server.tool()
def fail() -> str:
    """Raise an error."""
    raise ValueError("no luck")


@server.tool()
async def count(to: int, ctx: Context) -> str:
    """Count, and tell how far it is."""
    for number in range(to):
        await ctx.report_progress(number, to)
    return str(to)


@server.tool()
async def hold(ctx: Context) -> str:
    """Take an hour, but for the second time."""
    is_first = "hold" not in Path(os.environ["ACTS"]).read_text().split()
    act("hold")
    if is_first:
        await asyncio.sleep(3600)
    return f"held by {ctx.request_context.meta['crew/idempotency-key']}"


@server.tool()
def leave() -> str:
    """End the process in the middle of a call."""
    act("leave")
    os._exit(1)


@server.tool()
def whose() -> str:
    """Tell whose shop it is."""
    return os.environ.get("TOKEN", "nobody's")


@server.tool(name="odd name/with.dots")
def odd() -> str:
    return "odd"


if __name__ == "__main__":
    if sys.argv[1:]:
        server.run("streamable-http", port=int(sys.argv[1]))
    else:
        server.run()
