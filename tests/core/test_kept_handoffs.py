"""A conversation that was handed on stays with that agent in the turns that follow."""

import asyncio
import contextlib
from collections import Counter
from typing import Any

import pytest
from pydantic import BaseModel

from crew import Agent, Context, Runtime, ToolCall, tool, workflow
from crew.errors import StoreError
from crew.journal.opening import open_store
from crew.testing import CrashingStore, ScriptedModel, simulate
from tests.core.lives import SECONDS, result, stores

THREAD = "t"


class Bill(BaseModel):
    cents: int


class Office:
    """A desk that hands on to billing, which hands on to refunds, and back to the desk."""

    def __init__(self, *, billing: str = "billing", output: Any = str) -> None:
        self.asked: Counter[str] = Counter()
        self.seen: list[str] = []
        self.output = output
        back = Agent("desk", model=ScriptedModel(lambda request: "the desk again"))
        refunds = Agent("refunds", model=self._model("refunds", {}))
        to = {"refund": "transfer_to_refunds", "back": "transfer_to_desk"}
        billing_agent = Agent(
            billing,
            instructions="You bill.",
            model=self._model(billing, to),
            handoffs=[refunds, back],
            output=output,
            history=True,
        )
        hand = {"bill": f"transfer_to_{billing}", "refund": f"transfer_to_{billing}"}
        self.desk = Agent("desk", model=self._model("desk", hand), handoffs=[billing_agent])

        @workflow(name="office")
        async def office(ctx: Context, text: str) -> str:
            answer = await ctx.run(self.desk, text)
            return f"{answer.agent}: {answer.output}"

        self.flow = office

    def _model(self, name: str, to: dict[str, str]) -> ScriptedModel:
        def reply(request: Any) -> Any:
            asked = next(m.text for m in reversed(request.messages) if m.role == "user")
            self.asked[f"{name}: {asked}"] += 1
            self.seen = [message.text for message in request.messages]
            word = next((word for word in to if word in asked), "")
            if word:
                return ToolCall(to[word])
            if name == "billing" and self.output is not str:
                return ToolCall("final_answer", {"cents": 100})
            return f"{name} on {asked}"

        return ScriptedModel(reply)


async def turns(runtime: Any, flow: Any, *texts: str) -> list[str]:
    return [await result(await runtime.start(flow, text, thread=THREAD)) for text in texts]


async def test_the_next_turn_begins_with_the_agent_that_has_it(runtime):
    office = Office()
    assert await turns(runtime, office.flow, "hi", "bill me") == [
        "desk: desk on hi",
        "billing: billing on bill me",
    ]
    office.asked.clear()
    assert await turns(runtime, office.flow, "more") == ["billing: billing on more"]
    assert office.asked == {"billing: more": 1}
    assert office.seen[0] == "You bill."
    assert office.seen[-3:] == ["bill me", "billing: billing on bill me", "more"]


async def test_other_conversations_begin_where_they_did(runtime):
    office = Office()
    await turns(runtime, office.flow, "bill me")
    other = await runtime.start(office.flow, "hi", thread="other")
    alone = await runtime.start(office.flow, "hi")
    assert [await result(other), await result(alone)] == ["desk: desk on hi"] * 2


async def test_it_may_go_further_and_back(memory):
    office = Office()
    assert await turns(memory, office.flow, "refund", "hello", "back") == [
        "refunds: refunds on refund",
        "refunds: refunds on hello",
        "refunds: refunds on back",
    ]
    office = Office()
    async with Runtime(":memory:") as runtime:
        assert await turns(runtime, office.flow, "bill", "back", "hi") == [
            "billing: billing on bill",
            "desk: the desk again",
            "desk: desk on hi",
        ]
        assert dict((await runtime.thread(THREAD)).state) == {}


async def test_its_answer_is_of_its_own_type(memory):
    office = Office(output=Bill)
    answers = await turns(memory, office.flow, "bill me", "again")
    assert answers == ["billing: cents=100"] * 2


async def test_one_that_is_no_more_has_it_no_longer(tmp_path):
    url = f"sqlite:///{tmp_path}/runs.db"
    async with Runtime(url) as runtime:
        await turns(runtime, Office().flow, "bill me")
    async with Runtime(url) as runtime:
        renamed = Office(billing="accounts")
        assert await turns(runtime, renamed.flow, "hi", "bill me", "more") == [
            "desk: desk on hi",
            "accounts: accounts on bill me",
            "accounts: accounts on more",
        ]


async def test_a_turn_that_fails_hands_nothing_on(memory):
    office = Office()

    @workflow(name="fails")
    async def fails(ctx: Context, text: str) -> str:
        answer = await ctx.run(office.desk, text)
        if text == "bill, and fail":
            raise ValueError(text)
        return answer.agent

    run = await memory.start(fails, "bill, and fail", thread=THREAD)
    with pytest.raises(Exception, match="bill, and fail"):
        await result(run)
    assert await turns(memory, fails, "hi") == ["desk"]


