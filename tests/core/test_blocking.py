"""Synchronous functions that block hold up nobody but their own runs, however many there are."""

import asyncio
import threading
from typing import Any

import pytest

from crew import Agent, Context, Graph, Runtime, ToolCall, tool, workflow
from crew.testing import ScriptedModel
from tests.core.lives import SECONDS, result

BLOCKED = 40
"""More than asyncio has threads for, on any machine."""


class Blocking:
    """Programs that call a synchronous function, which blocks but for one text."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.end = threading.Event()

    def wait(self, text: str) -> str:
        self.begun.append(text)
        if text != "quick":
            self.end.wait(60)
        return f"{text} done"

    def function(self) -> Any:
        def wait(text: str) -> str:
            return self.wait(text)

        @workflow(name="function")
        async def flow(ctx: Context, text: str) -> str:
            return await ctx.run(wait, text)

        return flow

    def effect(self) -> Any:
        def wait(text: str) -> str:
            return self.wait(text)

        @workflow(name="effect")
        async def flow(ctx: Context, text: str) -> str:
            return await ctx.effect(wait, text)

        return flow

    def mapped(self) -> Any:
        def wait(text: str) -> str:
            return self.wait(text)

        @workflow(name="mapped")
        async def flow(ctx: Context, text: str) -> str:
            return (await ctx.map(wait, [text]))[0]

        return flow

    def node(self) -> Any:
        graph = Graph("node", input=str, output=str)

        @graph.node
        def wait(text: str) -> str:
            return self.wait(text)

        return graph

    def _asking(self, tool_of: Any, **options: Any) -> Any:
        def reply(request: Any) -> Any:
            last = request.messages[-1]
            return last.text if last.role == "tool" else ToolCall("wait", {"text": last.text})

        agent = Agent("agent", model=ScriptedModel(reply), tools=[tool_of], **options)

        @workflow(name="asking")
        async def flow(ctx: Context, text: str) -> str:
            return (await ctx.run(agent, text)).output

        return flow

    def tool(self) -> Any:
        @tool(effect="read")
        def wait(text: str) -> str:
            """Wait."""
            return self.wait(text)

        return self._asking(wait)

    def approval(self) -> Any:
        def is_big(call: Any) -> bool:
            return not self.wait(call.text)

        @tool(approve=is_big)
        async def wait(text: str) -> str:
            """Wait."""
            return f"{text} done"

        return self._asking(wait)

    def check(self) -> Any:
        def is_right(answer: str) -> bool:
            return bool(self.wait(answer.partition(" ")[0]))

        agent = Agent(
            "agent",
            model=ScriptedModel(lambda request: f"{request.messages[-1].text} done"),
            check=is_right,
        )

        @workflow(name="checking")
        async def flow(ctx: Context, text: str) -> str:
            return (await ctx.run(agent, text)).output

        return flow


KINDS = ["function", "effect", "mapped", "node", "tool", "approval", "check"]


@pytest.mark.parametrize("kind", KINDS)
async def test_a_run_comes_to_its_end_while_many_others_block_in_their_functions(kind):
    blocking = Blocking()
    flow = getattr(blocking, kind)()
    async with Runtime(":memory:") as runtime:
        try:
            others = [await runtime.start(flow, f"slow{number}") for number in range(BLOCKED)]
            async with asyncio.timeout(SECONDS):
                while len(blocking.begun) < BLOCKED:
                    await asyncio.sleep(0.01)
            assert await result(await runtime.start(flow, "quick")) == "quick done"
            assert {await other.status() for other in others} == {"running"}
        finally:
            blocking.end.set()
        assert [await result(other) for other in others] == [
            f"slow{number} done" for number in range(BLOCKED)
        ]


async def test_functions_of_another_kind_go_on_too():
    blocking = Blocking()
    slow, quick = blocking.tool(), blocking.effect()
    async with Runtime(":memory:") as runtime:
        try:
            for number in range(BLOCKED):
                await runtime.start(slow, f"slow{number}")
            assert await result(await runtime.start(quick, "quick")) == "quick done"
        finally:
            blocking.end.set()
