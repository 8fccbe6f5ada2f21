"""An error that a call raised is the same for the code that catches it, live and ever after."""

import asyncio
import logging

import pytest
from pydantic import BaseModel, TypeAdapter, ValidationError

from crew import Agent, Budget, Context, Graph, Retry, RunFailed, Runtime, ToolCall, tool, workflow
from crew.errors import BudgetExceeded, ModelError
from crew.testing import ScriptedModel

STORES = pytest.mark.parametrize("url", ["sqlite", "postgres"], indirect=True)


class Refused(Exception):
    def __init__(self, code, *, reason):
        super().__init__(f"refused: {reason}")
        self.code, self.reason = code, reason


class Full(OSError):
    def __init__(self, place):
        super().__init__(28, "no space", place)
        self.place = place


class Form(BaseModel):
    n: int


def raised(make):
    async def act(item: int = 0) -> str:
        raise make()

    async def deeper(ctx: Context) -> str:
        return await ctx.run(act)

    return act, deeper


def local():
    class Local(Refused):
        pass

    def make():
        return Local(7, reason="local")

    return make


def invalid():
    return TypeAdapter(Form).validate_python({"n": "x"})


ERRORS = {
    "own": lambda: Refused(3, reason="tired"),
    "local": local(),
    "unicode": lambda: UnicodeDecodeError("utf-8", b"x", 0, 1, "bad"),
    "os": lambda: Full("/tmp"),
    "group": lambda: ExceptionGroup("some", [Refused(1, reason="a"), KeyError("b")]),
    "pydantic": invalid,
}
CALLS = {
    "function": lambda ctx, act, deeper: ctx.run(act),
    "retried": lambda ctx, act, deeper: ctx.run(act, retry=Retry(attempts=2, first_delay=0.01)),
    "nested": lambda ctx, act, deeper: ctx.run(deeper, ctx),
    "effect": lambda ctx, act, deeper: ctx.effect(act, key="act"),
    "map": lambda ctx, act, deeper: ctx.map(act, [1, 2]),
}


def shown(error):
    if isinstance(error, ValidationError):  # its arguments are objects that show their address
        return repr(error.errors()) + str(error)
    parts = [shown(part) for part in getattr(error, "exceptions", ())]
    bases = [f"{kind.__module__}.{kind.__qualname__}" for kind in type(error).__mro__]
    return str([bases, error.args if not parts else "", vars(error), str(error), parts])


async def restarted(url, flow, **start):
    """Run a flow to its question, in a second runtime to its end, and replay it."""
    async with Runtime(url, workflows=[flow]) as runtime:
        run = await runtime.start(flow, **start)
        while not await run.questions():
            await asyncio.sleep(0.01)
            if await run.status() == "failed":
                await run.result()
    async with Runtime(url, workflows=[flow]) as runtime:
        run = await runtime.get(run.id)
        await run.answer("go", True)
        output = await run.result()
        assert await (await runtime.replay(run.id)).result() == output
        return output


@STORES
@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("kind", ERRORS)
async def test_what_a_call_raised_is_caught_the_same_on_resume_and_replay(url, kind, call):
    act, deeper = raised(ERRORS[kind])
    entries = []

    @workflow
    async def flow(ctx: Context) -> str:
        try:
            await CALLS[call](ctx, act, deeper)
        except Exception as error:  # noqa: BLE001  of every kind there is
            entries.append(shown(error))
        await ctx.ask(bool, "go on?", key="go")
        return entries[-1]

    await restarted(url, flow)
    assert len(entries) == 3
    assert len(set(entries)) == 1


@STORES
async def test_a_childs_failure_is_caught_the_same_with_its_cause(url):
    @workflow
    async def child(ctx: Context) -> str:
        raise Refused(3, reason="tired")

    entries = []

    @workflow
    async def flow(ctx: Context) -> str:
        try:
            await ctx.run(child)
        except RunFailed as error:
            place = "raise Refused(3" in error.traceback
            entries.append(f"{error} {error.path} {error.__cause__!r} {place}")
        await ctx.ask(bool, "go on?", key="go")
        return "caught"

    await restarted(url, flow)
    assert entries == [entries[0]] * 3
    assert entries[0].endswith("Refused('refused: tired') True")


