"""The context's calls: they keep the types of what is called."""

import enum
import functools
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Literal, assert_type

from pydantic import BaseModel

from crew import Agent, AgentResult, Budget, Context, Note, Retry, tool, workflow


class Plan(BaseModel):
    tasks: list[str]


class Receipt(BaseModel):
    cents: int


class Grade(enum.Enum):
    GOOD = "good"
    BAD = "bad"


@dataclass
class Bank:
    name: str

    async def refund(self, order: str, cents: int, *, idempotency_key: str) -> Receipt:
        return Receipt(cents=cents)


@dataclass
class Deps:
    bank: Bank


@asynccontextmanager
async def open_deps() -> AsyncGenerator[Deps]:
    yield Deps(Bank("b"))


planner = Agent("planner", output=Plan)
hello = Agent("hello")


async def length(text: str) -> int:
    return len(text)


def halved(number: float, digits: int = 2) -> float:
    return round(number / 2, digits)


async def nothing() -> None: ...


async def refund(order: str, cents: int, idempotency_key: str) -> Receipt:
    return Receipt(cents=cents)


def pay(order: str, *, cents: int = 0, idempotency_key: str = "") -> list[Receipt]:
    return [Receipt(cents=cents)]


def ping(idempotency_key: str) -> str:
    return idempotency_key


@tool(effect="read")
async def look_up(query: str) -> list[str]:
    return [query]


@workflow
async def child(ctx: Context, plan: Plan) -> Receipt:
    return Receipt(cents=len(plan.tasks))


@workflow
async def nightly(ctx: Context) -> str:
    return ctx.run_id


@workflow(deps=open_deps)
async def every(ctx: Context[Deps], text: str) -> Plan:
    answer = await ctx.run(planner, text)
    assert_type(answer, AgentResult[Plan])
    assert_type(answer.output, Plan)
    again = await ctx.run(hello, [text], messages=answer.messages, emit=True)
    assert_type(again.output, str)

    assert_type(await ctx.run(child, answer.output, budget=Budget(tokens=10)), Receipt)
    assert_type(await ctx.run(nightly, key="n"), str)
    assert_type(await ctx.run(length, text, retry=Retry(attempts=2), timeout=3), int)
    assert_type(await ctx.run(halved, 3), float)
    assert_type(await ctx.run(halved, 3, 1), float)
    assert_type(await ctx.run(look_up, text), list[str])
    assert_type(await ctx.run(functools.partial(halved, digits=1), 3.0), float)
    await ctx.run(nothing)

    assert_type(await ctx.ask(bool, "Refund?", key="refund"), bool)
    assert_type(await ctx.ask(Literal["a", "b"], "Which?"), Literal["a", "b"])
    assert_type(await ctx.ask(Grade, "How good?", timeout=60), Grade)
    assert_type(await ctx.ask(Plan, "What then?"), Plan)
    assert_type(await ctx.ask(list[int], "Which ones?"), list[int])
    assert_type(await ctx.ask(int | None, "How many?"), int | None)

    assert_type(await ctx.map(length, ["a", "b"], concurrency=8), list[int])
    assert_type(await ctx.map(halved, [1, 2]), list[float])
    assert_type(await ctx.map(planner, ["a", "b"]), list[AgentResult[Plan]])
    assert_type(await ctx.map(child, [answer.output]), list[Receipt])
    assert_type(await ctx.map(lambda number: number + 1, range(3)), list[int])

    assert_type(await ctx.effect(refund, "o1", 100, key="r", unknown="ask"), Receipt)
    assert_type(await ctx.effect(ctx.deps.bank.refund, "o1", 100), Receipt)
    assert_type(await ctx.effect(pay, "o1"), list[Receipt])
    assert_type(await ctx.effect(functools.partial(pay, "o1", cents=5)), list[Receipt])
    assert_type(await ctx.effect(ping), str)
    assert_type(await ctx.effect(length, text, unknown="retry"), int)

    assert_type(ctx.deps, Deps)
    assert_type(ctx.deps.bank.name, str)
    assert_type(await ctx.now(), float)
    async with ctx.timeout(60):
        await ctx.sleep(1)
    return answer.output


@workflow
async def noting(ctx: Context, text: str) -> list[str]:
    assert_type(await ctx.notes.write(text, scope="user:eva"), str)
    found = await ctx.notes.search("tea", scope=["", "user:eva"], limit=3)
    assert_type(found, list[Note])
    await ctx.notes.forget(found[0].id)
    await ctx.notes.forget(scope="user:eva", run=ctx.run_id)
    return [note.text for note in found]
