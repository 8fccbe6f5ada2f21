"""A model may hand the conversation on to another agent, which goes on with it, and answers."""

import asyncio
import contextlib
from collections import Counter
from typing import Any

import pytest
from pydantic import BaseModel

from crew import Agent, Budget, Context, RunFailed, Runtime, ToolCall, tool, workflow
from crew.errors import GraphError, StoreError
from crew.journal.opening import open_store
from crew.message import Message
from crew.testing import CrashingStore, ScriptedModel
from tests.core.lives import SECONDS, result

EVERYTHING = 10_000


class Bill(BaseModel):
    cents: int


def said(request: Any) -> list[str]:
    return [f"{message.role}: {message.text}" for message in request.messages]


class Desk:
    """A first agent that hands on to one that bills, which asks a tool, and may hand on, too."""

    def __init__(self, *, output: Any = str, further: bool = False) -> None:
        self.asked: Counter[str] = Counter()
        self.seen: dict[str, list[str]] = {}

        @tool(effect="idempotent")
        def price(order: str) -> int:
            """Return what an order costs."""
            self.asked["price"] += 1
            return 100

        seats = Agent("seats", model=ScriptedModel(self._seats))
        billing = Agent(
            "billing",
            instructions="You bill.",
            model=ScriptedModel(self._bill),
            tools=[price],
            handoffs=[seats] if further else (),
            output=output,
        )
        self.further = further
        self.output = output
        self.desk = Agent(
            "desk", instructions="You hand on.", model=ScriptedModel(self._desk), handoffs=[billing]
        )

        @workflow(name="desk")
        async def flow(ctx: Context, text: str) -> list[Any]:
            answer = await ctx.run(self.desk, text)
            output = answer.output
            if isinstance(output, Bill):
                output = output.model_dump()
            return [output, answer.agent, len(answer.messages), answer.usage.calls]

        self.flow = flow

    def _note(self, who: str, request: Any) -> int:
        self.seen[who] = said(request)
        self.asked[f"{who} {len(request.messages)}"] += 1
        return len(request.messages)

    def _desk(self, request: Any) -> Any:
        self._note("desk", request)
        return ToolCall("transfer_to_billing", {})

    def _bill(self, request: Any) -> Any:
        self._note("billing", request)
        if request.messages[-1].text != "100":
            return ToolCall("price", {"order": "a1"})
        if self.further:
            return ToolCall("transfer_to_seats", {})
        return "it is 100" if self.output is str else ToolCall("final_answer", {"cents": 100})

    def _seats(self, request: Any) -> Any:
        self._note("seats", request)
        return "seat 1"


async def test_the_other_one_goes_on_with_the_conversation_and_answers(runtime):
    desk = Desk()
    run = await runtime.start(desk.flow, "what do I owe?")
    assert await result(run) == ["it is 100", "billing", 8, 3]
    assert desk.seen["billing"] == [
        "system: You bill.",
        "user: what do I owe?",
        "assistant: ",
        "tool: The conversation goes on there.",
        "assistant: ",
        "tool: 100",
    ]
    ended = [event.path for event in await run.recorded() if event.kind == "agent.completed"]
    assert ended == ["flow[0]/desk/transfer_to_billing.0/billing", "flow[0]/desk"]


async def test_its_answer_is_of_its_own_type(runtime):
    desk = Desk(output=Bill)
    output, agent, *_ = await result(await runtime.start(desk.flow, "what do I owe?"))
    assert (output, agent) == ({"cents": 100}, "billing")


async def test_it_may_hand_on_again(runtime):
    desk = Desk(further=True)
    output, agent, _, calls = await result(await runtime.start(desk.flow, "where do I sit?"))
    assert (output, agent, calls) == ("seat 1", "seats", 4)
    assert desk.seen["seats"][0] == "user: where do I sit?"
    assert len(desk.seen["seats"]) == 7


