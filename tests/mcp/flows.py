"""Workflows with an agent that calls tools of servers, as a process that is killed runs them."""

import asyncio
import os
import sys
from collections.abc import Sequence

from crew import MCP, Agent, Context, Runtime, ToolCall, workflow
from crew.llm import ModelRequest
from crew.testing import ScriptedModel
from tests.mcp.places import library, shop


def caller(*calls: ToolCall) -> ScriptedModel:
    """A model that makes these calls, whatever it has answered before, and tells what it read."""

    def reply(request: ModelRequest) -> str | ToolCall:
        results = [message.text for message in request.messages if message.role == "tool"]
        return calls[len(results)] if len(results) < len(calls) else " | ".join(results)

    return ScriptedModel(reply)


def desk(tools: Sequence[MCP], *calls: ToolCall):
    """A workflow of one agent, and a question before its last word."""
    agent = Agent("clerk", model=caller(*calls), tools=tools)

    @workflow(name="desk")
    async def flow(ctx: Context, text: str) -> str:
        return (await ctx.run(agent, text)).output

    return flow


def holding(name: str, effect: str):
    """A workflow whose second tool never comes back when it is called for the first time."""
    open_server, first = {
        "shop": (shop, ToolCall("search", {"query": "tea"})),
        "library": (library, ToolCall("find", {"title": "Emma"})),
    }[name]
    server = open_server(effect=effect, env={"ACTS": os.environ["ACTS"]}, timeout=3600)
    return desk([server], first, ToolCall("hold"))


async def main(url: str, name: str, effect: str) -> None:
    flow = holding(name, effect)
    async with Runtime(url, workflows=[flow]) as runtime:
        run = await runtime.start(flow, "hello", key="only")
        await run.result()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
