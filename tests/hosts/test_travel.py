"""What cannot go to a Ray host, or would be changed there as a copy, is named before any run."""

import functools
import itertools
import threading
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import pytest

from crew import Agent, Context, Graph, GraphError, RunFailed, Runtime, tool, workflow
from crew.hosts.cluster import quiet_cluster
from crew.message import ToolCall
from crew.testing import ScriptedModel

pytestmark = [
    pytest.mark.ray,
    pytest.mark.xdist_group("ray"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning"),
    pytest.mark.timeout(300),
]


@dataclass
class Stats:
    calls: int = 0


SEEN: list[str] = []
PRICES = {"a1": 100}
COUNTS: Counter[str] = Counter()
NUMBERS = itertools.count()
STATS = Stats()
LOCK = threading.Lock()
USER: ContextVar[str] = ContextVar("user", default="nobody")
total = 0


def asking(*tools, name="clerk", **options):
    """Return a workflow of an agent that calls the first of its tools, once."""
    calls = [ToolCall(tools[0].name, {"text": "x"})] if tools else []
    agent = Agent(name, tools=tools, model=ScriptedModel([*calls, "ok"]), **options)

    @workflow
    async def desk(ctx: Context, text: str) -> str:
        return (await ctx.run(agent, text)).output

    return desk


@tool(effect="read")
def appends(text: str) -> int:
    """Note a text."""
    SEEN.append(text)
    return len(SEEN)


@tool(effect="read")
async def counts(text: str) -> int:
    """Count a text."""
    COUNTS[text] += 1
    return COUNTS[text]


@tool
async def numbers(text: str) -> int:
    """Number a text."""
    return next(NUMBERS)


@tool
async def tells(text: str) -> str:
    """Say who asks."""
    return USER.get()


@tool(effect="read")
async def locks(text: str) -> str:
    """Say a text alone."""
    with LOCK:
        return text


@tool
async def enters(ctx: Context, text: str) -> int:
    """Count entries."""
    STATS.calls += 1
    return STATS.calls


def grows(limit: int):
    spent = 0

    @tool
    async def spends(text: str) -> bool:
        """Spend one."""
        nonlocal spent
        spent += 1
        return spent < limit

    return spends


def checked(text: str) -> bool:
    SEEN.insert(0, text)
    return True


def noted(text: str) -> str:
    global total  # noqa: PLW0603  what is to be found
    total += 1
    return text


@workflow
async def effects(ctx: Context, text: str) -> str:
    return await ctx.effect(noted, text)


@workflow
async def maps(ctx: Context, text: str) -> int:
    await ctx.map(lambda item: PRICES.update({item: 1}), [text])
    return len(PRICES)


@workflow
async def parent(ctx: Context, text: str) -> str:
    return await ctx.run(effects, text)


graph = Graph("graph", input=str, output=str)


@graph.node
async def look_up(ctx: Context, text: str) -> str:
    del PRICES[text]
    return text


boss = Agent("boss", tools=[Agent("below", tools=[functools.partial(appends.function)])])


@workflow
async def bosses(ctx: Context, text: str) -> str:
    return (await ctx.run(boss, text)).output


REFUSED = {
    "a list": (asking(appends), ["tool 'appends' of agent 'clerk'", "'SEEN', a list"]),
    "a counter": (asking(counts), ["tool 'counts' of agent 'clerk'", "'COUNTS', a Counter"]),
    "an iterator": (asking(numbers), ["tool 'numbers' of agent", "'NUMBERS', a count"]),
    "a ContextVar": (asking(tells), ["tool 'tells' of agent", "ContextVar 'user'"]),
    "a lock": (asking(locks), ["tool 'locks' of agent 'clerk'", "'LOCK', a lock"]),
    "an object": (asking(enters), ["tool 'enters' of agent", "'STATS', a Stats"]),
    "a closure": (asking(grows(3)), ["tool 'spends' of agent", "'spent', an int"]),
    "a check": (asking(check=checked), ["agent 'clerk'", "'SEEN', a list"]),
    "an effect": (effects, ["node 'effects'", "'total', an int"]),
    "a map": (maps, ["node 'maps'", "'PRICES', a dict"]),
    "a child": (parent, ["node 'effects'", "'total', an int"]),
    "a graph": (graph, ["node 'look_up'", "'PRICES', a dict"]),
    "an agent below": (bosses, ["of agent 'below'", "'SEEN', a list"]),
}


@pytest.fixture(scope="module")
def cluster():
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("COVERAGE_PROCESS_CONFIG", raising=False)
        with quiet_cluster() as address:
            yield address


@pytest.fixture
def url(tmp_path):
    return f"sqlite:///{tmp_path}/runs.db"


@pytest.mark.parametrize(("flow", "words"), REFUSED.values(), ids=REFUSED)
async def test_what_cannot_travel_is_named_when_a_runtime_starts(cluster, url, flow, words):
    with pytest.raises(GraphError) as refused:
        async with Runtime(url, workflows=[flow], agents="ray"):
            pass
    for word in [*words, "deps="]:
        assert word in str(refused.value)


async def test_it_is_named_before_a_run_is_accepted(cluster, url):
    async with Runtime(url, agents="ray") as runtime:
        with pytest.raises(GraphError, match="'SEEN', a list"):
            await runtime.start(asking(appends), "x", key="k")
        assert await runtime.runs() == []


async def test_a_tool_made_in_a_node_that_closes_over_its_context_is_named(cluster, url):
    model = ScriptedModel([ToolCall("late", {"text": "x"}), "ok"])

    @workflow
    async def inside(ctx: Context, text: str) -> str:
        @tool
        async def late(text: str) -> str:
            """Say a text late."""
            await ctx.sleep(1)
            return text

        return (await ctx.run(Agent("clerk", tools=[late], model=model), text)).output

    async with Runtime(url, workflows=[inside], agents="ray") as runtime:
        with pytest.raises(RunFailed, match="'late' of agent 'clerk' holds 'ctx'.*first parameter"):
            await (await runtime.start(inside, "x")).result()


async def test_a_counter_of_a_node_that_a_tool_made_in_it_changes_is_named(cluster, url):
    model = ScriptedModel([ToolCall("add", {"text": "x"}), "ok"])

    @workflow
    async def inside(ctx: Context, text: str) -> int:
        added = 0

        @tool(effect="read")
        async def add(text: str) -> int:
            """Add one."""
            nonlocal added
            added += 1
            return added

        await ctx.run(Agent("clerk", tools=[add], model=model), text)
        return added

    async with Runtime(url, workflows=[inside], agents="ray") as runtime:
        with pytest.raises(RunFailed, match="'add' of agent 'clerk' changes 'added', an int"):
            await (await runtime.start(inside, "x")).result()


async def test_a_tool_with_a_context_may_change_what_its_node_holds(cluster, url):
    model = ScriptedModel([ToolCall("add", {"text": "x"}), "ok"])

    @workflow
    async def inside(ctx: Context, text: str) -> list[str]:
        added: list[str] = []

        @tool
        async def add(ctx: Context, text: str) -> str:
            """Add a text."""
            added.append(text)
            return text

        await ctx.run(Agent("clerk", tools=[add], model=model), text)
        return added

    async with Runtime(url, workflows=[inside], agents="ray") as runtime:
        assert await (await runtime.start(inside, "x")).result() == ["x"]


@asynccontextmanager
async def open_deps() -> AsyncGenerator[threading.Lock]:
    global total  # noqa: PLW0603  what is to be found
    total += 1  # what it opens is this process's own
    yield threading.Lock()


@functools.cache
def price(text: str) -> int:
    return PRICES.get(text, 0)


@tool(effect="read")
async def reads(text: str) -> str:
    """Say what there is of a text."""
    found: list[int] = []
    found.append(price(text) + len([seen for seen in SEEN if seen == text]))
    return f"{found[0]} {STATS.calls}"


@workflow(deps=open_deps)
async def sound(ctx: Context[threading.Lock], text: str) -> str:
    agent = Agent(
        "clerk", tools=[reads], model=ScriptedModel([ToolCall("reads", {"text": "a1"}), "ok"])
    )
    with ctx.deps:
        return (await ctx.run(agent, text)).output


async def test_what_is_only_read_and_what_deps_opens_go_to_hosts(cluster, url):
    async with Runtime(url, workflows=[sound], agents="ray") as runtime:
        assert await (await runtime.start(sound, "x")).result() == "ok"


async def test_nothing_is_said_where_all_is_one_process(url):
    flow = asking(appends)
    async with Runtime(url, workflows=[flow], agents="local") as runtime:
        assert await (await runtime.start(flow, "x")).result() == "ok"
    assert SEEN == ["x"]
