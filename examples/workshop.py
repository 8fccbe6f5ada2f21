"""A workshop's assistant: it looks at a photo, asks a catalogue, and orders what is approved.

    crew serve workshop.py         # chat with the model `repair`; photos are welcome

The catalogue is a server of the Model Context Protocol (`parts.py`). Orders are rows of `stock.db`,
which stands for the workshop's own system, and knows an order again by its key.
"""

import sqlite3
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, closing

from crew import MCP, Agent, Context, Fallback, File, Image, tool, workflow


class Stock:
    """What is on the shelf, and what was ordered."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self.db = db
        db.execute("CREATE TABLE IF NOT EXISTS shelf (part TEXT PRIMARY KEY, count INTEGER)")
        db.execute("CREATE TABLE IF NOT EXISTS orders (key TEXT PRIMARY KEY, part TEXT, count INT)")

    def count(self, part: str) -> int:
        """Return how many there are."""
        rows = self.db.execute("SELECT count FROM shelf WHERE part = ?", (part,)).fetchall()
        return sum(count for (count,) in rows)

    def order(self, part: str, count: int, idempotency_key: str) -> str:
        """Order parts; the same key again changes nothing."""
        row = (idempotency_key, part, count)
        self.db.execute("INSERT OR IGNORE INTO orders VALUES (?, ?, ?)", row)
        return f"{count} x {part} ordered"


@asynccontextmanager
async def open_stock() -> AsyncGenerator[Stock]:
    """Open the stock once in each process that runs this file."""
    with closing(sqlite3.connect("stock.db", isolation_level=None, check_same_thread=False)) as db:
        yield Stock(db)


@tool
async def in_stock(ctx: Context[Stock], part: str) -> int:
    """Return how many of a part are on the shelf, by its number."""
    return ctx.deps.count(part)


@tool(approve=lambda call: call.count > 1)
async def order(ctx: Context[Stock], part: str, count: int) -> str:
    """Order a part by its number; more than one is approved by a person."""
    return await ctx.effect(ctx.deps.order, part, count)


mechanic = Agent(
    "mechanic",
    instructions="You help in a workshop. Say what the photo shows, find the part in the "
    "catalogue, and order it if the shelf has none.",
    model=Fallback("strong", "cheap"),
    tools=[MCP(sys.executable, "parts.py", effect="read", timeout=20), in_stock, order],
    history=True,
)


@workflow(deps=open_stock)
async def repair(ctx: Context[Stock], message: list[str | Image | File]) -> str:
    """Answer a message, with photos or without."""
    return (await ctx.run(mechanic, message, emit=True)).output