@STORES
async def test_an_exceeded_budget_keeps_its_facts(url):
    agent = Agent("dear", model=ScriptedModel(lambda request: "x"), max_tokens=100)
    entries = []

    @workflow
    async def flow(ctx: Context) -> str:
        try:
            await ctx.run(agent, "hello")
        except BudgetExceeded as error:
            entries.append((error.needed, error.left, error.unit, error.path, str(error)))
        await ctx.ask(bool, "go on?", key="go")
        return "caught"

    await restarted(url, flow, budget=Budget(tokens=10))
    assert len(set(entries)) == 1
    assert entries[0][0] > 10


def refuses(request):
    raise ModelError(message="no", endpoint="http://e", status=503)


def breaks(request):
    raise RuntimeError("cuda")


@STORES
@pytest.mark.parametrize("script", [refuses, breaks], ids=["refuses", "breaks"])
async def test_a_models_error_is_a_model_error_that_keeps_its_facts(url, script):
    agent = Agent("a", model=ScriptedModel(script))
    entries = []

    @workflow
    async def flow(ctx: Context) -> str:
        try:
            await ctx.run(agent, "hello")
        except ModelError as error:
            entries.append((type(error), error.endpoint, error.status, str(error)))
        await ctx.ask(bool, "go on?", key="go")
        return "caught"

    await restarted(url, flow)
    assert len(set(entries)) == 1
    assert entries[0][2] == (503 if script is refuses else None)


@pytest.mark.parametrize("kind", [RuntimeError, ValueError, KeyError, Refused, TypeError, OSError])
async def test_what_a_model_raises_of_its_own_names_the_model(kind):
    def script(request):
        raise Refused(1, reason="cuda") if kind is Refused else kind("cuda")

    agent = Agent("a", model=ScriptedModel(script))
    with pytest.raises(ModelError, match=f"the model 'scripted' raised {kind.__name__}: .*cuda"):
        await agent.run("hello")


class Mute(Exception):
    def __str__(self):
        raise RuntimeError("no text")

    __repr__ = __str__


async def mute() -> str:
    raise Mute


@tool(effect="read")
async def mute_tool() -> str:
    """Raise."""
    raise Mute


mute_agent = Agent(
    "mutes",
    tools=[mute_tool],
    model=ScriptedModel(
        lambda request: (
            request.messages[-1].text if len(request.messages) > 1 else ToolCall("mute_tool", {})
        )
    ),
)


@workflow
async def mute_child(ctx: Context) -> str:
    raise Mute


MUTE = {
    "node": lambda ctx: mute(),
    "function": lambda ctx: ctx.run(mute),
    "effect": lambda ctx: ctx.effect(mute),
    "child": lambda ctx: ctx.run(mute_child),
    "map": lambda ctx: ctx.map(lambda item: mute(), [1]),
}


@STORES
@pytest.mark.parametrize("call", MUTE)
async def test_an_error_without_a_text_fails_the_step(url, call):
    @workflow
    async def flow(ctx: Context) -> str:
        return str(await MUTE[call](ctx))

    async with Runtime(url, workflows=[flow, mute_child]) as runtime, asyncio.timeout(10):
        run = await runtime.start(flow)
        with pytest.raises(RunFailed, match="whose text raises RuntimeError"):
            await run.result()


async def test_a_tools_error_without_a_text_is_told_to_the_model():
    async with asyncio.timeout(10):
        result = await mute_agent.run("go")
    assert "Mute: <Mute, whose text raises RuntimeError>" in result.output


async def bad(item: int = 0) -> str:
    raise ValueError("boom")


