"""A person lets a tool of an agent be called that works in a Ray host, which may die meanwhile."""

import asyncio
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from crew import Agent, Context, Runtime, ToolCall, tool, workflow
from crew.hosts.cluster import quiet_cluster
from crew.testing import ScriptedModel
from tests.hosts.victims import host

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


@pytest.fixture(params=["over links", "by calls of actors"])
async def runtime(cluster, tmp_path, request, monkeypatch):
    if request.param == "by calls of actors":
        monkeypatch.setenv("CREW_LINK_PORTS", "none")
    async with Runtime(f"sqlite:///{tmp_path}/runs.db", agents="ray") as runtime:
        yield runtime


def flow_of(done: Path, name: str) -> Any:
    """Return a workflow whose agent refunds and looks at once; what it does is in a file."""

    @tool(effect="once", approve=lambda call: call.cents > 1000, to="manager")
    async def refund(order: str, cents: int) -> str:
        """Refund."""
        with done.open("a") as file:
            file.write(f"{order}\n")
        return f"refunded {order}"

    @tool(effect="read")
    async def look(order: str) -> str:
        """Look."""
        return f"saw {order}"

    def reply(request: Any) -> Any:
        read = [message.text for message in request.messages if message.role == "tool"]
        if read:
            return " | ".join(read)
        asked = {"order": "a", "cents": 5000}
        return [ToolCall("refund", asked), ToolCall("look", {"order": "b"})]

    agent = Agent("support", model=ScriptedModel(reply), tools=[refund, look])

    @workflow(name=name)
    async def flow(ctx: Context, text: str) -> str:
        return (await ctx.run(agent, text)).output

    return flow


async def asked(run: Any) -> None:
    async with asyncio.timeout(SECONDS):
        while not await run.questions() or await run.status() != "waiting":
            await asyncio.sleep(0.05)


async def ended(run: Any) -> tuple[str, list[str]]:
    """Answer; return what came of it, and the calls that were begun."""
    assert [question.to for question in await run.questions()] == ["manager"]
    await run.answer("support/refund.0", True, by="eva")
    async with asyncio.timeout(SECONDS):
        output = await run.result()
    kinds = ("ask.opened", "ask.answered", "tool.started", "model.started")
    found = [event for event in await run.recorded() if event.kind in kinds]
    assert [event.data["by"] for event in found if event.kind == "ask.answered"] == ["eva"]
    return output, [f"{event.kind} {event.path}" for event in found]


@pytest.mark.parametrize("victim", ["", "agent", "run"])
async def test_who_is_asked_answers_once_whichever_host_dies(runtime, tmp_path, victim):
    name = f"approving{uuid4().hex[:8]}"  # the cluster holds hosts of other tests, too
    run = await runtime.start(flow_of(tmp_path / "done", name), "go")
    await asked(run)
    if victim:
        (await host(victim, name)).kill()
    output, begun = await ended(run)
    assert output == "refunded a | saw b"
    assert len(begun) == len(set(begun))
    assert sum(each.startswith("ask.opened") for each in begun) == 1
    assert (tmp_path / "done").read_text() == "a\n"


async def test_a_run_whose_agent_waits_in_its_host_is_let_go_and_asks_no_second_time(
    runtime, tmp_path
):
    run = await runtime.start(flow_of(tmp_path / "done", f"letgo{uuid4().hex[:8]}"), "go")
    await asked(run)
    await asyncio.sleep(3)  # longer than a run that waits lingers; right without it, too
    output, begun = await ended(run)
    assert output == "refunded a | saw b"
    assert len(begun) == len(set(begun))
    takes = [event for event in await run.recorded() if event.kind == "run.taken"]
    assert takes
