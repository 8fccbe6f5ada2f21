"""Agents in Ray hosts enter tools that hold the run, which are called where the run is driven."""

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest

from crew import Agent, Context, File, Image, Run, Runtime, ToolCall, tool, workflow
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


@pytest.fixture(params=["", "none"], ids=["over links", "by calls of actors"])
async def runtime(cluster, request, tmp_path, monkeypatch):
    monkeypatch.setenv("CREW_LINK_PORTS", request.param)
    async with Runtime(f"sqlite:///{tmp_path}/runs.db", agents="ray") as runtime:
        yield runtime
    end_all()


class Noted:
    """What happened outside the processes, line by line."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def add(self, line: str) -> str:
        with Path(self.path).open("a", encoding="utf-8") as file:
            file.write(f"{line}\n")
        return line

    def lines(self, begin: str = "") -> list[str]:
        lines = Path(self.path).read_text("utf-8").splitlines()
        return [line for line in lines if line.startswith(begin)]


def desk(noted: Noted) -> Workflow:
    """A boss who asks a searcher, and lets a person decide about an act."""

    def search(request: Any) -> Any:
        noted.add(f"model searcher {len(request.messages)}")
        return "found it"

    def lead(request: Any) -> Any:
        noted.add(f"model boss {len(request.messages)}")
        if request.messages[-1].role == "tool":
            return " | ".join(message.text for message in request.messages[-2:])
        return [ToolCall("searcher", {"text": "who?"}), ToolCall("settle", {"order": "a1"})]

    def refund(order: str, idempotency_key: str) -> str:
        return noted.add(f"refund {order}")

    @tool
    async def settle(ctx: Context, order: str) -> str:
        """Settle an order."""
        noted.add(f"entered {os.getpid()}")
        if not await ctx.ask(bool, f"Refund {order}?", key="go"):
            return "refused"
        await ctx.sleep(0.01)
        return await ctx.effect(refund, order, unknown="retry")

    searcher = Agent("searcher", model=ScriptedModel(search))
    boss = Agent("boss", model=ScriptedModel(lead), tools=[searcher, settle])

    @workflow(name="desk")
    async def flow(ctx: Context, text: str) -> list[str]:
        noted.add(f"step {os.getpid()}")
        return [(await ctx.run(boss, text)).output, str(os.getpid())]

    return flow


async def asked(run: Run) -> None:
    async with asyncio.timeout(60):
        while not await run.questions():
            await asyncio.sleep(0.05)


def counted_once(noted: Noted) -> None:
    models = noted.lines("model")
    assert sorted(models) == ["model boss 1", "model boss 4", "model searcher 1"]
    assert noted.lines("refund") == ["refund a1"]


async def test_they_are_called_in_the_process_of_the_step(runtime, tmp_path):
    noted = Noted(tmp_path / "noted")
    run = await runtime.start(desk(noted), "go")
    await asked(run)
    await run.answer("go", True)
    text, step = await run.result()
    assert text == "found it | refund a1"
    assert {line.split()[1] for line in noted.lines("entered")} == {step}
    agents = {event.data["pid"] async for event in run.events() if event.kind == "agent.started"}
    assert len(agents | {int(step), os.getpid()}) == 4
    counted_once(noted)


@pytest.mark.parametrize("kind", ["agent", "run"])
async def test_a_killed_host_repeats_no_call_and_no_act(runtime, tmp_path, kind):
    noted = Noted(tmp_path / "noted")
    run = await runtime.start(desk(noted), "go")
    await asked(run)
    victim = await host("run", "desk") if kind == "run" else await host("agent", "desk@1:boss")
    victim.kill()
    await asyncio.sleep(0.5)
    await run.answer("go", True)
    async with asyncio.timeout(120):
        text, _ = await run.result()
    assert text == "found it | refund a1"
    counted_once(noted)


async def test_images_go_to_agents_and_come_from_tools_in_their_hosts(runtime):
    picture = Image(b"\xff\x00" * 100_000, "image/png")

    def seen(request: Any) -> Any:
        parts = [part for message in request.messages for part in message.parts]
        shown = "; ".join(part if isinstance(part, str) else str(len(part.data)) for part in parts)
        return shown if request.messages[-1].role == "tool" else ToolCall("draw")

    @tool(effect="read")
    def draw() -> list[str | Image]:
        """Draw."""
        return ["drawn", picture]

    eye = Agent("eye", model=ScriptedModel(seen), tools=[draw])

    @workflow(name="eye")
    async def flow(ctx: Context, text: str) -> str:
        done = await ctx.run(eye, [text, picture, File("a.txt", b"a")])
        return f"{done.output} {done.messages[0].parts[1] == picture}"

    run = await runtime.start(flow, "look")
    async with asyncio.timeout(120):
        assert await run.result() == "look; 200000; 1; drawn; 200000 True"