async def grouped(item: int = 0) -> str:
    async with asyncio.TaskGroup() as group:
        group.create_task(bad())
    return ""


@workflow
async def grouped_child(ctx: Context) -> str:
    return await grouped()


@tool(effect="read")
async def grouped_tool() -> str:
    """Raise."""
    return await grouped()


GROUPS = {
    "node": lambda ctx: grouped(),
    "function": lambda ctx: ctx.run(grouped),
    "effect": lambda ctx: ctx.effect(grouped),
    "child": lambda ctx: ctx.run(grouped_child),
    "map": lambda ctx: ctx.map(grouped, [1]),
}


@STORES
@pytest.mark.parametrize("call", GROUPS)
async def test_a_task_groups_failure_names_its_cause(url, call):
    @workflow
    async def flow(ctx: Context) -> str:
        return str(await GROUPS[call](ctx))

    async with Runtime(url, workflows=[flow, grouped_child]) as runtime:
        run = await runtime.start(flow)
        with pytest.raises(RunFailed, match=r"1 sub-exception.*: ValueError: boom") as raised:
            await run.result()
    assert 'raise ValueError("boom")' in raised.value.traceback


async def test_a_task_groups_failure_in_a_tool_names_its_cause():
    def script(request):
        is_told = request.messages[-1].role == "tool"
        return request.messages[-1].text if is_told else ToolCall("grouped_tool", {})

    agent = Agent("a", tools=[grouped_tool], model=ScriptedModel(script))
    assert "ValueError: boom" in (await agent.run("go")).output


async def looks() -> str:
    raise Refused(3, reason="tired")


FAILS = {
    "node": lambda ctx: looks(),
    "function": lambda ctx: ctx.run(looks),
    "effect": lambda ctx: ctx.effect(looks),
    "map": lambda ctx: ctx.map(lambda item: looks(), [1]),
    "nested": lambda ctx: ctx.run(raised(lambda: Refused(3, reason="tired"))[1], ctx),
}


@pytest.mark.parametrize("call", FAILS)
async def test_the_end_of_a_run_has_the_users_error_and_traceback(runtime, call, caplog):
    @workflow
    async def flow(ctx: Context) -> str:
        return str(await FAILS[call](ctx))

    with caplog.at_level(logging.INFO, "crew"):
        run = await runtime.start(flow)
        with pytest.raises(RunFailed) as caught:
            await run.result()
    error = caught.value
    assert isinstance(error.__cause__, Refused)
    assert error.__cause__.code == 3
    assert "await FAILS[call](ctx)" in error.traceback
    assert "in looks" in error.traceback or "raise make()" in error.traceback
    assert "crew/run/driver.py" not in error.traceback
    logged = {record.getMessage(): record for record in caplog.records}
    assert logged["step.failed"].traceback == error.traceback
    assert logged["run.failed"].traceback == error.traceback


def broken_agent():
    return Agent("broken", model=ScriptedModel(breaks))


def failing_graph():
    graph = Graph("g", input=str, output=str)

    @graph.node
    async def node(ctx: Context, text: str) -> str:
        raise Refused(3, reason="tired")

    return graph


@workflow
async def failing(ctx: Context, text: str) -> str:
    raise Refused(3, reason="tired")


@workflow
async def calling(ctx: Context, text: str) -> str:
    return await ctx.run(looks)


@workflow
async def acting(ctx: Context, text: str) -> str:
    return await ctx.effect(looks)


@pytest.mark.parametrize(
    "made",
    [failing_graph, lambda: failing, lambda: calling, lambda: acting, broken_agent],
    ids=["graph", "plain", "function", "effect", "agent"],
)
def test_run_sync_shows_the_error_alone(made, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Exception, match=r"tired|cuda") as raised:
        made().run_sync("go")
    chain, error = [], raised.value
    while error is not None:
        chain.append(str(error))
        error = error.__cause__ or error.__context__
    assert not [text for text in chain if "no running event loop" in text]
