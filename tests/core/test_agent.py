"""The agent's loop: tools, typed outputs, and going on in the middle of it."""

import asyncio
import gc
from typing import Any

import pytest
from pydantic import BaseModel

from crew import (
    Agent,
    Budget,
    Context,
    ModelError,
    OutputInvalid,
    RunFailed,
    Runtime,
    tool,
    workflow,
)
from crew.agent.outside import Outside
from crew.budget import Amount
from crew.call.record import Equipment
from crew.config import Settings
from crew.errors import StoreError
from crew.journal.memory import MemoryStore
from crew.llm import ModelReply
from crew.message import Usage
from crew.testing import CrashingStore, ScriptedModel, ToolCall, simulate


class Plan(BaseModel):
    steps: list[str]


@tool(effect="read")
async def search(query: str) -> list[str]:
    """Search."""
    return [f"about {query}"]


@tool(effect="read")
def broken(query: str) -> str:
    """Always fails."""
    raise ValueError("no luck")


def flow_of(agent):
    @workflow
    async def flow(ctx: Context, text: str) -> str:
        return str((await ctx.run(agent, text)).output)

    return flow


async def run(agent, text="go", **start):
    async with Runtime(":memory:") as runtime:
        started = await runtime.start(flow_of(agent), text, **start)
        return await started.result(), await started.recorded()


async def test_tenants_have_each_a_salt_of_their_own_in_the_engines_cache():
    model = ScriptedModel(["Hi."] * 3)
    flow = flow_of(Agent("hello", model=model))
    async with Runtime(":memory:") as runtime:
        for tenant in ("acme", "acme", "globex"):
            await (await runtime.of(tenant).start(flow, "go")).result()
    first, second, other = [request.cache_salt for request in model.requests]
    assert first == second != other
    assert "acme" not in first


async def test_an_agent_alone_answers():
    result = await Agent("hello", model=ScriptedModel(["Hi."])).run("Say hello")
    assert result.output == "Hi."
    assert [message.role for message in result.messages] == ["user", "assistant"]
    assert result.usage.calls == 1


async def test_a_typed_output_is_a_value_of_its_type():
    model = ScriptedModel([Plan(steps=["a"])])
    result = await Agent("planner", output=Plan, model=model).run("plan")
    assert result.output == Plan(steps=["a"])
    assert model.requests[0].schema["properties"].keys() == {"steps"}


async def test_tools_are_called_and_recorded_by_path():
    calls = [ToolCall("search", {"query": "x"}), ToolCall("search", {"query": "y"})]
    model = ScriptedModel([calls, "found"])
    output, events = await run(Agent("searcher", model=model, tools=[search]))
    assert output == "found"
    results = {e.path: e.data["result"] for e in events if e.kind == "tool.completed"}
    assert results == {
        "flow[0]/searcher/search.0": ["about x"],
        "flow[0]/searcher/search.1": ["about y"],
    }
    model.assert_done()


async def test_each_request_extends_the_one_before():
    model = ScriptedModel([ToolCall("search", {"query": "x"}), "found"])
    await run(Agent("searcher", instructions="Be brief.", model=model, tools=[search]))
    one, two = (request.messages for request in model.requests)
    assert two[: len(one)] == one
    assert one[0].text == "Be brief."


async def test_a_tool_that_raises_is_told_to_the_model():
    model = ScriptedModel([ToolCall("broken", {"query": "x"}), "gave up"])
    output, events = await run(Agent("a", model=model, tools=[broken]))
    assert output == "gave up"
    assert model.requests[1].messages[-1].text == "error: ValueError: no luck"
    assert [e.path for e in events if e.kind == "tool.failed"] == ["flow[0]/a/broken.0"]


async def test_wrong_arguments_are_told_to_the_model():
    model = ScriptedModel([ToolCall("search", {"qeury": "x"}), "gave up"])
    await run(Agent("a", model=model, tools=[search]))
    assert "the arguments of tool 'search' do not fit" in model.requests[1].messages[-1].text


