"""A person lets an agent call a tool, or does not: asked before the call's intent, and once."""

import asyncio
import contextlib
from typing import Any

import pytest

from crew import Agent, Context, GraphError, RunFailed, Runtime, tool, workflow
from crew.errors import AskError, StoreError
from crew.journal.memory import MemoryStore
from crew.llm import ModelRequest
from crew.testing import CrashingStore, ScriptedModel, ToolCall, simulate
from tests.core.counting import crashing
from tests.core.lives import SECONDS, result, stores, until

DONE: list[str] = []


@pytest.fixture(autouse=True)
def nothing_done():
    DONE.clear()


@tool(effect="once", approve=lambda call: call.cents > 1000)
async def refund(order: str, cents: int) -> str:
    """Refund."""
    DONE.append(order)
    return f"refunded {order}"


@tool(effect="read")
async def look(order: str) -> str:
    """Look."""
    return f"saw {order}"


BIG = ToolCall("refund", {"order": "a", "cents": 5000})
SMALL = ToolCall("refund", {"order": "b", "cents": 5})
LOOK = ToolCall("look", {"order": "c"})


def flow_of(*calls: ToolCall, tools: Any = (refund, look), **of_agent: Any) -> Any:
    """Return a workflow of an agent that makes calls at once, and then repeats what it read."""

    def reply(request: ModelRequest) -> Any:
        read = [message.text for message in request.messages if message.role == "tool"]
        return " | ".join(read) if read else list(calls)

    agent = Agent("support", model=ScriptedModel(reply), tools=tools, **of_agent)

    @workflow(name="flow")
    async def flow(ctx: Context, text: str) -> str:
        return (await ctx.run(agent, text)).output

    return flow


async def asked(run: Any, count: int = 1) -> list[Any]:
    async with asyncio.timeout(SECONDS):
        while len(questions := await run.questions()) < count:
            await asyncio.sleep(0.005)
        return questions


async def test_a_person_is_asked_before_the_call_begins_and_sees_it(runtime):
    run = await runtime.start(flow_of(BIG), "go")
    (question,) = await asked(run)
    assert question.key == "support/refund.0"
    assert question.question == 'May refund be called with {"order": "a", "cents": 5000}?'
    assert question.schema == {"type": "boolean"}
    assert not any(event.kind == "tool.started" for event in await run.recorded())
    await run.answer(question.key, True)
    assert await result(run) == "refunded a"
    assert DONE == ["a"]


@pytest.mark.parametrize(
    ("answer", "why"),
    [(False, ""), ({"approved": False, "reason": "too much"}, ": too much")],
)
async def test_the_model_reads_that_a_person_refused(runtime, answer, why):
    run = await runtime.start(flow_of(BIG), "go")
    await asked(run)
    await run.answer("support/refund.0", answer)
    assert (await result(run)).startswith(f"a person refused this call of 'refund'{why}. ")
    assert DONE == []


async def test_a_call_that_needs_no_approval_is_made_at_once(runtime):
    run = await runtime.start(flow_of(SMALL), "go")
    assert await result(run) == "refunded b"
    assert not any(event.kind == "ask.opened" for event in await run.recorded())


async def test_each_call_of_one_reply_is_asked_for_by_a_key_of_its_own(runtime):
    run = await runtime.start(flow_of(BIG, SMALL, BIG, LOOK), "go")
    questions = await asked(run, 2)
    assert sorted(each.key for each in questions) == ["support/refund.0", "support/refund.2"]
    await run.answer("support/refund.2", True)
    await run.answer("support/refund.0", False)
    first, second, third, fourth = (await result(run)).split(" | ")
    assert "refused" in first
    assert (second, third, fourth) == ("refunded b", "refunded a", "saw c")


async def test_arguments_that_do_not_fit_are_not_asked_about(runtime):
    run = await runtime.start(flow_of(ToolCall("refund", {"order": "a"})), "go")
    assert "cents: Field required" in await result(run)


async def test_a_condition_that_raises_lets_nothing_happen(runtime):
    def raises(call: Any) -> bool:
        raise KeyError("limit")

    @tool(approve=raises)
    async def act() -> str:
        """Act."""
        DONE.append("act")
        return "done"

    run = await runtime.start(flow_of(ToolCall("act"), tools=[act]), "go")
    assert "`approve` of tool 'act' raised KeyError" in await result(run)
    assert DONE == []


async def test_outside_a_run_nobody_can_be_asked():
    agent = Agent("a", model=ScriptedModel([BIG]), tools=[refund])
    with pytest.raises(GraphError, match=r"needs a person's approval.* by ctx.run\(agent, text\)"):
        await agent.run("go")
    agent = Agent("a", model=ScriptedModel([SMALL, "ok"]), tools=[refund])
    assert (await agent.run("go")).output == "ok"