@pytest.mark.parametrize("after", range(2, 22))
async def test_a_crash_anywhere_asks_nobody_twice(tmp_path, after):
    desk = Desk()
    kept = open_store(f"sqlite:///{tmp_path}/runs.db")
    try:
        store = CrashingStore(kept, after=after)
        async with Runtime(store, workflows=[desk.flow]) as runtime:
            run = await runtime.start(desk.flow, "what do I owe?", key="one")
            async with asyncio.timeout(SECONDS):
                while not store.is_down and await run.status() == "running":
                    await asyncio.sleep(0.002)
        async with Runtime(kept, workflows=[desk.flow]) as runtime:
            run = await runtime.start(desk.flow, "what do I owe?", key="one")
            assert (await result(run))[0] == "it is 100"
    finally:
        with contextlib.suppress(StoreError):
            kept.close()
    assert set(desk.asked) == {"desk 2", "billing 4", "billing 6", "price"}
    assert sum(desk.asked.values()) <= 5  # one may have been under way


async def test_a_replay_hands_on_as_the_run_did(runtime):
    run = await runtime.start(Desk().flow, "what do I owe?")
    live = await result(run)
    assert await result(await runtime.replay(run.id)) == live


async def test_one_budget_is_around_all(runtime):
    run = await runtime.start(Desk().flow, "what do I owe?", budget=Budget(calls=2))
    with pytest.raises(RunFailed, match="BudgetExceeded"):
        await result(run)


async def test_the_answer_of_the_other_one_is_streamed(runtime):
    desk = Desk()

    @workflow(name="emits")
    async def emits(ctx: Context, text: str) -> str:
        return (await ctx.run(desk.desk, text, emit=True)).output

    run = await runtime.start(emits, "what do I owe?")
    assert await result(run) == "it is 100"
    texts = [event.data["text"] for event in await run.recorded() if event.kind == "text.emitted"]
    assert "".join(texts) == "it is 100"


async def test_of_two_handoffs_in_one_reply_the_first_counts(runtime):
    one = Agent("one", model=ScriptedModel(lambda request: request.messages[-1].text))
    two = Agent("two", model=ScriptedModel(lambda request: "two"))
    both = [ToolCall("transfer_to_one", {}), ToolCall("transfer_to_two", {})]
    desk = Agent("desk", model=ScriptedModel([both]), handoffs=[one, two])

    @workflow(name="flow")
    async def flow(ctx: Context, text: str) -> str:
        answer = await ctx.run(desk, text)
        return f"{answer.agent}: {answer.output}"

    assert await result(await runtime.start(flow, "x")) == (
        "one: error: the conversation goes on with another agent already"
    )


async def test_an_agent_goes_on_with_what_was_said_to_another(runtime):
    seen: list[list[str]] = []

    def reply(request: Any) -> str:
        seen.append(said(request))
        return f"answer {len(request.messages)}"

    first = Agent("first", instructions="First.", model=ScriptedModel(reply))
    second = Agent("second", instructions="Second.", model=ScriptedModel(reply))

    @workflow(name="flow")
    async def flow(ctx: Context, text: str) -> str:
        earlier = await ctx.run(first, text)
        return (await ctx.run(second, "and then?", messages=earlier.messages)).output

    assert await result(await runtime.start(flow, "hello")) == "answer 4"
    assert seen[1] == ["system: Second.", "user: hello", "assistant: answer 2", "user: and then?"]


@pytest.mark.parametrize("messages", [["hello"], [{"role": "user", "text": "hello"}]])
async def test_what_are_no_messages_is_refused(runtime, messages):
    agent = Agent("agent", model=ScriptedModel(["x"]))

    @workflow(name="flow")
    async def flow(ctx: Context, text: str) -> str:
        return (await ctx.run(agent, text, messages=messages)).output

    with pytest.raises(RunFailed, match="messages= takes"):
        await result(await runtime.start(flow, "x"))


async def test_a_function_takes_no_messages(runtime):
    @workflow(name="flow")
    async def flow(ctx: Context, text: str) -> str:
        return await ctx.run(str.upper, text, messages=[Message("user", "x")])

    with pytest.raises(RunFailed, match="messages= is for agents"):
        await result(await runtime.start(flow, "x"))


def test_what_is_no_agent_is_no_handoff():
    with pytest.raises(GraphError, match="in handoffs= is no agent"):
        Agent("desk", handoffs=[said])
