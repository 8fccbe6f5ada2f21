"""A new act stands behind those on record that the code may still ask for."""

import asyncio

import pytest

from crew import Agent, Context, Runtime, StoreError, tool, workflow
from crew.journal import PARKED
from crew.journal.memory import MemoryStore
from crew.testing import CrashingStore, ScriptedModel, ToolCall

SECONDS = 20


class Life:
    """What happens in one life of a process, and what is different in the next."""

    def __init__(self) -> None:
        self.entered = 0
        self.acts: list[str] = []
        self.store = CrashingStore(MemoryStore(), after=1000)

    def begin(self) -> bool:
        """Return whether the code is entered for the first time."""
        self.entered += 1
        return self.entered == 1

    async def act(self, text: str) -> str:
        self.acts.append(text)
        return text

    async def crash(self) -> str:
        while any(event.kind.endswith(".started") for event in self.store.events(1)[-1:]):
            await asyncio.sleep(0.01)  # what came before is on disk
        self.store.is_down = True
        return "lost"


async def in_two_lives(life: Life, flow) -> str:
    async with Runtime(life.store, workflows=[flow]) as runtime, asyncio.timeout(SECONDS):
        run = await runtime.start(flow)
        with pytest.raises(StoreError):
            await run.result()
    life.store.restart(after=1000)
    life.store._store.forget_owners()
    async with Runtime(life.store, workflows=[flow]) as runtime, asyncio.timeout(SECONDS):
        return await (await runtime.get(run.id)).result()


async def test_a_new_act_waits_for_one_on_record_that_is_asked_for_later():
    life = Life()

    @workflow
    async def flow(ctx: Context) -> str:
        is_first = life.begin()

        async def slow() -> str:
            await asyncio.sleep(0 if is_first else 0.2)
            return await ctx.effect(life.act, "old", key="old")

        old = asyncio.create_task(slow())
        if is_first:
            await old
            await ctx.run(life.crash)
        return f"{await ctx.effect(life.act, 'new', key='new')} behind {await old}"

    assert await in_two_lives(life, flow) == "new behind old"
    assert life.acts == ["old", "new"]


async def test_an_act_on_record_that_is_in_another_place_now_is_acted_once():
    life = Life()

    @tool(effect="once")
    async def pay(amount: int) -> str:
        """Pay an amount."""
        return await life.act(f"paid {amount}")

    model = ScriptedModel([ToolCall("pay", {"amount": 3}), "done"])
    agent = Agent("payer", model=model, tools=[pay])

    @workflow
    async def flow(ctx: Context) -> str:
        is_first = life.begin()
        found = (await ctx.run(agent, "pay 3")).output
        if is_first:
            await ctx.run(life.crash)
        return f"{found}, {await ctx.effect(life.act, 'told', key='told')}"

    assert await in_two_lives(life, flow) == "done, told"
    assert life.acts == ["paid 3", "told"]


@pytest.mark.parametrize("how", ["function", "value"])
async def test_a_call_beside_a_renamed_act_is_left_to_the_code_that_can_go_on(how):
    life = Life()

    def release(key: str):
        @workflow(name="deployed")
        async def flow(ctx: Context) -> str:
            old = asyncio.create_task(ctx.effect(life.act, "old", key=key))
            if life.begin():
                await old
                await ctx.run(life.crash)
            beside = ctx.run(life.act, "beside") if how == "function" else ctx.now()
            await asyncio.gather(old, beside)
            return "done"

        return flow

    async with Runtime(life.store, workflows=[release("old")]) as runtime:
        run = await runtime.start(release("old"))
        with pytest.raises(StoreError):
            await run.result()
    life.store.restart(after=1000)
    life.store._store.forget_owners()
    async with Runtime(life.store, workflows=[release("new")]) as runtime:
        parked = await runtime.get(run.id)
        async with asyncio.timeout(SECONDS):
            while life.store.run(run.id).owner != PARKED:
                await asyncio.sleep(0.01)
        events = [event.path for event in await parked.recorded()]
    assert not [path for path in events if path.endswith(("/act", "/now"))]
    async with Runtime(life.store, workflows=[release("old")]) as runtime:
        async with asyncio.timeout(SECONDS):
            assert await (await runtime.resume(run.id)).result() == "done"
    assert life.acts.count("old") == 1
