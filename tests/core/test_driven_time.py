"""What a call or a node may take counts the time in which its run is driven, and no other."""

import asyncio
import time

import pytest
from pydantic import BaseModel

from crew import Agent, Budget, Context, Graph, Quorum, Retry, RunFailed, Runtime, workflow
from crew.errors import StepTimeout
from crew.journal.memory import MemoryStore
from crew.testing import CrashingStore, ScriptedModel, SeededLoop, ToolCall
from crew.tool import tool

OUTAGE = 300.0
"""Seconds for which nothing runs."""
LIMIT = 60.0
made: list[str] = []


class In(BaseModel):
    n: int = 0


class Out(BaseModel):
    text: str


class Item(BaseModel):
    n: int


async def work(seconds: float) -> str:
    made.append("work")
    await asyncio.sleep(seconds)
    return "done"


@tool(effect="read")
async def look(seconds: float) -> str:
    """Look for so many seconds."""
    return await work(seconds)


def of_function(seconds):
    @workflow
    async def flow(ctx: Context, given: In) -> str:
        try:
            return await ctx.run(work, seconds, timeout=LIMIT)
        except StepTimeout:
            return "late"

    return flow


def of_keyed_function(seconds):
    @workflow
    async def flow(ctx: Context, given: In) -> str:
        retry = Retry(attempts=2, first_delay=0.01)
        return await ctx.run(work, seconds, key="k", timeout=LIMIT, retry=retry)

    return flow


def of_context_function(seconds):
    async def inner(ctx: Context) -> str:
        return await ctx.run(work, seconds)

    @workflow
    async def flow(ctx: Context, given: In) -> str:
        try:
            return await ctx.run(inner, ctx, timeout=LIMIT)
        except StepTimeout:
            return "late"

    return flow


def of_agent(seconds):
    @workflow
    async def flow(ctx: Context, given: In) -> str:
        model = ScriptedModel(
            lambda asked: (
                "done"
                if asked.messages[-1].role == "tool"
                else ToolCall("look", {"seconds": seconds})
            )
        )
        try:
            agent = Agent("looker", model=model, tools=[look])
            return (await ctx.run(agent, "go", timeout=LIMIT)).output
        except StepTimeout:
            return "late"

    return flow


def of_node(seconds):
    graph = Graph("of_node", input=In, output=Out)

    @graph.node(timeout=LIMIT)
    async def only(ctx: Context, given: In) -> Out:
        return Out(text=await ctx.run(work, seconds))

    return graph


FORMS = [of_function, of_context_function, of_agent, of_node]


class Lives:
    """The lives of one run on virtual time, with outages between them."""

    def __init__(self, flow):
        self.flow = flow
        self.store = MemoryStore()
        self.now = 1_000_000.0
        self.run = None

    def live(self, seconds=None, *, killed=False):
        """Live to the run's end, or for some seconds; return what it came to, and what it took."""
        loop = SeededLoop(1, limit=100_000.0, began=self.now)
        with asyncio.Runner(loop_factory=lambda: loop) as runner:
            output = runner.run(self._life(seconds, killed))
            took = loop.wall_clock() - self.now
        self.now += took
        self.store.forget_owners()
        return output, took

    async def _life(self, seconds, killed):
        store = CrashingStore(self.store, after=1_000_000)
        async with Runtime(store, workflows=[self.flow]) as runtime:
            run = await (runtime.get(self.run) if self.run else runtime.start(self.flow, In()))
            self.run = run.id
            if seconds is None:
                output = await ended(run)
                assert output == await ended(await runtime.replay(run.id))
                return output
            await asyncio.sleep(seconds)
            store.is_down = killed
            return None

    def outage(self):
        self.now += OUTAGE


async def ended(run):
    try:
        output = await run.result()
    except RunFailed as failed:
        return "late" if failed.cause_type == "StepTimeout" else failed.cause_type
    return getattr(output, "text", output)


killed = pytest.mark.parametrize("killed", [True, False], ids=["killed", "left"])


@killed
@pytest.mark.parametrize("form", FORMS)
def test_an_outage_ends_no_call_by_its_timeout(form, killed):
    lives = Lives(form(30.0))
    lives.live(20.0, killed=killed)
    lives.outage()
    assert lives.live()[0] == "done"


