"""New code acts on nothing while an act of the old code is on record that it does not ask for."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest

from crew import Agent, Context, Graph, Runtime, tool, workflow
from crew.errors import AskError
from crew.testing import ScriptedModel, ToolCall
from tests.core.flows import Done
from tests.core.lives import SECONDS, left_waiting, result, stores

ENDS = ("run.parked", "run.completed", "run.failed")
DID: list[str] = []


@pytest.fixture(autouse=True)
def nothing_done():
    DID.clear()


async def charge(item: int) -> int:
    DID.append("charge")
    return item


async def charge_card(item: int) -> int:
    DID.append("charge_card")
    return item


def charge_in_thread(item: int) -> int:
    DID.append("charge_in_thread")
    return item


@workflow
async def paying(ctx: Context, item: int) -> int:
    return await ctx.effect(charge, item)


@workflow
async def paying_by_card(ctx: Context, item: int) -> int:
    return await ctx.effect(charge_card, item)


@tool(effect="once")
async def transfer(q: str) -> str:
    """Transfer."""
    DID.append("transfer")
    return q


def agent(name: str) -> Agent:
    """Return an agent that transfers, and whose tool then waits for what never comes."""

    @tool(effect="read")
    async def wait(q: str) -> str:
        """Wait."""
        await asyncio.sleep(SECONDS)
        return q

    def says(request: Any) -> Any:
        return ToolCall("transfer" if request.messages[-1].role == "user" else "wait", {"q": ""})

    return Agent(name, tools=[transfer, wait], model=ScriptedModel(says))


async def asked(ctx: Context) -> None:
    await ctx.ask(bool, "go?", key="go")


async def in_flight(ctx: Context, work: Any) -> None:
    """Ask within the call, so that its own end is not on record."""

    async def within(ctx: Context) -> None:
        await work(ctx)
        await asked(ctx)

    await ctx.run(within, ctx)


async def in_flight_renamed(ctx: Context, work: Any) -> None:
    async def inside(ctx: Context) -> None:
        await work(ctx)
        await asked(ctx)

    await ctx.run(inside, ctx)


async def beside(ctx: Context, work: Any) -> None:
    async def pays() -> None:
        await work(ctx)

    await asyncio.gather(pays(), asked(ctx))


async def beside_renamed(ctx: Context, work: Any) -> None:
    async def settles() -> None:
        await work(ctx)

    await asyncio.gather(settles(), asked(ctx))


async def mapped(ctx: Context) -> None:
    async def one(item: int) -> int:
        return await ctx.effect(charge, item)

    await ctx.map(one, [1])


def then_asked(work: Any) -> Any:
    async def code(ctx: Context) -> None:
        await work(ctx)
        await asked(ctx)

    return code


CHANGES = {
    "an effect is renamed, in a thread": (
        then_asked(lambda ctx: ctx.effect(charge, 1)),
        then_asked(lambda ctx: ctx.effect(charge_in_thread, 1)),
    ),
    "a key is renamed": (
        then_asked(lambda ctx: ctx.effect(charge, 1, key="pay")),
        then_asked(lambda ctx: ctx.effect(charge, 1, key="payment")),
    ),
    "a key is given": (
        then_asked(lambda ctx: ctx.effect(charge, 1)),
        then_asked(lambda ctx: ctx.effect(charge, 1, key="payment")),
    ),
    "a child is renamed": (
        then_asked(lambda ctx: ctx.run(paying, 1)),
        then_asked(lambda ctx: ctx.run(paying_by_card, 1)),
    ),
    "a function around an effect in flight is renamed": (
        lambda ctx: in_flight(ctx, lambda ctx: ctx.effect(charge, 1)),
        lambda ctx: in_flight_renamed(ctx, lambda ctx: ctx.effect(charge, 1)),
    ),
    "an effect moves out of a function in flight": (
        lambda ctx: in_flight(ctx, lambda ctx: ctx.effect(charge, 1)),
        then_asked(lambda ctx: ctx.effect(charge, 1)),
    ),
    "a task of an effect is renamed": (
        lambda ctx: beside(ctx, lambda ctx: ctx.effect(charge, 1)),
        lambda ctx: beside_renamed(ctx, lambda ctx: ctx.effect(charge, 1)),
    ),
    "an effect becomes a child": (
        then_asked(lambda ctx: ctx.effect(charge, 1)),
        then_asked(lambda ctx: ctx.run(paying, 1)),
    ),
    "an effect moves into a map": (
        then_asked(lambda ctx: ctx.effect(charge, 1)),
        then_asked(mapped),
    ),
}


def flow(code: Any) -> Any:
    @workflow(name="shop")
    async def shop(ctx: Context, value: int) -> int:
        await code(ctx)
        return 1

    return shop


def graph(node: str, code: Any) -> Graph:
    shop = Graph("shop", input=int, output=Done)

    async def pays(ctx: Context, value: int) -> Done:
        await code(ctx)
        return Done(n=1)

    shop.node(name=node)(pays)
    return shop


@contextlib.asynccontextmanager
async def answering(run: Any) -> AsyncIterator[None]:
    """Say yes to whatever is asked, unless that was said before."""

    async def answer() -> None:
        while not [question for question in await run.questions() if question.key == "go"]:
            await asyncio.sleep(0.01)
        with contextlib.suppress(AskError):
            await run.answer("go", True)

    task = asyncio.ensure_future(answer())
    try:
        yield
    finally:
        # It waits until the answer is recorded, which a parked run does not do.
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def met_by(url: str, new: Any, run: str) -> Any:
    """Return the last event of a run that new code has come to the end of, or was refused."""
    async with Runtime(url, workflows=[new, paying, paying_by_card]) as runtime:
        found = await runtime.get(run)
        async with asyncio.timeout(SECONDS), answering(found):
            while (last := (await found.recorded())[-1]).kind not in ENDS:
                await asyncio.sleep(0.01)
        return last


async def finished_by(url: str, old: Any, run: str) -> Any:
    async with Runtime(url, workflows=[old, paying, paying_by_card]) as runtime:
        found = await runtime.resume(run)
        async with answering(found):
            return await result(found)


@stores
@pytest.mark.parametrize("change", CHANGES)
async def test_new_code_acts_on_nothing_behind_an_act_that_it_forgot(change, url):
    old, new = map(flow, CHANGES[change])
    run = await left_waiting(url, old, paying, paying_by_card)
    last = await met_by(url, new, run)
    assert (last.kind, len(DID)) == ("run.parked", 1)
    assert all(word in last.data["detail"] for word in ("the journal holds", "instead"))
    assert await finished_by(url, old, run) == 1
    assert len(DID) == 1


NODES = {
    "effect by its position": then_asked(lambda ctx: ctx.effect(charge, 1)),
    "effect in a function in flight": lambda ctx: in_flight(ctx, lambda ctx: ctx.effect(charge, 1)),
    "effect in a task": lambda ctx: beside(ctx, lambda ctx: ctx.effect(charge, 1)),
    "effect in a map": then_asked(mapped),
    "child": then_asked(lambda ctx: ctx.run(paying, 1)),
}


@stores
@pytest.mark.parametrize("what", NODES)
async def test_a_node_that_acted_is_not_renamed_without_a_word(what, url):
    old, new = graph("pay", NODES[what]), graph("settle", NODES[what])
    run = await left_waiting(url, old, paying)
    last = await met_by(url, new, run)
    assert (last.kind, len(DID)) == ("run.parked", 1)
    assert all(word in last.data["detail"] for word in ("pay[0]", "settle"))
    assert await finished_by(url, old, run) == Done(n=1)
    assert len(DID) == 1


@stores
@pytest.mark.parametrize("renamed", ["agent", "node"])
async def test_an_agent_in_flight_that_acted_is_not_renamed_without_a_word(renamed, url):
    def made(node: str, name: str) -> Graph:
        return graph(node, lambda ctx: ctx.run(agent(name), "?"))

    old = made("pay", "payer")
    new = made("pay", "teller") if renamed == "agent" else made("settle", "payer")
    async with Runtime(url, workflows=[old]) as runtime:
        run = await runtime.start(old, 0)
        async with asyncio.timeout(SECONDS):
            while "wait" not in str((await run.recorded())[-1].data):
                await asyncio.sleep(0.01)
    last = await met_by(url, new, run.id)
    assert (last.kind, DID) == ("run.parked", ["transfer"])


async def gives_up(ctx: Context) -> None:
    """Cancel a renamed act in its wait, while another task is at work."""
    working = asyncio.create_task(asyncio.sleep(SECONDS))
    renamed = asyncio.create_task(ctx.effect(charge_card, 1))
    await asyncio.wait([renamed], timeout=0.1)
    renamed.cancel()
    await asyncio.wait([renamed])
    working.cancel()


@stores
async def test_a_renamed_act_that_is_cancelled_in_its_wait_parks_the_run(url):
    old, new = flow(then_asked(lambda ctx: ctx.effect(charge, 1))), flow(gives_up)
    run = await left_waiting(url, old)
    last = await met_by(url, new, run)
    assert (last.kind, DID) == ("run.parked", ["charge"])
    assert await finished_by(url, old, run) == 1
    assert DID == ["charge"]


thinker = Agent("thinker", model=ScriptedModel(lambda request: "thought"))
BEHIND = {
    "agent": lambda ctx, said: ctx.run(thinker, said),
    "agents": lambda ctx, said: ctx.map(thinker, [said, said]),
    "agent with a time": lambda ctx, said: ctx.run(thinker, said, timeout=SECONDS),
    "function": lambda ctx, said: ctx.run(str.upper, said),
    "question": lambda ctx, said: ctx.ask(bool, f"{said}?", key="then"),
}


@stores
@pytest.mark.parametrize("behind", BEHIND)
async def test_what_comes_behind_a_renamed_act_that_was_cancelled_is_not_recorded(behind, url):
    async def paid(ctx: Context) -> None:
        await ctx.effect(charge, 1)
        await asked(ctx)
        if behind != "question":
            await BEHIND[behind](ctx, "paid")

    async def goes_on(ctx: Context) -> None:
        await gives_up(ctx)
        await BEHIND[behind](ctx, "not paid")

    old, new = flow(paid), flow(goes_on)
    run = await left_waiting(url, old)
    last = await met_by(url, new, run)
    assert (last.kind, DID) == ("run.parked", ["charge"])
    async with Runtime(url, worker=False) as runtime:
        events = await (await runtime.get(run)).recorded()
        assert not any("not paid" in str(event.data) for event in events)
    assert await finished_by(url, old, run) == 1
    assert DID == ["charge"]


@stores
@pytest.mark.parametrize("behind", BEHIND)
async def test_what_comes_beside_a_renamed_act_that_still_waits_is_not_recorded(behind, url):
    async def paid(ctx: Context) -> None:
        await ctx.effect(charge, 1)
        await asked(ctx)

    async def goes_on(ctx: Context) -> None:
        working = asyncio.create_task(asyncio.sleep(SECONDS))
        renamed = asyncio.create_task(ctx.effect(charge_card, 1))
        await asyncio.sleep(0.1)
        await BEHIND[behind](ctx, "not paid")
        await asyncio.wait([renamed, working])

    old, new = flow(paid), flow(goes_on)
    run = await left_waiting(url, old)
    last = await met_by(url, new, run)
    assert (last.kind, DID) == ("run.parked", ["charge"])
    async with Runtime(url, worker=False) as runtime:
        events = await (await runtime.get(run)).recorded()
        assert not any("not paid" in str(event.data).lower() for event in events)
    assert await finished_by(url, old, run) == 1
    assert DID == ["charge"]
