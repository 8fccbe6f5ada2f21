"""A shop in two releases: workflows that a deploy changes while runs of them are under way.

Each change is a pair of programs with one name. In both, an order is charged, then the run pauses
(on a question, or in a call that is under way when its process goes), then the goods are shipped.
"""

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, create_model

from crew import Context, Graph, workflow
from crew.graph import Workflow


class Order(BaseModel):
    n: int


class Receipt(BaseModel):
    text: str


@dataclass(slots=True)
class World:
    """What runs act on, and where they pause until `open` is set: `how` says where.

    A `waiting` run pauses on a question, one that is `acting` while it charges, others in a call.
    """

    how: str
    acts: Counter[str] = field(default_factory=Counter)
    keys: set[str] = field(default_factory=set)
    open: asyncio.Event = field(default_factory=asyncio.Event)
    pausing: asyncio.Event = field(default_factory=asyncio.Event)

    async def charge(self, n: int, idempotency_key: str) -> int:
        """Charge once for each key, as the far side does."""
        self.acts["charge"] += idempotency_key not in self.keys
        self.keys.add(idempotency_key)
        if self.how == "acting":
            await self.hold()
        return n

    async def bill(self, n: int, idempotency_key: str) -> int:
        """The same act under another name."""
        return await self.charge(n, idempotency_key)

    async def ship(self, n: int) -> int:
        self.acts["ship"] += 1
        return n

    async def weigh(self, n: int) -> int:
        return n

    async def check(self, n: int) -> int:
        return n

    async def hold(self) -> bool:
        self.pausing.set()
        await self.open.wait()
        return True

    async def pause_and_ship(self, ctx: Context, n: int) -> str:
        await (ctx.ask(bool, "Ship it?", key="go") if self.how == "waiting" else ctx.run(self.hold))
        await ctx.effect(self.ship, n)
        return "shipped"


Make = Callable[[bool, World], Workflow]


@dataclass(frozen=True, slots=True)
class Change:
    """A deploy: how a release is made, and what is said where the run is parked for it.

    `held` are words of which one says what the journal holds, `asked` of what the code has instead.
    `fits` says that new code has to go on.
    """

    name: str
    make: Make
    held: tuple[str, ...] = ()
    asked: tuple[str, ...] = ()
    fits: bool = False


@dataclass(frozen=True, slots=True)
class Fields:
    """A model before and after a deploy: its fields, and a value of each."""

    name: str
    old: dict[str, Any]
    new: dict[str, Any]
    held: tuple[str, ...]
    asked: tuple[str, ...]
    fits: bool = False

    def model(self, *, new: bool) -> type[BaseModel]:
        return create_model("Parcel", **(self.new if new else self.old))

    def parcel(self, model: type[BaseModel], *, new: bool) -> BaseModel:
        mood = "calm" if new else "found"
        values = {"text": mood, "body": mood, "note": "fragile", "score": 1200 if new else 271}
        return model(**{name: values[name] for name in model.model_fields})


TEXT, INT = (str, ...), (int, ...)
CALM = (Literal["calm"], ...)
MANY = (Annotated[int, Field(ge=999)], ...)
FIELDS = [
    Fields("required", {"text": TEXT}, {"text": TEXT, "score": INT}, ("text",), ("score",)),
    Fields("default", {"text": TEXT}, {"text": TEXT, "score": (int, 0)}, (), (), fits=True),
    Fields("removed", {"text": TEXT, "note": TEXT}, {"text": TEXT}, ("note",), ("Parcel",)),
    Fields("renamed", {"text": TEXT}, {"body": TEXT}, ("text",), ("body",)),
    Fields("literal", {"text": TEXT}, {"text": CALM}, ("found",), ("calm",)),
    Fields("bounded", {"score": INT}, {"score": MANY}, ("271",), ("999",)),
]


def of_a_call(fields: Fields) -> Change:
    """The model is what a call returned."""

    def make(new: bool, world: World) -> Workflow:
        model = fields.model(new=new)

        async def look_up(n: int) -> model:  # type: ignore[valid-type]
            return fields.parcel(model, new=new)

        @workflow(name="shop")
        async def shop(ctx: Context, order: Order) -> Receipt:
            await ctx.run(look_up, order.n)
            await ctx.effect(world.charge, order.n, key="charge", unknown="retry")
            return Receipt(text=await world.pause_and_ship(ctx, order.n))

        return shop

    return Change(f"field {fields.name}, call", make, fields.held, fields.asked, fields.fits)


def of_an_edge(fields: Fields) -> Change:
    """The model is what one node gave the node in flight."""

    def make(new: bool, world: World) -> Workflow:
        model = fields.model(new=new)
        graph = Graph("shop", input=Order, output=Receipt)

        @graph.node
        async def look_up(ctx: Context, order: Order) -> model:  # type: ignore[valid-type]
            await ctx.effect(world.charge, order.n, key="charge", unknown="retry")
            return fields.parcel(model, new=new)

        @graph.node
        async def sell(ctx: Context, parcel: model) -> Receipt:  # type: ignore[valid-type]
            return Receipt(text=await world.pause_and_ship(ctx, 5))

        return graph

    return Change(f"field {fields.name}, edge", make, fields.held, fields.asked, fields.fits)


