"""Earlier turns and notes: with agents in Ray hosts, over the death of one."""

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

from crew import Agent, Context, History, Runtime, ToolCall, tool, workflow
from crew.graph import Workflow
from crew.hosts.cluster import quiet_cluster
from crew.testing import ScriptedModel
from tests.hosts.victims import end_all, host

pytestmark = [
    pytest.mark.ray,
    pytest.mark.slow,
    pytest.mark.xdist_group("ray"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning"),
    pytest.mark.timeout(300),
]


@pytest.fixture(scope="module")
def cluster():
    with quiet_cluster() as address:
        yield address


def talk(noted: Path, held: Path) -> Workflow:
    """A desk that sees two turns and a summary of those before, and notes what it is told."""
    file, hold = str(noted), str(held)

    def summarise(request: Any) -> str:
        with Path(file).open("a", encoding="utf-8") as lines:
            lines.write("summary\n")
        while Path(hold).exists():
            time.sleep(0.05)
        return "They counted sheep."

    @tool
    async def remember(ctx: Context, text: str) -> str:
        """Write something down."""
        await ctx.notes.write(text, scope="agent:desk")
        return str(len(await ctx.notes.search("sheep", scope="agent:desk")))

    def reply(request: Any) -> Any:
        last = request.messages[-1]
        if last.role == "user":
            return ToolCall("remember", {"text": last.text})
        return f"{last.text} noted, {request.messages[0].text}"

    desk = Agent(
        "desk",
        tools=[remember],
        model=ScriptedModel(reply),
        history=History(last=2, summarise_with=ScriptedModel(summarise)),
    )

    @workflow(name="talk")
    async def flow(ctx: Context, text: str) -> str:
        return (await ctx.run(desk, text)).output

    return flow


async def test_a_compaction_and_notes_outlive_the_host_of_an_agent(cluster, tmp_path):
    noted, held = tmp_path / "noted", tmp_path / "held"
    flow = talk(noted, held)
    try:
        async with Runtime(f"sqlite:///{tmp_path}/runs.db", agents="ray") as runtime:
            async with asyncio.timeout(240):
                for number in range(3):
                    run = await runtime.start(flow, f"sheep {number}", thread="t")
                    assert await run.result() == f"{number + 1} noted, sheep 0"
                held.touch()
                run = await runtime.start(flow, "sheep 3", thread="t")
                while not noted.exists():
                    await asyncio.sleep(0.05)
                (await host("agent", "talk@1:desk")).kill()
                held.unlink()
                summary = "[A summary of the first 2 turns of this conversation:]"
                assert await run.result() == f"4 noted, {summary}\nThey counted sheep."
                last = await runtime.start(flow, "sheep 4", thread="t")
                assert await last.result() == f"5 noted, {summary}\nThey counted sheep."
            kinds = [(event.kind, event.path) for event in await run.recorded()]
            assert ("model.completed", "flow[0]/desk/:compaction.0") in kinds
            assert len((await runtime.thread("t")).messages) == 10
    finally:
        end_all()
    assert noted.read_text("utf-8").splitlines() == ["summary"] * 2  # the first was in flight
