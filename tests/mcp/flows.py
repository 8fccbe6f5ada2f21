"""Workflows with an agent that calls tools of servers, as a process that is killed runs them."""

import asyncio
import os
import sys
from collections.abc import Sequence

from crew import MCP, Agent, Context, Runtime, ToolCall, workflow
from crew.llm import ModelRequest
from crew.testing import ScriptedModel
from tests.mcp.places import shop


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


def holding(effect: str):
    """A workflow whose tool is in flight for an hour when it is called for the first time."""
    server = shop(effect=effect, env={"ACTS": os.environ["ACTS"]})
    return desk([server], ToolCall("search", {"query": "tea"}), ToolCall("hold"))


async def main(url: str, effect: str) -> None:
    flow = holding(effect)
    async with Runtime(url, workflows=[flow]) as runtime:
        run = await runtime.start(flow, "hello", key="only")
        await run.result()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
