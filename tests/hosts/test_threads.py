"""What a thread keeps, who has its conversation, and instructions: with agents in Ray hosts."""

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest

from crew import Agent, Budget, Context, Runtime, ToolCall, tool, workflow
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


@pytest.fixture
async def runtime(cluster, tmp_path):
    async with Runtime(f"sqlite:///{tmp_path}/runs.db", agents="ray") as runtime:
        yield runtime
    end_all()


def shop(noted: Path) -> Workflow:
    """A desk that hands on to billing, which fills a cart once a person has agreed."""
    file = str(noted)

    def note(line: str) -> None:
        with Path(file).open("a", encoding="utf-8") as lines:
            lines.write(f"{line}\n")

    def written(ctx: Context) -> str:
        note(f"written {os.getpid()}")
        return f"You bill {ctx.thread.state.get('name', 'nobody')}."

    @tool
    async def add(ctx: Context, item: str) -> str:
        """Put something into the cart."""
        ctx.thread.state.setdefault("cart", []).append(item)
        left = await ctx.budget_left()
        await ctx.ask(bool, "Really?", key="go")
        ctx.thread.state["last"] = item
        return f"{len(ctx.thread.state['cart'])} in the cart, {left.calls} calls left"

    def bill(request: Any) -> Any:
        last = request.messages[-1]
        if last.text == "The conversation goes on there.":
            return f"{request.messages[0].text} Hello."
        return last.text if last.role == "tool" else ToolCall("add", {"item": last.text})

    billing = Agent("billing", instructions=written, tools=[add], model=ScriptedModel(bill))
    desk = Agent(
        "desk",
        handoffs=[billing],
        model=ScriptedModel(lambda request: ToolCall("transfer_to_billing")),
    )

    @workflow(name="shop")
    async def flow(ctx: Context, text: str) -> str:
        answer = await ctx.run(desk, text)
        ctx.thread.state["name"] = "eva"
        return f"{answer.agent}: {answer.output}"

    return flow


@pytest.mark.parametrize("kind", ["agent", "run"])
async def test_a_turn_keeps_it_over_the_death_of_a_host(runtime, tmp_path, kind):
    noted = tmp_path / "noted"
    flow = shop(noted)
    first = await runtime.start(flow, "hi", thread="t")
    async with asyncio.timeout(120):
        assert await first.result() == "billing: You bill nobody. Hello."
    run = await runtime.start(flow, "tea", thread="t", budget=Budget(calls=5))
    async with asyncio.timeout(60):
        while not await run.questions():
            await asyncio.sleep(0.05)
    victim = await host("run", "shop") if kind == "run" else await host("agent", "shop@1:billing")
    victim.kill()
    await asyncio.sleep(0.5)
    await run.answer("go", True)
    async with asyncio.timeout(120):
        assert await run.result() == "billing: 1 in the cart, 4 calls left"
    state = dict((await runtime.thread("t")).state)
    assert state == {"name": "eva", "cart": ["tea"], "last": "tea"}
    starts = [event.data async for event in run.events() if event.kind == "model.started"]
    assert starts[0]["messages"][0]["text"] == "You bill eva."
    assert len(noted.read_text("utf-8").splitlines()) == 2  # once in each turn