async def test_what_is_asked_beside_the_conversation_does_not_follow_it(memory):
    office = Office()

    @tool
    async def asks(ctx: Context) -> str:
        """Ask the desk."""
        return (await ctx.run(office.desk, "from a tool")).agent

    def lead(request: Any) -> Any:
        if request.messages[-1].role == "tool":
            return " ".join(m.text for m in request.messages if m.role == "tool")
        return [ToolCall("asks"), ToolCall("desk", {"text": "as a tool"})]

    boss = Agent("boss", tools=[asks, office.desk], model=ScriptedModel(lead))

    @workflow(name="flow")
    async def flow(ctx: Context, text: str) -> list[str]:
        first = await ctx.run(office.desk, text)
        given = await ctx.run(office.desk, "with messages", messages=first.messages[:0])
        items = await ctx.map(office.desk, ["an item"])
        led = (await ctx.run(boss, text)).output
        again = await ctx.run(office.desk, "again")
        return [first.agent, given.agent, items[0].agent, led, again.agent]

    expected = ["billing", "desk", "desk", "desk desk on as a tool", "billing"]
    assert await turns(memory, flow, "bill") == [expected]
    assert await turns(memory, flow, "more") == [expected]


async def test_a_replay_and_a_fork_go_as_the_run_did(runtime):
    office = Office()
    runs = [
        await runtime.start(office.flow, text, thread=THREAD) for text in ("bill", "more", "back")
    ]
    lived = [await result(run) for run in runs]
    for run, output in zip(runs, lived, strict=True):
        assert await result(await runtime.replay(run.id)) == output
        assert await result(await runtime.fork(run.id)) == output


async def crashed(url: str, after: int) -> None:
    """Crash the second of three turns after so many events; ask for the third."""
    office = Office()
    kept = open_store(url)
    try:
        async with Runtime(kept, workflows=[office.flow]) as runtime:
            await turns(runtime, office.flow, "bill")
        store = CrashingStore(kept, after=after)
        async with Runtime(store, workflows=[office.flow]) as runtime:
            with contextlib.suppress(StoreError):
                run = await runtime.start(office.flow, "refund", key="one", thread=THREAD)
                async with asyncio.timeout(SECONDS):
                    while not store.is_down and await run.status() == "running":
                        await asyncio.sleep(0.002)
        async with Runtime(kept, workflows=[office.flow]) as runtime:
            run = await runtime.start(office.flow, "refund", key="one", thread=THREAD)
            assert await result(run) == "refunds: refunds on refund"
            assert await turns(runtime, office.flow, "more") == ["refunds: refunds on more"]
            assert await result(await runtime.replay(run.id)) == "refunds: refunds on refund"
    finally:
        with contextlib.suppress(StoreError):
            kept.close()
    assert office.asked["desk: refund"] == 0
    assert office.asked["billing: refund"] + office.asked["refunds: refund"] <= 3


@pytest.mark.parametrize("after", range(2, 22))
async def test_a_crash_anywhere_changes_nothing_of_who_has_it(tmp_path, after):
    await crashed(f"sqlite:///{tmp_path}/runs.db", after)


@pytest.mark.parametrize("url", ["postgres"], indirect=True)
@pytest.mark.parametrize("after", [6, 12])
async def test_nor_does_one_on_postgresql(url, after):
    await crashed(url, after)


class Waiting:
    """A desk and billing, either of which waits for a person in its second turn."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        first = Office().desk
        self.front = self._agent("desk", self._agent("billing"))
        self.alone = self._agent("desk")

        @workflow(name="office")
        async def flow(ctx: Context, text: str) -> str:
            answer = await ctx.run(first if text == "bill" else self.front, text)
            return f"{answer.agent}: {answer.output}"

        self.flow = flow

    def _agent(self, name: str, *handoffs: Agent) -> Agent:
        @tool
        async def wait(ctx: Context) -> str:
            """Wait for a person."""
            return str(await ctx.ask(bool, "go?", key="go"))

        def reply(request: Any) -> Any:
            self.asked.append(name)
            return f"{name} says" if request.messages[-1].role == "tool" else ToolCall("wait")

        return Agent(name, tools=[wait], handoffs=handoffs, model=ScriptedModel(reply))

    async def left(self, url: str) -> str:
        """Leave the second turn while it waits; return its id."""
        async with Runtime(url, workflows=[self.flow]) as runtime:
            await turns(runtime, self.flow, "bill")
            run = await runtime.start(self.flow, "wait", thread=THREAD)
            async with asyncio.timeout(SECONDS):
                while not await run.questions():
                    await asyncio.sleep(0.01)
            return run.id


@stores
async def test_a_turn_goes_on_with_who_had_it_when_it_began(url):
    office = Waiting()
    run_id = await office.left(url)
    async with Runtime(url, workflows=[office.flow]) as runtime:
        run = await runtime.get(run_id)
        await run.answer("go", True)
        assert await result(run) == "billing: billing says"
    assert set(office.asked) == {"billing"}


async def test_a_turn_that_was_begun_by_one_that_is_no_more_waits_for_somebody(url):
    office = Waiting()
    run_id = await office.left(url)
    office.front = office.alone
    async with Runtime(url, workflows=[office.flow]) as runtime:
        run = await runtime.get(run_id)
        await run.answer("go", True)
        async with asyncio.timeout(SECONDS):
            while (await run.recorded())[-1].kind != "run.parked":
                await asyncio.sleep(0.01)
        parked = (await run.recorded())[-1].data
    assert parked["recorded"] == "agent 'billing' at work"
    assert "does not hand on to that one" in parked["asked"]


def test_it_survives_a_simulation():
    office = Office()

    @workflow(name="twice")
    async def twice(ctx: Context, text: str) -> list[str]:
        return [(await ctx.run(office.desk, each)).agent for each in ("hi", text, "more", "back")]

    assert simulate(twice, "bill", seeds=15).output == ["desk", "billing", "billing", "desk"]
