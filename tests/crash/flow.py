"""The workflow that is killed everywhere: fan-out, loop, effects, questions, an agent, approvals.

Whatever is done says so in a file, with a label that its record holds too.
"""

import os
from collections.abc import Callable
from pathlib import Path

from pydantic import BaseModel

from crew import Agent, Context, Graph, Retry, tool
from crew.testing import ScriptedModel, ToolCall

WAYS = {"#retry": "retry", "#ask": "ask", "#fail": "fail", "#pay": "fail"}
"""What is to happen with each effect whose end is not known."""


class Order(BaseModel):
    name: str


class Item(BaseModel):
    number: int


class Packed(BaseModel):
    number: int
    label: str


class Parcel(BaseModel):
    round: int = 0
    labels: list[str] = []


class Sent(BaseModel):
    labels: list[str]


def order_flow(folder: Path, reached: Callable[[str], None]) -> Graph:
    """Return the workflow; `reached` is told before and after each effect."""

    def did(label: str) -> str:
        handle = os.open(folder / "done", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        os.write(handle, f"{os.getpid()} {label}\n".encode())
        os.close(handle)
        return label

    async def work(label: str) -> str:
        return did(label)

    async def act(label: str) -> str | None:
        reached("before effect")
        did(label)
        reached("after effect")
        return label

    async def act_with_key(label: str, idempotency_key: str) -> str | None:
        assert idempotency_key
        return await act(label)

    @tool(effect="idempotent", approve=lambda call: call.number % 3 == 2)
    async def weigh(number: int) -> str:
        """Weigh an item."""
        return did(f"#weigh{number}")

    def reply(request):
        said = request.messages[-1]
        if said.role == "tool":
            return did(f"#told-{said.text.lstrip('#')}")
        number = int(said.text)
        did(f"#asked{number}")
        return ToolCall("weigh", {"number": number})

    packer = Agent("packer", model=ScriptedModel(reply), tools=[weigh])
    flow = Graph("order", input=Order, output=Sent)

    @flow.node
    async def take(ctx: Context, order: Order) -> list[Item]:
        await ctx.effect(act, "#pay", key="#pay")
        return [Item(number=number) for number in range(6)]

    @flow.node(retry=Retry(attempts=2, first_delay=0.001))
    async def pack(ctx: Context, item: Item) -> Packed:
        for part in range(3):
            await ctx.run(work, f"#part{item.number}.{part}")
        told = await ctx.run(packer, str(item.number))
        did(f"#pack{item.number}")
        return Packed(number=item.number, label=f"#pack{item.number} {told.output}")

    @flow.node
    async def gather(ctx: Context, items: list[Packed]) -> Parcel:
        assert await ctx.ask(bool, "Send it?", key="send")
        labels = await ctx.map(work, [f"#label{n}" for n in range(5)], concurrency=2)
        return Parcel(labels=[item.label for item in items] + labels)

    @flow.node
    async def carry(ctx: Context, parcel: Parcel) -> Parcel | Sent:
        did(f"#carry{parcel.round}")
        ctx.progress(f"round {parcel.round}")
        label = await ctx.run(work, f"#road{parcel.round}")
        labels = [*parcel.labels, f"#carry{parcel.round}", label]
        if parcel.round < 16:
            return Parcel(round=parcel.round + 1, labels=labels)
        await ctx.effect(act_with_key, "#retry", key="#retry", unknown="retry")
        await ctx.effect(act, "#ask", key="#ask", unknown="ask")
        await ctx.effect(act, "#fail", key="#fail")
        return Sent(labels=labels)

    return flow
