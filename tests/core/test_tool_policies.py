"""How an agent calls its tools: for how long, how often, how many at once."""

import asyncio
import threading
from typing import Any

import pytest

from crew import Agent, Context, EffectUnknown, RunFailed, Runtime, tool, workflow
from crew.journal.memory import MemoryStore
from crew.llm import ModelRequest
from crew.testing import CrashingStore, ScriptedModel, ToolCall, simulate
from tests.core.counting import crashing
from tests.core.lives import SECONDS, result, stores

NEVER = 3600.0


def flow_of(*calls: ToolCall, tools: Any, **of_agent: Any) -> Any:
    """Return a workflow of an agent that makes calls at once, and then repeats what it read."""

    def reply(request: ModelRequest) -> Any:
        read = [message.text for message in request.messages if message.role == "tool"]
        return " | ".join(read) if read else list(calls)

    agent = Agent("a", model=ScriptedModel(reply), tools=tools, **of_agent)

    @workflow(name="flow")
    async def flow(ctx: Context, text: str) -> str:
        return (await ctx.run(agent, text)).output

    return flow


def slow_tool(effect: Any, began: list[str] | None = None, **policies: Any) -> Any:
    @tool(effect=effect, timeout=0.01, name="slow", **policies)
    async def slow() -> str:
        """Take long."""
        if began is not None:
            began.append("slow")
        await asyncio.sleep(NEVER)
        return "done"

    return slow


@pytest.mark.parametrize("effect", ["read", "idempotent"])
async def test_a_tool_that_takes_too_long_has_failed_as_the_model_reads(runtime, effect):
    run = await runtime.start(flow_of(ToolCall("slow"), tools=[slow_tool(effect)]), "go")
    assert await result(run) == "error: tool 'slow' took longer than its timeout of 0.01 s"
    assert [e.kind for e in await run.recorded() if e.path.endswith("slow.0")] == [
        "tool.started",
        "tool.failed",
    ]


async def test_of_a_tool_that_acts_once_nobody_knows_then_whether_it_did(runtime):
    run = await runtime.start(flow_of(ToolCall("slow"), tools=[slow_tool("once")]), "go")
    with pytest.raises(RunFailed, match=r"a/slow\.0 .* took longer than its timeout") as caught:
        await result(run)
    assert isinstance(caught.value.__cause__, EffectUnknown)
    assert [e.kind for e in await run.recorded() if e.path.endswith("slow.0")] == [
        "tool.started",
        "tool.unknown",
    ]


async def test_outside_a_run_a_once_tool_that_takes_too_long_is_unknown_too():
    agent = Agent("a", model=ScriptedModel([ToolCall("slow")]), tools=[slow_tool("once")])
    with pytest.raises(EffectUnknown):
        await agent.run("go")


async def test_a_synchronous_tool_is_waited_for_no_longer_than_that(runtime):
    may_end = threading.Event()

    @tool(effect="read", timeout=0.05)
    def slow() -> str:
        """Block."""
        may_end.wait(SECONDS)
        return "done"

    run = await runtime.start(flow_of(ToolCall("slow"), tools=[slow]), "go")
    assert "took longer than its timeout" in await result(run)
    may_end.set()


async def test_a_timeout_error_of_a_tools_own_is_an_error_like_others(runtime):
    @tool(effect="once", timeout=SECONDS)
    async def asks() -> str:
        """Ask a server that is silent."""
        raise TimeoutError("the server is silent")

    run = await runtime.start(flow_of(ToolCall("asks"), tools=[asks]), "go")
    assert await result(run) == "error: TimeoutError: the server is silent"


@stores
@pytest.mark.parametrize("after", range(4, 9))
async def test_a_once_tool_that_took_too_long_is_not_called_again_by_whoever_goes_on(url, after):
    began: list[str] = []
    flow = flow_of(ToolCall("slow"), tools=[slow_tool("once", began)])
    with crashing(url, after) as down:
        async with Runtime(down) as runtime:
            run = await runtime.start(flow, "go")
            async with asyncio.timeout(SECONDS):
                while not down.is_down and await run.status() == "running":
                    await asyncio.sleep(0.001)
    async with Runtime(url, workflows=[flow]) as runtime:
        with pytest.raises(RunFailed, match="EffectUnknown"):
            await result(await runtime.get(run.id))
    assert began == ["slow"]


