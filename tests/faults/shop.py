"""A workflow with something of everything that a journal keeps, and the world that it acts on."""

import asyncio
from collections import Counter
from dataclasses import dataclass, field

from pydantic import BaseModel

from crew import Context, Graph

LONG = "a long text that every event after the first only points at, and that is deflated; " * 3
BIG = "a text that is big enough for a blob of its own, which lies in the table of blobs\n" * 800


class Order(BaseModel):
    names: list[str]


class Item(BaseModel):
    name: str


class Paid(BaseModel):
    name: str
    receipt: str


class Bill(BaseModel):
    text: str


ORDER = Order(names=["apple", "bread", "cheese"])


@dataclass
class World:
    """What effects did, by name and idempotency key; it outlives every process and disk."""

    acts: Counter[tuple[str, str]] = field(default_factory=Counter)

    def act(self, name: str, key: str) -> None:
        self.acts[name, key] += 1


def shop(world: World) -> Graph:
    """A fan-out of payments that may be repeated, joined in a bill that may be sent once only."""
    graph = Graph("shop", input=Order, output=Bill)

    @graph.node
    async def split(ctx: Context, order: Order) -> list[Item]:
        return [Item(name=name) for name in order.names]

    @graph.node
    async def buy(ctx: Context, item: Item) -> Paid:
        price = await ctx.run(priced, item.name)
        receipt = await ctx.effect(pay, item.name, price, unknown="retry")
        return Paid(name=item.name, receipt=receipt)

    @graph.node
    async def sum_up(ctx: Context, paid: list[Paid]) -> Bill:
        text = "; ".join(f"{one.name}: {one.receipt}" for one in paid)
        await ctx.run(printed, text)
        await ctx.effect(send, text)
        return Bill(text=text)

    async def pay(name: str, price: int, idempotency_key: str) -> str:
        world.act("pay", idempotency_key)
        await asyncio.sleep(0)
        return f"{name} for {price}. {LONG}"

    async def send(text: str, idempotency_key: str) -> str:
        world.act("send", idempotency_key)
        await asyncio.sleep(0)
        return f"sent {len(text)} characters"

    return graph


async def priced(name: str) -> int:
    return len(name)


async def printed(text: str) -> str:
    return text + BIG