async def test_arguments_that_are_no_json_are_told_to_the_model():
    model = ScriptedModel([ToolCall("search", {"_invalid": "{oops"}), "gave up"])
    await run(Agent("a", model=model, tools=[search]))
    assert "are not a JSON object" in model.requests[1].messages[-1].text


async def test_an_unknown_tool_names_the_near_match():
    model = ScriptedModel([ToolCall("serach", {}), "gave up"])
    await run(Agent("a", model=model, tools=[search]))
    assert "did you mean 'search'?" in model.requests[1].messages[-1].text


async def test_bad_json_is_repaired_once():
    model = ScriptedModel(["no json", Plan(steps=[])])
    output, events = await run(Agent("planner", output=Plan, model=model))
    assert output == "steps=[]"
    assert len([e for e in events if e.kind == "model.completed"]) == 2


async def test_bad_json_twice_is_output_invalid():
    model = ScriptedModel(["no json", '{"steps": 3}'])
    with pytest.raises(OutputInvalid, match="must be Plan, .*: steps: Input should be a valid"):
        await Agent("planner", output=Plan, model=model).run("plan")


async def test_max_turns_bounds_the_loop():
    model = ScriptedModel([ToolCall("search", {"query": "x"})] * 3)
    with pytest.raises(OutputInvalid, match="within max_turns=3"):
        await Agent("a", model=model, tools=[search], max_turns=3).run("go")


async def test_a_models_error_fails_the_run_with_its_message():
    model = ScriptedModel([ModelError(message="the endpoint is down")])
    with pytest.raises(RunFailed, match="ModelError: the endpoint is down"):
        await run(Agent("a", model=model))


async def test_a_call_that_would_pass_the_budget_is_not_made():
    model = ScriptedModel(["one", "two"])
    agent = Agent("a", model=model, max_tokens=100)
    with pytest.raises(
        RunFailed, match=r"BudgetExceeded: \d+ tokens needed at flow\[0\]/a/model.0"
    ):
        await run(agent, budget=Budget(tokens=50))
    assert model.requests == []


async def test_the_thread_is_seen_by_an_agent_with_history():
    model = ScriptedModel(["first answer", "second answer"])
    flow = flow_of(Agent("a", model=model, history=True))
    async with Runtime(":memory:") as runtime:
        for text in ("first", "second"):
            await (await runtime.start(flow, text, thread="t")).result()
    said = [message.text for message in model.requests[1].messages]
    assert said == ["first", "first answer", "second"]


async def test_a_crash_in_the_middle_repeats_no_recorded_call():
    model = ScriptedModel([ToolCall("search", {"query": "x"}), "found"])
    flow = flow_of(Agent("searcher", model=model, tools=[search]))
    kept = MemoryStore()
    # The crash comes after the first model call and the tool call were recorded.
    store = CrashingStore(kept, after=7)
    async with Runtime(store) as runtime:
        started = await runtime.start(flow, "go")
        with pytest.raises(StoreError):
            await started.result()
    kept.forget_owners()
    async with Runtime(kept, workflows=[flow]) as runtime:
        assert await (await runtime.get(started.id)).result() == "found"
    assert len(model.requests) == 2
    model.assert_done()


def test_an_agent_survives_crashes_at_every_place():
    def reply(request):
        said = request.messages[-1]
        return "found" if said.role == "tool" else ToolCall("search", {"query": "x"})

    model = ScriptedModel([reply] * 1000)
    flow = flow_of(Agent("searcher", model=model, tools=[search]))
    done = simulate(flow, "go", seeds=60)
    assert done.output == "found"
    assert done.crashes >= 60


