"""A worker in a process of its own: `python -m tests.postgres_store.asking URL`."""

import asyncio
import sys

from crew import Context, Graph, Runtime
from tests.core.flows import Count, Done

STEPS = 100


def counting() -> Graph:
    """A hundred small steps, with a question in the middle."""
    graph = Graph("counting", input=Count, output=Done, max_steps=1000)

    @graph.node
    async def more(ctx: Context, count: Count) -> Count | Done:
        if count.n == STEPS // 2:
            await ctx.ask(bool, "Go on?", key="go")
        await asyncio.sleep(0.002)
        return Count(n=count.n + 1) if count.n < STEPS else Done(n=count.n)

    return graph


async def main(url: str) -> None:
    """Drive what nobody drives, until the process is ended."""
    async with Runtime(url, workflows=[counting()]):
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