def failing(times: int, **policies: Any) -> tuple[Any, list[str]]:
    """Return a tool that fails so many times, and the keys that it was called with."""
    keys: list[str] = []

    @tool(effect="idempotent", **policies)
    async def save(name: str, idempotency_key: str) -> str:
        """Save."""
        keys.append(idempotency_key)
        if len(keys) <= times:
            raise ConnectionError("gone")
        return f"saved {name}"

    return save, keys


SAVE = ToolCall("save", {"name": "x"})


async def test_a_call_that_failed_is_made_again_under_the_same_key(runtime):
    save, keys = failing(2, retries=2)
    run = await runtime.start(flow_of(SAVE, tools=[save]), "go")
    assert await result(run) == "saved x"
    assert len(keys) == 3
    assert len(set(keys)) == 1
    ends = {e.path: e.kind for e in await run.recorded() if e.kind.startswith("tool.")}
    assert ends == {
        "flow[0]/a/save.0": "tool.failed",
        "flow[0]/a/save.0~2": "tool.failed",
        "flow[0]/a/save.0~3": "tool.completed",
    }


async def test_the_model_reads_the_last_error_once_all_attempts_have_failed(runtime):
    save, keys = failing(9, retries=1)
    run = await runtime.start(flow_of(SAVE, tools=[save]), "go")
    assert await result(run) == "error: ConnectionError: gone"
    assert len(keys) == 2


async def test_each_attempt_has_its_own_time(runtime):
    began: list[str] = []
    slow = slow_tool("read", began, retries=1)
    run = await runtime.start(flow_of(ToolCall("slow"), tools=[slow]), "go")
    assert "took longer" in await result(run)
    assert began == ["slow", "slow"]


async def test_arguments_that_do_not_fit_are_not_tried_again(runtime):
    save, _ = failing(0, retries=5)
    run = await runtime.start(flow_of(ToolCall("save", {"nme": "x"}), tools=[save]), "go")
    assert "do not fit" in await result(run)
    assert sum(event.kind == "tool.failed" for event in await run.recorded()) == 1


async def test_a_replay_makes_no_attempt_and_waits_for_none(runtime):
    save, keys = failing(2, retries=2)
    run = await runtime.start(flow_of(SAVE, tools=[save]), "go")
    await result(run)
    assert await result(await runtime.replay(run.id)) == "saved x"
    assert len(keys) == 3


async def test_attempts_are_counted_from_the_journal_wherever_the_process_is_killed():
    for after in range(5, 30, 2):
        save, keys = failing(2, retries=2)
        kept = MemoryStore()
        store, flow = CrashingStore(kept, after=after), flow_of(SAVE, tools=[save])
        async with Runtime(store) as runtime:
            run = await runtime.start(flow, "go")
            async with asyncio.timeout(SECONDS):
                while not store.is_down and await run.status() == "running":
                    await asyncio.sleep(0.001)
        kept.forget_owners()
        async with Runtime(kept, workflows=[flow]) as runtime:
            run = await runtime.get(run.id)
            await result(run)
            ends = [e.path for e in await run.recorded() if e.kind in ENDS_OF_TOOLS]
            assert len(ends) == len(set(ends)) <= 3
            assert len(set(keys)) == 1
        if not store.is_down:
            return
    raise AssertionError("no run came to its end undisturbed")


ENDS_OF_TOOLS = ("tool.completed", "tool.failed")


@pytest.mark.parametrize(("limit", "most"), [(1, 1), (2, 2), (None, 5)])
async def test_so_many_calls_of_one_reply_are_under_way_at_once(runtime, limit, most):
    under_way, seen, order = 0, 0, list[int]()

    @tool(effect="read")
    async def work(number: int) -> str:
        """Work."""
        nonlocal under_way, seen
        under_way += 1
        seen = max(seen, under_way)
        await asyncio.sleep(0.01)
        under_way -= 1
        order.append(number)
        return str(number)

    calls = [ToolCall("work", {"number": number}) for number in range(5)]
    run = await runtime.start(flow_of(*calls, tools=[work], parallel_tools=limit), "go")
    assert await result(run) == "0 | 1 | 2 | 3 | 4"
    assert seen == most
    if limit == 1:
        assert order == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("limit", [None, 1])
def test_policies_survive_every_schedule(limit):
    @tool(effect="idempotent", retries=2, timeout=NEVER)
    async def work(number: int) -> str:
        """Work, now and then."""
        if number % 2:
            raise ConnectionError("gone")
        return str(number)

    calls = [ToolCall("work", {"number": number}) for number in range(3)]
    flow = flow_of(*calls, tools=[work], parallel_tools=limit)
    assert simulate(flow, "go", seeds=20).crashes >= 20
