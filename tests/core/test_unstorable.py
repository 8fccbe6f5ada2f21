"""That something acted, and that its result cannot be stored, are two facts."""

import asyncio

import pytest
from pydantic import BaseModel, field_serializer

from crew import Agent, Context, Graph, Retry, RunFailed, Runtime, ToolCall, tool, workflow
from crew.errors import OutputInvalid, StoreError
from crew.journal.memory import MemoryStore
from crew.testing import CrashingStore, ScriptedModel

STORES = pytest.mark.parametrize("url", ["sqlite", "postgres"], indirect=True)


class Receipt:
    """Nothing that can be stored."""


class Bill(BaseModel):
    total: int


class Odd(BaseModel):
    total: int = 0

    @field_serializer("total")
    def never(self, value: int) -> int:
        raise KeyError("no such total")


acts: list[str] = []


@pytest.fixture(autouse=True)
def _none_yet():
    acts.clear()


async def plain():
    acts.append("plain")
    return Receipt()


async def wrong_type() -> str:
    acts.append("wrong_type")
    return 3


async def nothing() -> str:
    acts.append("nothing")


async def wrong_field() -> Bill:
    acts.append("wrong_field")
    return Bill.model_construct(total="many")


async def wrong_item() -> list[Bill]:
    acts.append("wrong_item")
    return [Bill(total=1), Receipt()]


async def raising() -> Odd:
    acts.append("raising")
    return Odd()


def in_a_thread():
    acts.append("in_a_thread")
    return Receipt()


ACTS = [plain, wrong_type, nothing, wrong_field, wrong_item, raising, in_a_thread]


def graph_of(act, key):
    graph = Graph("g", input=str, output=str)

    @graph.node(retry=Retry(attempts=3, first_delay=0.01))
    async def node(ctx: Context, text: str) -> str:
        await ctx.effect(act, key=key)
        return text

    return graph


@STORES
@pytest.mark.parametrize("key", [None, "charge"])
@pytest.mark.parametrize("act", ACTS)
async def test_an_effect_without_a_storable_result_happens_once_over_retries(url, act, key):
    graph = graph_of(act, key)
    async with Runtime(url, workflows=[graph]) as runtime:
        run = await runtime.start(graph, "go")
        with pytest.raises(RunFailed, match="acted, but its result cannot be stored") as raised:
            await run.result()
        again = await runtime.replay(run.id)
        with pytest.raises(RunFailed, match="acted, but"):
            await again.result()
    assert acts == [act.__name__]
    assert raised.value.cause_type == "OutputInvalid"
    assert act.__name__ in raised.value.cause_message


@STORES
@pytest.mark.parametrize("act", ACTS)
async def test_such_an_effect_happens_once_over_a_restart_and_raises_the_same(url, act):
    raised = []

    @workflow
    async def flow(ctx: Context) -> str:
        try:
            await ctx.effect(act)
        except OutputInvalid as error:
            raised.append(str(error))
        await ctx.ask(bool, "go on?", key="go")
        return "done"

    async with Runtime(url, workflows=[flow]) as runtime:
        run = await runtime.start(flow)
        while not await run.questions():
            await asyncio.sleep(0.01)
    async with Runtime(url, workflows=[flow]) as runtime:
        run = await runtime.get(run.id)
        await run.answer("go", True)
        assert await run.result() == "done"
    assert acts == [act.__name__]
    assert len(raised) == 2
    assert len(set(raised)) == 1


@STORES
async def test_such_an_effect_in_a_child_or_a_called_function_happens_once(url):
    @workflow
    async def child(ctx: Context) -> str:
        await ctx.effect(plain, key="a")
        return ""

    async def inner(ctx: Context) -> str:
        await ctx.effect(in_a_thread, key="b")
        return ""

    @workflow
    async def flow(ctx: Context) -> str:
        problems = []
        for work in (ctx.run(child), ctx.run(inner, ctx)):
            try:
                await work
            except (RunFailed, OutputInvalid) as error:
                problems.append(str(error))
        return " ".join(problems)

    async with Runtime(url, workflows=[flow, child]) as runtime:
        run = await runtime.start(flow)
        assert (await run.result()).count("acted, but its result cannot be stored") == 2
        await (await runtime.replay(run.id)).result()
    assert acts == ["plain", "in_a_thread"]