async def test_a_childs_tokens_are_summed_into_its_parents_and_bound_by_its_budget():
    child = flow_of(Agent("a", model=ScriptedModel(["one", "two"]), max_tokens=100))

    @workflow
    async def parent(ctx: Context, text: str) -> str:
        return await ctx.run(child, text)

    async with Runtime(":memory:") as runtime:
        run = await runtime.start(parent, "go", budget=Budget(tokens=500))
        assert await run.result() == "one"
        (child_run,) = [item for item in await runtime.runs() if item.workflow == "flow"]
        assert await run.usage() == await child_run.usage()
        poor = await runtime.start(parent, "go", budget=Budget(tokens=50))
        with pytest.raises(RunFailed, match="BudgetExceeded"):
            await poor.result()


async def test_a_child_gets_nothing_of_a_budget_that_is_spent():
    talker = Agent("talker", model=ScriptedModel(["and so on " * 400]), max_tokens=100)
    model = ScriptedModel()
    child = flow_of(Agent("a", model=model))

    @workflow
    async def parent(ctx: Context, text: str) -> str:
        await ctx.run(talker, text)
        return await ctx.run(child, text)

    async with Runtime(":memory:") as runtime:
        run = await runtime.start(parent, "go", budget=Budget(tokens=500))
        with pytest.raises(RunFailed, match="BudgetExceeded: .* tokens needed at .*, -.* left"):
            await run.result()
        assert model.requests == []


async def test_a_record_of_an_agent_stands_though_it_was_edited_and_the_drift_is_noted():
    model, store = ScriptedModel(["said"]), MemoryStore()

    def flow_with(instructions: str):
        agent = Agent("a", instructions=instructions, model=model)

        @workflow(name="flow")
        async def flow(ctx: Context, text: str) -> str:
            said = await ctx.run(agent, text)
            return f"{said.output} {await ctx.ask(str, 'And?', key='and')}"

        return flow

    async with Runtime(store) as runtime:
        run = await runtime.start(flow_with("one"), "go")
        while not await run.questions():
            await asyncio.sleep(0.01)
    other = flow_with("two")
    async with Runtime(store, workflows=[other]) as runtime:
        await runtime.resume(run.id)
        while (await (await runtime.get(run.id)).recorded())[-1].kind != "agent.drifted":
            await asyncio.sleep(0.01)
    async with Runtime(store, workflows=[other]) as runtime:
        again = await runtime.get(run.id)
        await again.answer("and", "done")
        assert await again.result() == "said done"
        drifted = [event.path async for event in again.events() if event.kind == "agent.drifted"]
    assert drifted == ["flow[0]/a/drift"]
    assert len(model.requests) == 1


class OfOneCustomer(ScriptedModel):
    """A model that a node makes for one call."""


class WithSlots:
    """A model that nobody can watch; it is closed with the runtime."""

    __slots__ = ("closed",)
    name = "slots"

    def __init__(self) -> None:
        self.closed = False

    async def complete(self, request: Any, *, on_text: Any = None) -> ModelReply:
        return ModelReply("x", (), Usage(1, 1, 0, 1))

    async def close(self) -> None:
        self.closed = True


async def test_a_model_that_was_made_for_one_call_is_not_kept():
    @workflow
    async def asks(ctx: Context, text: str) -> str:
        return (await ctx.run(Agent("a", model=OfOneCustomer(["yes"])), text)).output

    async with Runtime(":memory:") as runtime:
        for _ in range(3):
            assert await (await runtime.start(asks, "?")).result() == "yes"
        gc.collect()
        assert [one for one in gc.get_objects() if type(one) is OfOneCustomer] == []


async def test_a_model_is_closed_with_its_runtime():
    model = WithSlots()

    @workflow
    async def asks(ctx: Context, text: str) -> str:
        return (await ctx.run(Agent("a", model=model), text)).output

    async with Runtime(":memory:") as runtime:
        assert await (await runtime.start(asks, "?")).result() == "x"
    assert model.closed


async def test_outside_a_run_nothing_limits_an_agent_and_nothing_is_on_record():
    calls = Outside(Agent("a"), Equipment(Settings()))
    assert await calls.allowance("a/model.0", Amount(10, 0)) is None
    assert await calls.is_due("a/model.0")
