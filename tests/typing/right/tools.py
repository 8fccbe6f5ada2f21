"""Tools: calling one is calling its function, with its types."""

from collections.abc import Callable, Coroutine
from typing import Any, assert_type

from pydantic import BaseModel

from crew import MCP, Agent, Context, Image, Tool, tool


class Receipt(BaseModel):
    cents: int


@tool
async def refund(order: str, cents: int = 0) -> Receipt:
    """Refund an order."""
    return Receipt(cents=cents)


@tool(effect="read", timeout=3, retries=2, name="look")
def look_up(query: str) -> list[str]:
    """Look something up."""
    return [query]


@tool(approve=lambda call: call.cents > 1000)
async def settle(ctx: Context[int], order: str, cents: int) -> str:
    """Settle a complaint."""
    if await ctx.ask(bool, f"Refund {order}?"):
        return str(ctx.deps)
    return (await ctx.effect(pay, order)).model_dump_json()


async def pay(order: str, idempotency_key: str) -> Receipt:
    return Receipt(cents=1)


def plain(text: str) -> Image:
    """Draw something."""
    return Image(text.encode(), "image/png")


made = Tool(plain, effect="idempotent", name="draw")
by_call: Callable[[str], list[str]] = look_up

assert_type(look_up("q"), list[str])
assert_type(made("q"), Image)
assert_type(refund.name, str)


async def main() -> None:
    assert_type(await refund("o1"), Receipt)
    assert_type(await refund("o1", cents=3), Receipt)
    work: Coroutine[Any, Any, Receipt] = refund("o1", 3)
    await work


servers = [
    MCP("npx", "-y", "server", effect={"search": "read"}, env={"TOKEN": "…"}),
    MCP(
        "https://example.com/mcp", include=["search"], approve={"pay": lambda call: call.cents > 9}
    ),
]
Agent("clerk", tools=[refund, look_up, settle, plain, made, Agent("maths")], output=Receipt)
Agent("caller", tools=[refund, *servers])
