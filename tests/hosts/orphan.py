"""A program that starts a run on Ray, whose code is larger than Ray keeps in a call, and waits.

python -m tests.hosts.orphan STORE DONE
"""

import asyncio
import random
import sys
from pathlib import Path

from crew import Context, Runtime, workflow
from crew.graph import Workflow

TABLE = "".join(chr(random.Random(number).randrange(33, 126)) for number in range(300_000))
"""Something that a workflow's module holds; it cannot be made much smaller."""


def flow_of(done: Path) -> Workflow:
    """Return a workflow that acts before and after a person answers."""

    def act(line: str) -> str:
        with done.open("a") as file:
            file.write(f"{line}\n")
        return line

    @workflow(name="orphan")
    async def orphan(ctx: Context, text: str) -> str:
        first = await ctx.effect(act, f"{text} {len(TABLE)}", key="first")
        await ctx.ask(bool, "go on?", key="go")
        return f"{first}, {await ctx.effect(act, 'after', key='second')}"

    return orphan


async def main(store: str, done: str) -> None:
    async with Runtime(store, agents="ray") as runtime:
        run = await runtime.start(flow_of(Path(done)), "before")
        sys.stdout.write(f"{run.id}\n")
        sys.stdout.flush()
        await asyncio.sleep(3600)


if __name__ == "__main__":
    from tests.hosts import orphan

    asyncio.run(orphan.main(*sys.argv[1:]))
