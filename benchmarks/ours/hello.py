"""Ours: a durable hello from nothing: a workflow of one step on a new SQLite file."""

import asyncio
import sys

from crew import Context, Runtime, workflow


@workflow
async def hello(ctx: Context, name: str) -> str:
    return f"Hello, {name}."


async def main() -> None:
    async with Runtime(f"sqlite:///{sys.argv[1]}/ours.db") as runtime:
        assert await (await runtime.start(hello, "crew")).result() == "Hello, crew."


asyncio.run(main())
