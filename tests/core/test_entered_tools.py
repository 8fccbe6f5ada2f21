"""A tool that takes a context holds the run: an agent enters it like a node."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from crew import (
    Agent,
    Budget,
    Context,
    Image,
    Retry,
    Run,
    RunFailed,
    Runtime,
    ToolCall,
    tool,
    workflow,
)
from crew.config import Settings
from crew.errors import AskError, GraphError, StoreError, ToolError
from crew.hosts import HostLost
from crew.hosts.local import LocalHosts
from crew.journal.opening import open_store
from crew.llm.terms import Terms
from crew.testing import CrashingStore, ScriptedModel
from tests.core.lives import SECONDS, result, until

EVERYTHING = 10_000


class Office:
    """A boss who asks a searcher, and has an order settled by a person, a pause and an act."""

    def __init__(self) -> None:
        self.acts: Counter[str] = Counter()
        self.asked: Counter[str] = Counter()
        self.entered = 0
        searcher = Agent("searcher", model=ScriptedModel(self._search), tools=[self._page()])
        model = ScriptedModel(self._lead)
        boss = Agent("boss", model=model, tools=[searcher.as_tool("search"), self._settle()])

        @workflow(name="office")
        async def office(ctx: Context, text: str) -> str:
            return (await ctx.run(boss, text)).output

        self.flow = office

    def _page(self) -> Any:
        @tool(effect="idempotent")
        def page(number: int) -> str:
            """Read a page."""
            self.acts[f"page {number}"] += 1
            return f"page {number}"

        return page

    def _settle(self) -> Any:
        def refund(order: str, idempotency_key: str) -> str:
            self.acts[f"refund {idempotency_key}"] += 1
            return f"refunded {order}"

        @tool
        async def settle(ctx: Context, order: str) -> str:
            """Settle an order."""
            self.entered += 1
            before = await ctx.now()
            await ctx.sleep(0.001)
            if not await ctx.ask(bool, f"Refund {order}?", key="go"):
                return "refused"
            both = await asyncio.gather(
                ctx.effect(refund, order, unknown="retry"), ctx.run(str.upper, order)
            )
            assert await ctx.now() >= before
            return " ".join(both)

        return settle

    def _said(self, who: str, request: Any) -> int:
        turn = sum(message.role == "assistant" for message in request.messages)
        self.asked[f"{who} {turn}"] += 1
        return turn

    def _search(self, request: Any) -> Any:
        if self._said("searcher", request) == 0:
            return [ToolCall("page", {"number": 1}), ToolCall("page", {"number": 2})]
        return "found " + ", ".join(m.text for m in request.messages if m.role == "tool")

    def _lead(self, request: Any) -> Any:
        turn = self._said("boss", request)
        if turn == 0:
            return [ToolCall("search", {"text": "who?"}), ToolCall("settle", {"order": "a1"})]
        return " | ".join(message.text for message in request.messages if message.role == "tool")


OUTPUT = "found page 1, page 2 | refunded a1 A1"


async def gone_through(url: str, office: Office, after: int) -> tuple[Any, int]:
    """Run it on a store that goes down once; return what it gives, and its number of events."""
    kept = open_store(url)
    try:
        store = CrashingStore(kept, after=after)
        async with Runtime(store, workflows=[office.flow]) as runtime:
            run = await runtime.start(office.flow, "go", key="one")
            await to_its_end(run, lambda: store.is_down)
        async with Runtime(kept, workflows=[office.flow]) as runtime:
            run = await runtime.start(office.flow, "go", key="one")
            await to_its_end(run, lambda: False)
            return await result(run), len(await run.recorded())
    finally:
        kept.close()


async def to_its_end(run: Run, is_down: Callable[[], bool]) -> None:
    """Answer what it asks, until it ends or its store is down."""
    async with asyncio.timeout(SECONDS):
        while not is_down() and await run.status() not in ("completed", "failed"):
            if await run.questions():
                with contextlib.suppress(StoreError, AskError):
                    await run.answer("go", True)
            await asyncio.sleep(0.002)


async def test_it_asks_waits_and_acts_beneath_the_call_of_its_agent(runtime):
    office = Office()
    run = await runtime.start(office.flow, "go")
    assert await until(run, "waiting") == "waiting"
    (question,) = await run.questions()
    assert question.question == "Refund a1?"
    await run.answer("go", True)
    assert await result(run) == OUTPUT
    ends = [event.path for event in await run.recorded() if event.kind.endswith(".completed")]
    assert "office[0]/boss/settle.0/effect:0/refund" in ends
    assert "office[0]/boss/search.0/searcher" in ends


@pytest.mark.parametrize("url", ["sqlite", "postgres"], indirect=True)
@pytest.mark.parametrize("after", range(2, 38, 5))
async def test_a_crash_anywhere_repeats_no_call_and_no_act_in_a_database(url, after):
    await crashed(url, after)


@pytest.mark.parametrize("after", range(2, 38))
async def test_a_crash_anywhere_repeats_no_call_and_no_act(tmp_path, after):
    await crashed(f"sqlite:///{tmp_path}/runs.db", after)


async def crashed(url: str, after: int) -> None:
    office = Office()
    output, _ = await gone_through(url, office, after)
    assert output == OUTPUT
    # What was under way when the store went down may be made once more: it has no end on record.
    assert sum(office.asked.values()) <= 4 + 2
    assert set(office.asked) == {"boss 0", "searcher 0", "searcher 1", "boss 1"}
    (refunds,) = [count for act, count in office.acts.items() if act.startswith("refund")]
    assert refunds <= 2


async def test_the_crashes_reach_each_of_its_events(tmp_path):
    _, events = await gone_through(f"sqlite:///{tmp_path}/runs.db", Office(), EVERYTHING)
    assert 30 <= events <= 38


async def test_a_run_that_waits_in_a_tool_leaves_memory_and_goes_on_elsewhere(url):
    office = Office()
    async with Runtime(url, workflows=[office.flow]) as runtime:
        run = await runtime.start(office.flow, "go")
        await until(run, "waiting")
    async with Runtime(url, workflows=[office.flow]) as runtime:
        run = await runtime.get(run.id)
        await run.answer("go", True)
        assert await result(run) == OUTPUT
    assert all(count == 1 for count in [*office.acts.values(), *office.asked.values()])
    assert office.entered == 2


async def test_it_acts_at_most_once_where_a_crash_hid_it(url):
    acts: list[str] = []

    def pay(order: str) -> str:
        acts.append(order)
        return "paid"

    @tool
    async def settle(ctx: Context, order: str) -> str:
        """Settle an order."""
        return await ctx.effect(pay, order)

    model = ScriptedModel(
        lambda request: ToolCall("settle", {"order": "a"}) if len(request.messages) == 1 else "ok"
    )
    agent = Agent("clerk", model=model, tools=[settle])

    @workflow(name="clerks")
    async def clerks(ctx: Context, text: str) -> str:
        return (await ctx.run(agent, text)).output

    kept = open_store(url)
    try:
        store = CrashingStore(kept, after=EVERYTHING)
        async with Runtime(store, workflows=[clerks]) as runtime:
            events = len(await (await done(runtime, clerks)).recorded())
        unknown = 0
        for after in range(2, events):
            acts.clear()
            store = CrashingStore(kept, after=after)
            async with Runtime(store, workflows=[clerks]) as runtime:
                run = await runtime.start(clerks, "x", key=f"{after}")
                while not store.is_down:
                    await asyncio.sleep(0.002)
            async with Runtime(kept, workflows=[clerks]) as runtime:
                run = await runtime.start(clerks, "x", key=f"{after}")
                await until(run, "completed", "failed")
                if (failed := await run.status()) == "failed":
                    with pytest.raises(RunFailed, match="EffectUnknown"):
                        await result(run)
                unknown += failed == "failed"
            assert len(acts) <= 1
        assert unknown >= 1
    finally:
        kept.close()


async def done(runtime: Runtime, flow: Any) -> Any:
    run = await runtime.start(flow, "x")
    await result(run)
    return run


def agent_with(*tools: Any, **options: Any) -> Agent[Any]:
    """Return an agent that calls its one tool, and answers with what that gave."""

    def reply(request: Any) -> Any:
        if request.messages[-1].role == "tool":
            return request.messages[-1].text
        return ToolCall(request.tools[0].name, options.get("arguments", {}))

    return Agent("agent", model=ScriptedModel(reply), tools=tools)


async def output_of(runtime: Runtime, agent: Agent[Any], **options: Any) -> str:
    @workflow(name="flow")
    async def flow(ctx: Context, text: str) -> str:
        return (await ctx.run(agent, text)).output

    return await result(await runtime.start(flow, "x", **options))


async def test_its_error_is_for_the_model_to_read(runtime):
    @tool
    async def fails(ctx: Context) -> str:
        """Fail."""
        await ctx.run(str.upper, "x")
        raise ValueError("no stock")

    assert await output_of(runtime, agent_with(fails)) == "error: ValueError: no stock"


async def test_arguments_that_do_not_fit_are_for_the_model_to_mend(runtime):
    @tool
    async def count(ctx: Context, number: int) -> int:
        """Count."""
        return number

    text = await output_of(runtime, agent_with(count, arguments={"number": "many"}))
    assert text.startswith("error: the arguments of tool 'count' do not fit")


async def test_what_it_leaves_is_ended_with_it(runtime):
    ended: list[str] = []

    @tool
    async def leaves(ctx: Context) -> str:
        """Leave a task."""

        async def left() -> None:
            try:
                await asyncio.sleep(60)
            finally:
                ended.append("left")

        asyncio.create_task(left())  # noqa: RUF006  that is what is tested
        await asyncio.sleep(0)
        return "gone"

    assert await output_of(runtime, agent_with(leaves)) == "gone"
    assert ended == ["left"]


async def test_it_spends_from_the_budget_of_the_call_around(runtime):
    inner = Agent("inner", model=ScriptedModel(lambda request: "word " * 50))

    @tool
    async def spends(ctx: Context) -> str:
        """Spend."""
        for number in range(10):
            await ctx.run(inner, f"again {number}")
        return "all"

    with pytest.raises(RunFailed, match="BudgetExceeded"):
        await output_of(runtime, agent_with(spends), budget=Budget(calls=5))


async def test_agents_that_ask_agents_without_end_are_stopped(runtime):
    agent = agent_with()

    @tool
    async def again(ctx: Context) -> str:
        """Ask once more."""
        return (await ctx.run(agent, "x")).output

    agent.tools["again"] = again
    agent.holds_run = True
    text = await output_of(runtime, agent)
    assert "16 deep already" in text


async def test_a_timeout_in_it_is_journalled(runtime):
    @tool
    async def slow(ctx: Context) -> str:
        """Be slow."""
        try:
            async with ctx.timeout(0.05):
                await ctx.ask(bool, "?")
        except TimeoutError:
            return "too late"
        return "in time"

    assert await output_of(runtime, agent_with(slow)) == "too late"


async def test_the_agent_is_cancelled_with_its_tools(runtime):
    ends: list[str] = []

    @tool
    async def waits(ctx: Context) -> str:
        """Wait."""
        try:
            return str(await ctx.ask(bool, "?"))
        finally:
            ends.append("cancelled")

    agent = agent_with(waits)

    @workflow(name="flow")
    async def flow(ctx: Context, text: str) -> str:
        try:
            async with ctx.timeout(0.1):
                await ctx.run(agent, text)
        except TimeoutError:
            assert not ctx.thread.messages
            return "late"
        return "?"

    run = await runtime.start(flow, "x")
    assert await result(run) == "late"
    assert ends == ["cancelled"]
    assert not await run.questions()


def test_a_tool_that_holds_the_run_has_no_effect_of_its_own():
    with pytest.raises(ToolError, match="leave effect= out"):

        @tool(effect="once")
        async def acts(ctx: Context) -> str:
            """Act."""
            return ""


@pytest.mark.parametrize("what", ["ask", "sleep", "map", "thread", "deps", "child", "budget"])
async def test_what_only_a_run_has_is_refused_outside(what):
    @workflow(name="child")
    async def child(ctx: Context, text: str) -> str:
        return text

    @tool
    async def uses(ctx: Context) -> str:
        """Use it."""
        match what:
            case "ask":
                await ctx.ask(bool, "?")
            case "sleep":
                await ctx.sleep(1)
            case "map":
                await ctx.map(str.upper, ["x"])
            case "thread":
                str(ctx.thread)
            case "deps":
                str(ctx.deps)
            case "child":
                await ctx.run(child, "x")
            case "budget":
                await ctx.run(str.upper, "x", budget=Budget(calls=1))
        return "?"

    with pytest.raises(GraphError, match=r"by ctx\.run\(agent, text\)"):
        await agent_with(uses).run("x")


async def test_what_is_there_outside_a_run_is_called_as_it_is():
    acted: list[str] = []

    def act(order: str, idempotency_key: str) -> str:
        acted.append(order)
        return f"{order} {len(idempotency_key)}"

    async def fails(text: str) -> str:
        acted.append(text)
        if len(acted) < 3:
            raise ConnectionError
        return "third"

    inner = Agent("inner", model=ScriptedModel(lambda request: "inner"))

    @tool
    async def uses(ctx: Context) -> str:
        """Use what there is."""
        ctx.progress("on it")
        with pytest.raises(TimeoutError):
            async with ctx.timeout(0.01):
                await asyncio.sleep(60)
        said = (await ctx.run(inner, "x")).output
        third = await ctx.run(fails, "again", retry=Retry(attempts=3, first_delay=0.001))
        return f"{said} {third} {await ctx.effect(act, 'a1')} {await ctx.now() > 0}"

    assert (await agent_with(uses).run("x")).output == "inner third a1 32 True"


async def test_agents_ask_agents_and_hand_on_outside_a_run():
    maths = Agent("maths", model=ScriptedModel(lambda request: "42"))
    replies = [ToolCall("sum", {"text": "6 * 7"}), lambda request: request.messages[-1].text]
    asks = Agent("asks", model=ScriptedModel(replies), tools=[maths.as_tool("sum")])
    desk = Agent("desk", model=ScriptedModel([ToolCall("transfer_to_asks", {})]), handoffs=[asks])
    answer = await desk.run("what is 6 * 7?")
    assert (answer.output, answer.agent) == ("42", "asks")


async def test_errors_outside_a_run_are_for_the_model_too():
    @tool
    async def fails(ctx: Context) -> str:
        """Fail."""
        raise ValueError("no stock")

    assert (await agent_with(fails).run("x")).output == "error: ValueError: no stock"


async def test_the_context_of_a_step_is_refused_in_a_plain_tool(runtime):
    held: list[Context] = []

    @tool
    async def plain() -> str:
        """Use what it must not."""
        return await held[0].run(str.upper, "x")

    agent = agent_with(plain)

    @workflow(name="flow")
    async def flow(ctx: Context, text: str) -> str:
        held.append(ctx)
        return (await ctx.run(agent, text)).output

    with pytest.raises(RunFailed, match="inside the agent 'agent'"):
        await result(await runtime.start(flow, "x"))


async def test_it_may_give_an_image(runtime):
    @tool
    async def look(ctx: Context) -> Image:
        """Look."""
        await ctx.run(str.upper, "x")
        return Image(b"\x89PNG", "image/png")

    seen: list[Any] = []

    def reply(request: Any) -> Any:
        if request.messages[-1].role == "tool":
            seen.extend(request.messages[-1].parts)
            return "seen"
        return ToolCall("look", {})

    assert (
        await output_of(runtime, Agent("eye", model=ScriptedModel(reply), tools=[look])) == "seen"
    )
    assert seen == [Image(b"\x89PNG", "image/png")]


async def test_an_act_in_it_is_given_its_time_however_often_its_agent_is_cancelled(runtime):
    acts: list[str] = []
    acting = asyncio.Event()

    async def act(order: str) -> str:
        acting.set()
        await asyncio.sleep(0.3)
        acts.append(order)
        return order

    @tool
    async def settle(ctx: Context) -> str:
        """Settle."""
        return await ctx.effect(act, "a1")

    agent = agent_with(settle)

    @workflow(name="flow")
    async def flow(ctx: Context, text: str) -> str:
        calling = asyncio.create_task(ctx.run(agent, text))
        await acting.wait()
        for _ in range(3):
            calling.cancel()
            await asyncio.sleep(0.01)
        with contextlib.suppress(asyncio.CancelledError):
            await calling
        return "cancelled"

    run = await runtime.start(flow, "x")
    assert await result(run) == "cancelled"
    assert acts == ["a1"]
    kinds = [event.kind for event in await run.recorded()]
    assert kinds.index("effect.completed") < kinds.index("agent.cancelled")


class LosesHost(LocalHosts):
    """A host that is lost while the run it works for asks a person; its agent dies a bit later."""

    def __init__(self) -> None:
        super().__init__(Settings())
        self.is_lost = asyncio.Event()
        self.lost: asyncio.Task[Any] | None = None

    async def perform(self, agent, task, calls):
        if self.lost is not None:
            asyncio.get_running_loop().call_later(0.05, self.lost.cancel)
            return await super().perform(agent, task, calls)
        self.lost = asyncio.create_task(super().perform(agent, task, calls))
        await self.is_lost.wait()
        raise HostLost("killed")


@pytest.mark.parametrize("what", ["a tool that asks", "an approval"])
async def test_what_an_agent_of_a_lost_host_waits_for_is_asked_once(url, what):
    entered: list[str] = []

    @tool
    async def settle(ctx: Context) -> str:
        """Settle."""
        entered.append("entered")
        return "yes" if await ctx.ask(bool, "?") else "no"

    @tool(approve=True)
    async def refund() -> str:
        """Refund."""
        entered.append("entered")
        return "yes"

    agent = agent_with(settle if what == "a tool that asks" else refund)

    @workflow(name="flow")
    async def flow(ctx: Context, text: str) -> str:
        return (await ctx.run(agent, text)).output

    hosts = LosesHost()
    async with Runtime(url, hosts=hosts) as runtime:
        run = await runtime.start(flow, "x")
        async with asyncio.timeout(SECONDS):
            while not (questions := await run.questions()):
                await asyncio.sleep(0.01)
        hosts.is_lost.set()
        await asyncio.sleep(0.2)
        await run.answer(questions[0].key, True)
        assert await result(run) == "yes"
        assert [event.kind for event in await run.recorded()].count("ask.opened") == 1
    assert entered == ["entered"]


async def test_it_may_give_what_is_big(runtime):
    @tool
    async def big(ctx: Context) -> str:
        """Give much."""
        return "x" * 5_000_000

    text = await output_of(runtime, agent_with(big))
    assert text.endswith("[cut: 5000000 characters in all]")


async def test_a_cancel_that_nobody_asked_for_is_its_error(runtime):
    @tool
    async def odd(ctx: Context) -> str:
        """Raise what ends tasks."""
        raise asyncio.CancelledError

    assert (await output_of(runtime, agent_with(odd))).startswith("error: NotAnException")


async def test_a_plain_timeout_in_it_keeps_the_run_in_memory(url):
    @tool
    async def asks(ctx: Context) -> str:
        """Ask for a moment."""
        try:
            async with asyncio.timeout(0.3):
                return str(await ctx.ask(bool, "?"))
        except TimeoutError:
            return "nobody answered"

    async with Runtime(url) as runtime:
        assert await output_of(runtime, agent_with(asks)) == "nobody answered"


async def test_an_endpoint_with_a_limit_is_waited_for_outside_a_run_too():
    class Paced(ScriptedModel):
        terms = Terms(requests_per_second=1000.0)

    agent = Agent("agent", model=Paced(lambda request: "done"))
    assert [(await agent.run(f"{n}")).output for n in range(3)] == ["done"] * 3


async def test_bytes_are_refused_with_what_to_give_instead(runtime):
    @tool
    async def raw(ctx: Context):
        """Give bytes."""
        return b"\x00"

    text = await output_of(runtime, agent_with(raw))
    assert text.startswith("error: no model reads bytes; return text, or an Image")


@pytest.mark.parametrize("waits", ["a timer", "cancelled"])
async def test_a_tool_may_set_a_timer_and_may_not_cancel_its_run(waits):
    @tool
    async def odd(ctx: Context) -> str:
        """Wait for a person, or break off."""
        if waits == "cancelled":
            raise asyncio.CancelledError
        return str(await asyncio.wait_for(ctx.ask(bool, "Go on?", key="go"), 3600))

    model = ScriptedModel(
        lambda request: ToolCall("odd") if len(request.messages) < 2 else request.messages[-1].text
    )
    agent = Agent("clerk", model=model, tools=[odd])

    @workflow
    async def flow(ctx: Context, text: str) -> str:
        return (await ctx.run(agent, text)).output

    async with Runtime(":memory:", workflows=[flow]) as runtime:
        run = await runtime.start(flow, "hello")
        if waits == "a timer":
            await until(run, "waiting")
            await run.answer("go", True)
            assert await result(run) == "True"
        else:
            assert "raised CancelledError" in await result(run)
