"""Random programs over a thread's state: whatever they call depends on what they read of it.

So code that is entered again, or replayed, and reads anything else asks for another call, which
parks its run, or makes its replay fail.
"""

import asyncio
import random
from typing import Any

import pytest
from pydantic import BaseModel

from crew import Agent, Context, Graph, ToolCall, tool, workflow
from crew.testing import ScriptedModel, simulate


class Go(BaseModel):
    number: int


class Went(BaseModel):
    number: int


async def see(text: str) -> str:
    return text


async def look(ctx: Context) -> None:
    """Call by all that is kept."""
    await ctx.run(see, str(dict(ctx.thread.state)))


@tool
async def bump(ctx: Context, name: str, pause: float) -> str:
    """Count one more, in two places, with a pause in between."""
    state = ctx.thread.state
    await look(ctx)
    state[name] = state.get(name, 0) + 1
    if pause:
        await ctx.sleep(pause)
    state.setdefault("log", []).append(name)
    await look(ctx)
    return "bumped"


class Program:
    """One of them: steps that do some of these things, one after the other or at once."""

    def __init__(self, seed: int) -> None:
        chance = random.Random(seed)
        calls = [
            ToolCall("bump", {"name": chance.choice("ab"), "pause": chance.choice([0, 0.5, 2])})
            for _ in range(3)
        ]
        at_once = chance.choice([True, False])

        def reply(request: Any) -> Any:
            done = sum(message.role == "tool" for message in request.messages)
            if done == len(calls):
                return "done"
            return calls if at_once else calls[done]

        self.agent = Agent(
            "agent",
            tools=[bump],
            model=ScriptedModel(reply),
            instructions=lambda ctx: str(dict(ctx.thread.state)),
        )
        kinds = ("ask", "within", "set", "map", "at once")
        self.parts = [chance.choice(kinds) for _ in range(chance.randint(2, 4))]
        self.flow = chance.choice([self.plain, self.graph])()

    async def carry_out(self, ctx: Context, parts: list[str], name: str) -> None:
        state = ctx.thread.state
        for part in parts:
            match part:
                case "ask":
                    await ctx.run(self.agent, str(dict(state)))
                case "within":
                    await ctx.run(self.within, ctx)
                case "set":
                    state[name] = len(state)
                    state.setdefault("log", []).append(name)
                case "map":
                    await ctx.map(self.agent, ["an item", str(dict(state))])
                case _:
                    one = self.carry_out(ctx, ["ask", "set"], "one")
                    await asyncio.gather(one, self.carry_out(ctx, ["set", "within"], "two"))
            await look(ctx)

    async def within(self, ctx: Context) -> str:
        await ctx.run(self.agent, str(dict(ctx.thread.state)))
        return str(dict(ctx.thread.state))

    def plain(self) -> Any:
        @workflow(name="plain")
        async def plain(ctx: Context, text: str) -> str:
            await self.carry_out(ctx, self.parts, "plain")
            return text

        return plain

    def graph(self) -> Graph:
        graph = Graph("graph", input=str, output=str)

        @graph.node
        async def split(ctx: Context, text: str) -> list[Go]:
            await self.carry_out(ctx, self.parts[:1], "split")
            return [Go(number=number) for number in range(3)]

        @graph.node
        async def work(ctx: Context, go: Go) -> Went:
            if go.number:
                await ctx.sleep(go.number)
            await self.carry_out(ctx, self.parts, f"work {go.number}")
            return Went(number=go.number)

        @graph.node
        async def join(ctx: Context, went: list[Went]) -> str:
            await look(ctx)
            return "x"

        return graph


@pytest.mark.parametrize("seed", range(8))
def test_code_reads_the_same_when_it_is_entered_again(seed):
    assert simulate(Program(seed).flow, "x", seeds=range(seed * 4, seed * 4 + 4)).output == "x"


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 120))
def test_so_it_does_in_many_programs(seed):
    assert simulate(Program(seed).flow, "x", seeds=range(seed * 8, seed * 8 + 8)).output == "x"
