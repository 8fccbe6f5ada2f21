"""Ours: `turns` turns of an agent, 400 bytes asked and 400 answered, in SQLite.

`runs`: each turn is a run on one thread, and the agent sees the thread's history; `loop`: one run
does them all. Prints the bytes left on disk, and per turn the seconds, but those of
building and sending the request, and the bytes written.
"""

import asyncio
import json
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

from crew import Agent, Context, Runtime, workflow
from crew.journal.sqlite import SqliteStore
from crew.llm import ModelReply, ModelRequest
from crew.testing import ScriptedModel

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from words import said

folder, turns, shape, compress = (
    sys.argv[1],
    int(sys.argv[2]),
    sys.argv[3],
    sys.argv[4] == "deflated",
)
answered = 0


def answer(request: object) -> str:
    global answered  # noqa: PLW0603  the model is one, and answers in order
    answered += 1
    return said("assistant", answered)


class Timed(ScriptedModel):
    """A model whose own time, that of building and sending a request, is kept apart."""

    async def complete(self, request: ModelRequest, **more: Any) -> ModelReply:
        began = time.perf_counter()
        reply = await super().complete(request, **more)
        sending.append(time.perf_counter() - began)
        return reply


sending: list[float] = []
friend = Agent("friend", history=True, model=Timed(answer))


@workflow
async def talk(ctx: Context, text: str) -> str:
    return (await ctx.run(friend, text)).output


@workflow
async def talk_on(ctx: Context, turns: int) -> int:
    for turn in range(turns):
        mark()
        await ctx.run(friend, said("user", turn))
    mark()
    return turns


marks: list[tuple[float, int]] = []


def mark() -> None:
    written = Path("/proc/self/io").read_text(encoding="ascii").split("wchar: ")[1].split()[0]
    marks.append((time.perf_counter(), int(written)))


async def main() -> None:
    store = SqliteStore(f"{folder}/ours.db", compress=compress)
    async with Runtime(store) as runtime:
        if shape == "loop":
            await (await runtime.start(talk_on, turns)).result()
        else:
            for turn in range(turns):
                mark()
                await (await runtime.start(talk, said("user", turn), thread="t")).result()
            mark()
    store.close()


asyncio.run(main())
left = sum(file.stat().st_size for file in Path(folder).rglob("*") if file.is_file())
steps = [
    (b[0] - a[0] - sent, b[1] - a[1]) for (a, b), sent in zip(pairwise(marks), sending, strict=True)
]
print(json.dumps({"bytes": left, "turns": steps}))