@killed
@pytest.mark.parametrize("form", FORMS)
def test_after_an_outage_a_call_has_what_was_left_of_its_time(form, killed):
    lives = Lives(form(1000.0))
    lives.live(40.0, killed=killed)
    lives.outage()
    output, took = lives.live()
    assert output == "late"
    assert 15.0 < took < 35.0


def test_each_of_many_outages_leaves_a_call_its_time():
    lives = Lives(of_keyed_function(30.0))
    for _ in range(3):
        lives.live(8.0)
        lives.outage()
    assert lives.live()[0] == "done"


def test_the_time_of_a_timeout_in_the_code_goes_on_during_an_outage():
    @workflow
    async def flow(ctx: Context, given: In) -> str:
        try:
            async with ctx.timeout(LIMIT):
                return await ctx.run(work, 1000.0)
        except TimeoutError:
            return "late"

    lives = Lives(flow)
    lives.live(20.0, killed=True)
    lives.outage()
    output, took = lives.live()
    assert output == "late"
    assert took < 5.0


def quorum(after, straggles):
    graph = Graph("quorum", input=In, output=Out)

    @graph.node
    async def split(given: In) -> list[Item]:
        return [Item(n=n) for n in range(3)]

    @graph.node
    async def one(ctx: Context, item: Item) -> Out:
        return Out(text=await ctx.run(work, straggles if item.n == 2 else 0.1))

    @graph.node(join=Quorum(0.6, after=after))
    async def join(outs: list[Out]) -> Out:
        return Out(text=str(len(outs)))

    return graph


def test_a_quorum_waits_after_a_restart_for_what_was_left_of_its_time():
    lives = Lives(quorum(after=60.0, straggles=1000.0))
    lives.live(20.0, killed=True)
    output, took = lives.live()
    assert output == "2"
    assert 35.0 < took < 45.0


def test_a_straggler_that_comes_after_a_restart_comes_in_time():
    lives = Lives(quorum(after=60.0, straggles=25.0))
    lives.live(20.0, killed=True)
    assert lives.live()[0] == "3"


def backing_off(**options):
    tries = list[str]()

    async def flaky() -> str:
        tries.append("try")
        if len(tries) == 1:
            raise OSError("once")
        return "done"

    @workflow
    async def flow(ctx: Context, given: In) -> str:
        retry = Retry(attempts=3, first_delay=30.0)
        return await ctx.run(flaky, retry=retry, **options)

    return flow


@killed
@pytest.mark.parametrize("options", [{}, {"key": "k"}, {"timeout": 5.0}], ids=str)
def test_a_restart_waits_for_the_rest_of_a_calls_back_off(options, killed):
    lives = Lives(backing_off(**options))
    lives.live(20.0, killed=killed)
    output, took = lives.live()
    assert output == "done"
    assert 5.0 < took < 12.0


def test_a_replay_waits_for_no_back_off_of_calls_or_nodes():
    graph = Graph("graph", input=In, output=Out)
    tries = list[int]()

    @graph.node(retry=Retry(attempts=3, first_delay=0.2))
    async def node(ctx: Context, given: In) -> Out:
        tries.append(given.n)
        if len(tries) % 3:
            raise OSError("twice")
        return Out(text=await ctx.run(work, 0.0))

    async def both():
        async with Runtime(":memory:", workflows=[graph]) as runtime:
            run = await runtime.start(graph, In())
            await run.result()
            began = time.monotonic()
            assert (await (await runtime.replay(run.id)).result()).text == "done"
            return time.monotonic() - began

    assert asyncio.run(both()) < 0.2


async def pays_then_fails(ctx: Context, paid: list[str]) -> str:
    await ctx.effect(pay, "a", key="pay")
    made.append("try")
    if made.count("try") < 3:
        raise OSError("mail server")
    return "done"


async def pay(what: str) -> str:
    made.append("paid")
    return what


@pytest.mark.parametrize("options", [{}, {"key": "k"}, {"timeout": 50.0}], ids=str)
def test_attempts_of_a_call_repeat_no_effect_through_an_outage(options):
    made.clear()

    @workflow
    async def flow(ctx: Context, given: In) -> str:
        retry = Retry(attempts=3, first_delay=30.0)
        return await ctx.run(pays_then_fails, ctx, [], retry=retry, **options)

    lives = Lives(flow)
    lives.live(10.0, killed=True)
    lives.outage()
    assert lives.live()[0] == "done"
    assert made.count("paid") == 1
    assert made.count("try") == 3


