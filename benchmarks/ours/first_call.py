"""Ours: the first call of an agent in a process, with an instant model, in a run on SQLite."""

import asyncio
import tempfile

from crew import Agent, Context, Runtime, workflow
from crew.testing import ScriptedModel

greeter = Agent("greeter", model=ScriptedModel(["Hello."]))


@workflow
async def hello(ctx: Context, name: str) -> str:
    return (await ctx.run(greeter, name)).output


async def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        async with Runtime(f"sqlite:///{folder}/ours.db") as runtime:
            assert await (await runtime.start(hello, "crew")).result() == "Hello."


asyncio.run(main())
