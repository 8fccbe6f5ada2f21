"""Tools of an MCP server, called by an agent in a Ray host, which may die meanwhile."""

import asyncio
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from crew import Agent, Context, Runtime, ToolCall, workflow
from crew.hosts.cluster import quiet_cluster
from tests.hosts.victims import host
from tests.mcp.flows import caller
from tests.mcp.places import library

pytestmark = [
    pytest.mark.ray,
    pytest.mark.slow,
    pytest.mark.xdist_group("ray"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning"),
    pytest.mark.timeout(180),
]
SECONDS = 120.0


@pytest.fixture(scope="module")
def cluster():
    with quiet_cluster() as address:
        yield address


def flow_of(acts: Path, name: str, effect: Any) -> Any:
    """Return a workflow whose agent finds a book, and holds one: for ever, when it is first."""
    server = library(effect=effect, env={"ACTS": str(acts)}, timeout=3600)
    model = caller(ToolCall("find", {"title": "Emma"}), ToolCall("hold"))
    agent = Agent("clerk", model=model, tools=[server])

    @workflow(name=name)
    async def flow(ctx: Context, text: str) -> str:
        return (await ctx.run(agent, text)).output

    return flow


@pytest.mark.parametrize(
    ("effect", "status", "made"),
    [
        ("idempotent", "completed", ["find", "hold", "hold"]),
        ("once", "failed", ["find", "hold"]),
    ],
)
async def test_host_that_dies_with_a_tool_in_flight(cluster, tmp_path, effect, status, made):
    acts = tmp_path / "acts.txt"
    acts.touch()
    name = f"books{uuid4().hex[:8]}"  # the cluster holds hosts of other tests, too
    flow = flow_of(acts, name, effect)
    async with (
        asyncio.timeout(SECONDS),
        Runtime(f"sqlite:///{tmp_path}/r.db", agents="ray") as runtime,
    ):
        run = await runtime.start(flow, "go")
        while "hold" not in acts.read_text():
            await asyncio.sleep(0.05)
        (await host("agent", name)).kill()
        while (came_to := await run.status()) not in ("completed", "failed"):
            await asyncio.sleep(0.05)
        events = await run.recorded()

    told = [event.data["text"] for event in events if event.kind == "progress.made"]
    assert told[0] == "find: 1"
    assert came_to == status
    assert acts.read_text().split() == made