class Work(BaseModel):
    n: int


@pytest.mark.parametrize("stuck", ["function", "sleep", "ask"])
async def test_a_run_whose_seconds_are_over_replays_to_that_end(stuck):
    @workflow
    async def flow(ctx: Context, given: In) -> str:
        await ctx.map(work, [0.0, 0.0])
        match stuck:
            case "function":
                return await ctx.run(work, 3600.0)
            case "sleep":
                await ctx.sleep(3600)
            case _:
                await ctx.ask(bool, "May it go?")
        return "done"

    async with Runtime(":memory:", workflows=[flow]) as runtime:
        run = await runtime.start(flow, In(), budget=Budget(seconds=0.3))
        assert await ended(run) == "BudgetExceeded"
        assert await ended(await runtime.replay(run.id)) == "BudgetExceeded"


async def test_a_run_that_ended_in_time_replays_after_its_budgets_seconds():
    @workflow
    async def flow(ctx: Context, given: In) -> str:
        return await ctx.run(work, 0.01)

    async with Runtime(":memory:", workflows=[flow]) as runtime:
        run = await runtime.start(flow, In(), budget=Budget(seconds=0.5))
        assert await ended(run) == "done"
        await asyncio.sleep(0.6)
        assert await ended(await runtime.replay(run.id)) == "done"


@pytest.mark.parametrize("straggler", ["function", "sleep", "ask", "agent", "effect"])
async def test_a_replay_knows_what_a_quorum_cut_off(straggler):
    graph = Graph("graph", input=In, output=Out)
    model = ScriptedModel(
        lambda asked: (
            "x" if asked.messages[-1].role == "tool" else ToolCall("look", {"seconds": 3600.0})
        )
    )

    @graph.node
    async def split(given: In) -> list[Item]:
        return [Item(n=n) for n in range(3)]

    @graph.node
    async def one(ctx: Context, item: Item) -> Work:
        if item.n == 1:
            match straggler:
                case "function":
                    await ctx.run(work, 3600.0)
                case "sleep":
                    await ctx.sleep(3600)
                case "ask":
                    await ctx.ask(bool, "May it go?")
                case "agent":
                    await ctx.run(Agent("slow", model=model, tools=[look]), "go")
                case _:
                    await ctx.effect(work, 3600.0)
        return Work(n=item.n)

    @graph.node(join=Quorum(0.6, after=0.05))
    async def join(done: list[Work]) -> Out:
        return Out(text=str([item.n for item in done]))

    async with Runtime(":memory:", workflows=[graph]) as runtime:
        run = await runtime.start(graph, In())
        assert await ended(run) == "[0, 2]"
        assert await ended(await runtime.replay(run.id)) == "[0, 2]"


@killed
@pytest.mark.parametrize("limits", [(8.0, 4000.0), (4000.0, 8.0), (4000.0, 80.0, 8.0)])
def test_of_several_calls_each_keeps_what_was_left_of_its_time(limits, killed):
    async def limited(ctx: Context, place: int, limit: float) -> str:
        try:
            return await ctx.run(
                work, 20.0 if limit == 8.0 else 30.0, timeout=limit, key=str(place)
            )
        except StepTimeout:
            return f"late after {limit}"

    @workflow
    async def flow(ctx: Context, given: In) -> list[str]:
        return list(await asyncio.gather(*(limited(ctx, n, s) for n, s in enumerate(limits))))

    lives = Lives(flow)
    lives.live(5.0, killed=killed)
    lives.outage()
    output, _ = lives.live()
    assert output == ["late after 8.0" if limit == 8.0 else "done" for limit in limits]


@pytest.mark.parametrize("stuck", ["function", "sleep", "effect"])
async def test_code_that_came_to_a_call_too_late_replays_to_the_end_of_its_time(stuck):
    @workflow
    async def flow(ctx: Context, given: In) -> str:
        await asyncio.sleep(0.5)
        match stuck:
            case "function":
                return await ctx.run(work, 0.0)
            case "sleep":
                await ctx.sleep(0.1)
            case _:
                return await ctx.effect(work, 0.0)
        return "done"

    async with Runtime(":memory:", workflows=[flow]) as runtime:
        run = await runtime.start(flow, In(), budget=Budget(seconds=0.2))
        assert await ended(run) == "BudgetExceeded"
        assert await ended(await runtime.replay(run.id)) == "BudgetExceeded"
