"""A program that joins a cluster, and prints as JSON what came of all that it does there.

python -m tests.hosts.joining sqlite:///runs.db
"""

import asyncio
import json
import os
import sys
from typing import Any

from crew import (
    Agent,
    Context,
    CrewError,
    ModelError,
    RunCancelled,
    RunFailed,
    Runtime,
    ToolCall,
    tool,
    workflow,
)
from crew.testing import ScriptedModel


@tool(effect="read")
async def place(word: str) -> int:
    """Return the process this runs in."""
    return os.getpid()


def asks_for_place(request: Any) -> Any:
    said = request.messages[-1]
    return said.text if said.role == "tool" else ToolCall("place", {"word": said.text})


FINDER = Agent("finder", model=ScriptedModel(asks_for_place), tools=[place])
FAILING = Agent("failing", model=ScriptedModel([ModelError(message="the endpoint is down")]))


@workflow
async def inner(ctx: Context, word: str) -> str:
    return f"{word}, {word}"


async def shout(word: str) -> str:
    return word.upper()


@workflow
async def outer(ctx: Context, word: str) -> dict[str, Any]:
    found = await ctx.map(FINDER, ["here"] * 20)
    return {
        "step": os.getpid(),
        "agents": sorted({int(each.output) for each in found}),
        "child": await ctx.run(inner, word),
        "function": await ctx.run(shout, word),
    }


@workflow
async def asking(ctx: Context, word: str) -> str:
    return await ctx.ask(str, word, key="what")


@workflow
async def failing(ctx: Context, word: str) -> str:
    return (await ctx.run(FAILING, word)).output


async def all_of(runtime: Runtime) -> dict[str, Any]:
    found = await (await runtime.start(outer, "yes")).result()
    return {
        **found,
        "program": os.getpid(),
        "answer": await _answered(runtime),
        "cancel": await _cancelled(runtime),
        "failure": await _failed(runtime),
        "hosts counted": len(await runtime.all_metrics()) - 1,
    }


async def _asked(runtime: Runtime) -> Any:
    run = await runtime.start(asking, "What?")
    while not await run.questions():
        await asyncio.sleep(0.05)
    return run


async def _answered(runtime: Runtime) -> str:
    run = await _asked(runtime)
    await run.answer("what", "this")
    answer: str = await run.result()
    return answer


async def _cancelled(runtime: Runtime) -> str:
    run = await _asked(runtime)
    await run.cancel()
    try:
        await run.result()
    except RunCancelled as error:
        return type(error).__name__
    return ""


async def _failed(runtime: Runtime) -> str:
    try:
        await (await runtime.start(failing, "x")).result()
    except RunFailed as error:
        return error.cause_message
    return ""


async def main(url: str) -> dict[str, Any]:
    try:
        async with Runtime(url, agents="ray") as runtime:
            return await all_of(runtime)
    except CrewError as error:
        return {"refused": str(error)}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(asyncio.run(main(sys.argv[1]))) + "\n")