def agent_with(effect, act):
    used = tool(effect=effect, name="send")(documented(act))
    seen = []

    def script(request):
        last = request.messages[-1]
        if last.role == "tool":
            seen.append(last.text)
            return "done"
        return ToolCall("send", {})

    return Agent("sender", tools=[used], model=ScriptedModel(script)), seen


def documented(act):
    act.__doc__ = "Send."
    return act


@STORES
@pytest.mark.parametrize("effect", ["once", "idempotent"])
@pytest.mark.parametrize("act", ACTS)
async def test_a_tool_that_acted_is_told_so_and_not_called_again(url, effect, act):
    agent, seen = agent_with(effect, act)

    @workflow
    async def flow(ctx: Context) -> str:
        output = (await ctx.run(agent, "go")).output
        await ctx.ask(bool, "go on?", key="go")
        return output

    async with Runtime(url, workflows=[flow]) as runtime:
        run = await runtime.start(flow)
        while not await run.questions():
            await asyncio.sleep(0.01)
        await run.answer("go", True)
        assert await run.result() == "done"
        await (await runtime.replay(run.id)).result()
    assert acts == [act.__name__]
    assert seen[0].startswith("the tool acted, but its result cannot be stored: what tool 'send'")


async def test_a_tool_that_acted_is_not_called_again_after_a_crash():
    agent, _ = agent_with("once", plain)

    @workflow
    async def flow(ctx: Context) -> str:
        return (await ctx.run(agent, "go")).output

    for after in range(1, 12):
        acts.clear()
        kept = MemoryStore()
        async with Runtime(CrashingStore(kept, after=after), workflows=[flow]) as runtime:
            try:
                run = await runtime.start(flow)
                await run.result()
            except StoreError:
                pass
        kept.forget_owners()
        async with Runtime(kept, workflows=[flow]) as runtime:
            for run in await runtime.runs():
                await asyncio.wait({asyncio.ensure_future(run.result())}, timeout=5)
        assert len(acts) <= 1


@pytest.mark.parametrize("kind", [str, int, bool, Bill, list[str], dict[str, int]])
async def test_a_reading_tool_that_returns_none_is_a_tool_error(kind):
    async def look() -> kind:
        acts.append("look")

    agent, seen = agent_with("read", look)
    await agent.run("go")
    assert seen[0].startswith("error: what tool 'send' returns must be")
    assert "None" in seen[0]


def crashed_effect(returns):
    """Return a workflow whose effect a crash hides, and that a person confirms."""

    async def charge() -> returns:
        acts.append("charge")
        return TRUE_RESULTS[returns]

    @workflow
    async def flow(ctx: Context) -> str:
        return repr(await ctx.effect(charge, key="charge", unknown="ask"))

    return flow


TRUE_RESULTS = {str: "r", int: 3, bool: True, Bill: Bill(total=1), str | None: "r", None: None}


async def confirmed(flow):
    """Crash the flow within its effect, answer that it happened, and return the run."""
    kept = MemoryStore()
    async with Runtime(CrashingStore(kept, after=4), workflows=[flow]) as runtime:
        run = await runtime.start(flow)
        with pytest.raises(StoreError):
            await run.result()
    kept.forget_owners()
    runtime = Runtime(kept, workflows=[flow])
    async with runtime, asyncio.timeout(10):
        run = await runtime.get(run.id)
        while not await run.questions():
            await asyncio.sleep(0.01)
        await run.answer("charge:happened", True)
        return await run.result()


@pytest.mark.parametrize("returns", [str, int, bool, Bill], ids=str)
async def test_an_effect_that_a_person_confirmed_has_no_result_of_another_type(returns):
    with pytest.raises(RunFailed, match="happened, as was answered, but what it returned"):
        await confirmed(crashed_effect(returns))
    assert acts == ["charge"]


@pytest.mark.parametrize("returns", [str | None, None], ids=str)
async def test_an_effect_that_may_return_none_does_so_once_it_is_confirmed(returns):
    assert await confirmed(crashed_effect(returns)) == "None"
    assert acts == ["charge"]