def first_node_renamed(new: bool, world: World) -> Workflow:
    """The node that has completed has another name."""
    graph = Graph("shop", input=Order, output=Receipt)

    @graph.node(name="weighing" if new else "pricing")
    async def look_up(ctx: Context, order: Order) -> int:
        return await ctx.effect(world.charge, order.n, key="charge", unknown="retry")

    @graph.node
    async def sell(ctx: Context, n: int) -> Receipt:
        return Receipt(text=await world.pause_and_ship(ctx, n))

    return graph


def node_renamed(new: bool, world: World) -> Workflow:
    """The node in flight has another name; its effect keeps its key."""
    graph = Graph("shop", input=Order, output=Receipt)

    @graph.node(name="delivering" if new else "selling")
    async def sell(ctx: Context, order: Order) -> Receipt:
        await ctx.effect(world.charge, order.n, key="charge", unknown="retry")
        return Receipt(text=await world.pause_and_ship(ctx, order.n))

    return graph


def member_renamed(new: bool, world: World) -> Workflow:
    """One of the types that a node gives has another name."""
    small = create_model("Tiny" if new else "Small", n=(int, ...))
    large = create_model("Large", n=(int, ...))
    graph = Graph("shop", input=Order, output=Receipt)

    @graph.node
    async def sort(ctx: Context, order: Order) -> small | large:  # type: ignore[valid-type]
        return small(n=await ctx.effect(world.charge, order.n, key="charge", unknown="retry"))

    @graph.node
    async def sell(ctx: Context, parcel: small) -> Receipt:  # type: ignore[valid-type]
        return Receipt(text=await world.pause_and_ship(ctx, parcel.n))

    @graph.node
    async def haul(parcel: large) -> Receipt:  # type: ignore[valid-type]
        return Receipt(text="hauled")

    return graph


def _plain(calls: Callable[[Context, int, bool, World], Any]) -> Make:
    """Return a plain workflow that makes some calls before it pauses."""

    def make(new: bool, world: World) -> Workflow:
        @workflow(name="shop")
        async def shop(ctx: Context, order: Order) -> Receipt:
            await calls(ctx, order.n, new, world)
            return Receipt(text=await world.pause_and_ship(ctx, order.n))

        return shop

    return make


async def effect_renamed(ctx: Context, n: int, new: bool, world: World) -> None:
    await ctx.effect(world.bill if new else world.charge, n, unknown="retry")


async def keyed_effect_renamed(ctx: Context, n: int, new: bool, world: World) -> None:
    await ctx.effect(world.bill if new else world.charge, n, key="money", unknown="retry")


async def effect_removed(ctx: Context, n: int, new: bool, world: World) -> None:
    if not new:
        await ctx.effect(world.charge, n, unknown="retry")


async def call_inserted(ctx: Context, n: int, new: bool, world: World) -> None:
    if new:
        await ctx.run(world.check, n)
    await ctx.run(world.weigh, n)
    await ctx.effect(world.charge, n, unknown="retry")


async def equal_call_inserted(ctx: Context, n: int, new: bool, world: World) -> None:
    if new:
        await ctx.run(world.weigh, 0)
    await ctx.run(world.weigh, n)
    await ctx.effect(world.charge, n, unknown="retry")


async def call_removed(ctx: Context, n: int, new: bool, world: World) -> None:
    await ctx.run(world.weigh, n)
    if not new:
        await ctx.run(world.check, n)
    await ctx.effect(world.charge, n, unknown="retry")


async def moved_into_gather(ctx: Context, n: int, new: bool, world: World) -> None:
    if new:
        await asyncio.gather(ctx.run(world.weigh, n), ctx.effect(world.charge, n, unknown="retry"))
    else:
        await ctx.run(world.weigh, n)
        await ctx.effect(world.charge, n, unknown="retry")


CHANGES = [
    *map(of_a_call, FIELDS),
    *map(of_an_edge, FIELDS),
    Change("completed node renamed", first_node_renamed, ("pricing",), ("weighing",)),
    Change("node in flight renamed", node_renamed, ("selling",), ("delivering",)),
    Change("union member renamed", member_renamed, ("Small",), ("Tiny",)),
    Change("effect renamed", _plain(effect_renamed), ("charge",), ("bill",)),
    Change("keyed effect renamed", _plain(keyed_effect_renamed), ("charge",), ("bill",)),
    Change("effect removed", _plain(effect_removed), ("charge",), ("ship",)),
    Change("call inserted", _plain(call_inserted), ("weigh",), ("check",)),
    Change("equal call inserted", _plain(equal_call_inserted), ("weigh",), ("weigh",)),
    Change("call removed", _plain(call_removed), ("check",), ("ship",)),
    Change("moved into gather", _plain(moved_into_gather), ("charge",), ("charge",)),
]
