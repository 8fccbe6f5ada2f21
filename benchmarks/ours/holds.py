"""How long the event loop is held while one big value goes through a run, in ms and in seconds.

    python holds.py KIND PLACE MEGABYTES

Prints JSON: the longest time between two turns of a task that sleeps for 1 ms, the processor time
of this process in such a one, and what the run took. The garbage collector's passes are in it.
"""

import asyncio
import json
import logging
import sys
import time
from collections.abc import Callable
from typing import Any

from pydantic import BaseModel

from crew import Agent, Context, Runtime, tool, workflow
from crew.testing import ScriptedModel, ToolCall


class Part(BaseModel):
    name: str
    number: int
    tags: list[str]


class Document(BaseModel):
    title: str
    parts: list[Part]


def text(size: int) -> str:
    return "abcd efgh " * (size // 10)


def dicts(size: int) -> list[dict[str, Any]]:
    return [
        {"id": n, "name": f"name of {n}", "ok": True, "x": n * 1.5, "tags": ["a", "b"]}
        for n in range(size // 80)
    ]


def models(size: int) -> Document:
    parts = [Part(name=f"part {n}", number=n, tags=["a", "b"]) for n in range(size // 60)]
    return Document(title="it", parts=parts)


KINDS: dict[str, tuple[Callable[[int], Any], Any]] = {
    "text": (text, str),
    "dicts": (dicts, list[dict]),
    "models": (models, Document),
}
KIND, PLACE, MEGABYTES = sys.argv[1], sys.argv[2], int(sys.argv[3])
MAKE, TYPE = KINDS[KIND]


class Held:
    """Holds the value: what a function refers to by itself is hashed with its code."""

    value = MAKE(MEGABYTES << 20)


async def give() -> TYPE:
    return Held.value


async def take(value: Any) -> int:
    return 1


@tool(effect="read")
async def look() -> TYPE:
    """Look."""
    return Held.value


@workflow
async def function(ctx: Context, n: int) -> int:
    await ctx.run(give)
    return 1


@workflow
async def effect(ctx: Context, n: int) -> int:
    await ctx.effect(give, key="give")
    return 1


@workflow
async def output(ctx: Context, n: int) -> TYPE:
    return Held.value


@workflow
async def child(ctx: Context, n: int) -> int:
    await ctx.run(output, n)
    return 1


@workflow
async def argument(ctx: Context, n: int) -> int:
    return await ctx.run(take, Held.value)


@workflow
async def result_of_a_tool(ctx: Context, n: int) -> int:
    model = ScriptedModel([ToolCall("look", {}), "seen"])
    await ctx.run(Agent("looker", model=model, tools=[look]), "look")
    return 1


@workflow
async def given(ctx: Context, value: TYPE) -> int:
    return 1


PLACES = {
    "function": function,
    "effect": effect,
    "output": output,
    "child": child,
    "argument": argument,
    "tool": result_of_a_tool,
    "input": given,
}


async def tick(holds: list[float], processor: list[float]) -> None:
    wall, cpu = time.perf_counter(), time.process_time()
    while True:
        await asyncio.sleep(0.001)
        holds.append(time.perf_counter() - wall)
        processor.append(time.process_time() - cpu)
        wall, cpu = time.perf_counter(), time.process_time()


async def main() -> None:
    logging.disable()
    holds, processor = list[float](), list[float]()
    async with Runtime(":memory:") as runtime:
        ticker = asyncio.create_task(tick(holds, processor))
        await asyncio.sleep(0.1)
        began = time.perf_counter()
        run = await runtime.start(PLACES[PLACE], Held.value if PLACE == "input" else 1)
        await run.result()
        took = time.perf_counter() - began
        await asyncio.sleep(0.01)
        ticker.cancel()
    figures = {"hold_ms": 1000 * max(holds), "cpu_ms": 1000 * max(processor), "took_s": took}
    print(json.dumps(figures))


asyncio.run(main())