@stores
async def test_a_run_that_waits_for_approval_waits_out_of_memory_and_goes_on_elsewhere(url):
    flow = flow_of(BIG, LOOK)
    async with Runtime(url, workflows=[flow]) as runtime:
        run = await runtime.start(flow, "go")
        await asked(run)
        assert await until(run, "waiting") == "waiting"
        async with asyncio.timeout(SECONDS):
            while runtime._worker.owned.drivers:
                await asyncio.sleep(0.05)
    async with Runtime(url, workflows=[flow]) as runtime:
        run = await runtime.get(run.id)
        await run.answer("support/refund.0", True)
        assert await result(run) == "refunded a | saw c"
        begun = [e.path for e in await run.recorded() if e.kind in ("ask.opened", "tool.started")]
    assert len(begun) == len(set(begun)) == 3
    assert DONE == ["a"]


async def test_a_run_does_not_wait_while_another_call_of_the_reply_is_at_work(runtime):
    going = asyncio.Event()

    @tool(effect="read")
    async def slow() -> str:
        """Take long."""
        await going.wait()
        return "slow"

    run = await runtime.start(flow_of(BIG, ToolCall("slow"), tools=[refund, slow]), "go")
    await asked(run)
    await asyncio.sleep(0.05)
    assert await run.status() == "running"
    going.set()
    assert await until(run, "waiting") == "waiting"
    await run.answer("support/refund.0", True)
    assert await result(run) == "refunded a | slow"


async def test_in_order_the_next_call_begins_once_the_first_was_answered(runtime):
    run = await runtime.start(flow_of(BIG, LOOK, parallel_tools=1), "go")
    await asked(run)
    assert await until(run, "waiting") == "waiting"
    assert not any(event.kind == "tool.started" for event in await run.recorded())
    await run.answer("support/refund.0", True)
    assert await result(run) == "refunded a | saw c"


@pytest.mark.parametrize("first", ["support/refund.0", "which"])
async def test_it_waits_beside_a_tool_that_asks_a_person_itself(runtime, first):
    @tool
    async def which(ctx: Context) -> str:
        """Ask which."""
        return f"chose {await ctx.ask(str, 'Which?', key='which')}"

    flow = flow_of(BIG, ToolCall("which"), tools=[refund, which])
    answers = {"support/refund.0": True, "which": "that"}
    run = await runtime.start(flow, "go")
    await asked(run, 2)
    assert await until(run, "waiting") == "waiting"
    await run.answer(first, answers.pop(first))
    async with asyncio.timeout(SECONDS):
        while len(await run.questions()) != 1:
            await asyncio.sleep(0.005)
    assert await until(run, "waiting") == "waiting"
    ((key, answer),) = answers.items()
    await run.answer(key, answer)
    assert await result(run) == "refunded a | chose that"
    assert DONE == ["a"]


async def test_an_agent_that_another_one_asks_waits_for_approval_out_of_memory_too(runtime):
    clerk = Agent("clerk", model=ScriptedModel([BIG, "done"]), tools=[refund])
    boss = Agent("boss", model=ScriptedModel(_asks_the_clerk), tools=[clerk, look])

    @workflow(name="flow")
    async def flow(ctx: Context, text: str) -> str:
        return (await ctx.run(boss, text)).output

    run = await runtime.start(flow, "go")
    (question,) = await asked(run)
    assert await until(run, "waiting") == "waiting"
    async with asyncio.timeout(SECONDS):
        while runtime._worker.owned.drivers:
            await asyncio.sleep(0.05)
    await run.answer(question.key, True)
    assert await result(run) == "done | saw c"
    assert DONE == ["a"]


def _asks_the_clerk(request: ModelRequest) -> Any:
    read = [message.text for message in request.messages if message.role == "tool"]
    return " | ".join(read) if read else [ToolCall("clerk", {"text": "refund a"}), LOOK]


async def test_a_replay_asks_nobody(runtime):
    run = await runtime.start(flow_of(BIG, SMALL, LOOK), "go")
    await asked(run)
    await run.answer("support/refund.0", {"approved": False, "reason": "no"})
    live = await result(run)
    replay = await runtime.replay(run.id)
    assert await result(replay) == live
    assert DONE == ["b"]


@pytest.mark.parametrize("answer", [True, False])
async def test_a_fork_from_before_the_answer_asks_anew(runtime, answer):
    run = await runtime.start(flow_of(BIG), "go")
    await asked(run)
    await run.answer("support/refund.0", True)
    await result(run)
    opened = next(e.offset for e in await run.recorded() if e.kind == "ask.opened")
    fork = await runtime.fork(run.id, at=opened, live=True)
    (question,) = await asked(fork)
    await fork.answer(question.key, answer)
    assert (await result(fork) == "refunded a") is answer
    assert DONE == ["a", "a"] if answer else ["a"]


