"""The context's calls, given what they do not take: each marked line is refused, and no other."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from pydantic import BaseModel

from crew import Agent, Context, workflow


class Plan(BaseModel):
    tasks: list[str]


class Receipt(BaseModel):
    cents: int


@dataclass
class Deps:
    name: str


@asynccontextmanager
async def open_deps() -> AsyncGenerator[Deps]:
    yield Deps("d")


planner = Agent("planner", output=Plan)


async def length(text: str) -> int:
    return len(text)


def halved(number: float, digits: int = 2) -> float:
    return round(number / 2, digits)


async def refund(order: str, cents: int, idempotency_key: str) -> Receipt:
    return Receipt(cents=cents)


@workflow
async def child(ctx: Context, plan: Plan) -> Receipt:
    return Receipt(cents=len(plan.tasks))


@workflow(deps=open_deps)
async def every(ctx: Context[Deps], text: str) -> Plan:
    await ctx.run(length, 3)  # refused
    await ctx.run(length)  # refused
    await ctx.run(halved, 3, "2")  # refused
    await ctx.run(halved, 3, 2, 1)  # refused
    await ctx.run(length, text, emit=True)  # refused
    await ctx.run(planner, 3)  # refused
    await ctx.run(planner)  # refused
    await ctx.run(child, text)  # refused
    await ctx.run(child)  # refused
    await ctx.run(3)  # refused
    (await ctx.run(planner, text)).output.steps  # refused
    (await ctx.run(child, Plan(tasks=[]))).tasks  # refused
    count: str = await ctx.run(length, text)  # refused

    sure: str = await ctx.ask(bool, "Refund?")  # refused
    await ctx.ask(True, "Refund?")  # refused
    await ctx.ask(bool)  # refused

    await ctx.map(length, [1, 2])  # refused
    await ctx.map(child, ["a"])  # refused
    sizes: list[str] = await ctx.map(length, ["a"])  # refused

    await ctx.effect(refund, "o1")  # refused
    await ctx.effect(refund, "o1", "100")  # refused
    await ctx.effect(length, 3)  # refused
    await ctx.effect(length, text, unknown="maybe")  # refused
    receipt: Plan = await ctx.effect(refund, "o1", 100)  # refused

    ctx.deps.bank  # refused
    await ctx.sleep("1")  # refused
    ctx.run(length, text) + 1  # refused
    print(count, sure, sizes, receipt)
    return text  # refused


@workflow
async def noting(ctx: Context, text: str) -> str:
    await ctx.notes.write(7)  # refused
    await ctx.notes.forget(scope=["a"])  # refused
    return await ctx.notes.search("tea")  # refused