async def test_a_fork_that_reuses_records_asks_for_nothing_that_was_answered(runtime):
    run = await runtime.start(flow_of(BIG), "go")
    await asked(run)
    await run.answer("support/refund.0", True)
    await result(run)
    fork = await runtime.fork(run.id)
    assert await result(fork) == "refunded a"
    assert DONE == ["a"]


@pytest.mark.parametrize("kind", ["timeout", "cancel", "sibling"])
async def test_a_question_closes_with_the_agent_that_asks_it(runtime, kind):
    asking = asyncio.Event()

    @tool(effect="once", timeout=0.001)
    async def stuck() -> str:
        """Never end."""
        await asking.wait()
        return ""

    tools = [refund, stuck]
    calls = [BIG, ToolCall("stuck")] if kind == "sibling" else [BIG]
    agent = Agent("support", model=ScriptedModel([calls]), tools=tools)

    @workflow
    async def flow(ctx: Context, text: str) -> str:
        with contextlib.suppress(Exception):
            if kind == "timeout":
                async with ctx.timeout(0.2):
                    await ctx.run(agent, text)
            await ctx.run(agent, text)
        return await ctx.ask(str, "And now?", key="now")

    run = await runtime.start(flow, "go")
    if kind == "cancel":
        await asked(run)
        await run.cancel()
        assert await until(run, "cancelled") == "cancelled"
        assert await run.questions() == []
        return
    async with asyncio.timeout(SECONDS):
        while [each.key for each in await run.questions()] != ["now"]:
            await asyncio.sleep(0.01)
    assert "ask.cancelled" in [event.kind for event in await run.recorded()]
    assert DONE == []


async def approved(run: Any) -> None:
    """Answer whatever is asked, as a person would."""
    while True:
        with contextlib.suppress(AskError, StoreError):  # it was answered, and that is on its way
            for question in await run.questions():
                await run.answer(question.path, True)
        await asyncio.sleep(0.001)


async def lived(store: Any, down: Any, flow: Any) -> tuple[Any, list[Any]]:
    """Start a run where the store goes down some time; go on with it; return what came of it."""
    async with Runtime(down) as runtime:
        run = await runtime.start(flow, "go")
        answering = asyncio.create_task(approved(run))
        async with asyncio.timeout(SECONDS):
            while not down.is_down and await run.status() in ("running", "waiting"):
                await asyncio.sleep(0.001)
        answering.cancel()
    if isinstance(store, MemoryStore):
        store.forget_owners()
    async with Runtime(store, workflows=[flow]) as runtime:
        run = await runtime.get(run.id)
        answering = asyncio.create_task(approved(run))
        try:
            output = await result(run)
        except RunFailed as error:
            output = error.cause_type
        answering.cancel()
        return output, await run.recorded()


def check(output: Any, events: list[Any]) -> None:
    """Nothing was repeated: no question, no answer, no act, no call whose end is on record."""
    assert output in ("refunded a | refunded b | saw c", "EffectUnknown")
    for kind in ("ask.opened", "ask.answered", "model.completed", "tool.completed"):
        paths = [event.path for event in events if event.kind == kind]
        assert len(paths) == len(set(paths)), kind
    assert len(DONE) == len(set(DONE))
    if output != "EffectUnknown":
        assert sorted(DONE) == ["a", "b"]


@pytest.mark.parametrize("limit", [None, 1])
async def test_wherever_the_process_is_killed_a_person_is_asked_once_and_no_act_repeated(limit):
    for after in range(2, 60):
        DONE.clear()
        kept = MemoryStore()
        down = CrashingStore(kept, after=after)
        check(*await lived(kept, down, flow_of(BIG, SMALL, LOOK, parallel_tools=limit)))
        if not down.is_down:
            return
    raise AssertionError("no run came to its end undisturbed")


@stores
@pytest.mark.parametrize("after", range(4, 20, 3))
async def test_a_store_on_disk_keeps_the_question_and_its_answer(url, after):
    with crashing(url, after) as down:
        output, events = await lived(url, down, flow_of(BIG, SMALL, LOOK))
    check(output, events)


@pytest.mark.parametrize("limit", [None, 1])
def test_approvals_survive_every_schedule(limit):
    flow = flow_of(BIG, LOOK, SMALL, BIG, parallel_tools=limit)
    done = simulate(flow, "go", seeds=40, answer=lambda question: question.key.endswith(".0"))
    first, second, third, fourth = done.output.split(" | ")
    assert [first, second, third] == ["refunded a", "saw c", "refunded b"]
    assert "refused" in fourth
