"""What a node does through its context: calls, effects, questions, time, children."""

import asyncio
from functools import partial

import pytest

from crew import (
    AskError,
    Context,
    CrewError,
    Graph,
    GraphError,
    Retry,
    RunCancelled,
    RunFailed,
    Runtime,
    workflow,
)
from crew.journal.memory import MemoryStore
from tests.core.flows import Question, research


async def run(runtime, flow, value=None, **options):
    return await (await runtime.start(flow, value, **options)).result()


async def double(n: int) -> int:
    return n * 2


def triple(n: int) -> int:
    return n * 3


async def test_functions_are_called_and_recorded(runtime):
    @workflow
    async def flow(ctx: Context, n: int) -> int:
        return await ctx.run(double, n) + await ctx.run(triple, n)

    started = await runtime.start(flow, 5)
    assert await started.result() == 25
    kinds = {e.path: e.kind async for e in started.events() if "/" in e.path}
    assert kinds == {"flow[0]/double": "function.completed", "flow[0]/triple": "function.completed"}


async def test_map_keeps_the_order_of_its_items(runtime):
    async def later(n: int) -> int:
        await asyncio.sleep(0.005 if n == 0 else 0)
        return n

    @workflow
    async def flow(ctx: Context, n: int) -> list[int]:
        return await ctx.map(later, range(n), concurrency=3)

    assert await run(runtime, flow, 8) == list(range(8))


async def test_gathered_calls_get_places_by_lineage_not_by_speed(runtime):
    async def wait(text: str, seconds: float) -> str:
        await asyncio.sleep(seconds)
        return text

    @workflow
    async def flow(ctx: Context, seconds: list[float]) -> list[str]:
        calls = [ctx.run(wait, str(n), delay) for n, delay in enumerate(seconds)]
        return list(await asyncio.gather(*calls))

    started = await runtime.start(flow, [0.02, 0.0])
    assert await started.result() == ["0", "1"]
    done = [e.path async for e in started.events() if e.kind == "function.completed"]
    assert done == ["flow[0]/run:1/wait", "flow[0]/run:0/wait"]


async def test_an_error_of_a_call_can_be_caught_by_its_class(runtime):
    async def fails() -> str:
        raise KeyError("missing")

    @workflow
    async def flow(ctx: Context) -> str:
        try:
            return await ctx.run(fails)
        except KeyError as error:
            return f"caught {error}"

    assert await run(runtime, flow) == "caught 'missing'"


async def test_a_call_can_be_retried_alone(runtime):
    tries = []

    async def shaky() -> int:
        tries.append(1)
        if len(tries) < 3:
            raise OSError("again")
        return len(tries)

    @workflow
    async def flow(ctx: Context) -> int:
        return await ctx.run(shaky, retry=Retry(attempts=3, first_delay=0.001))

    assert await run(runtime, flow) == 3


async def test_a_child_workflow_is_a_run_of_its_own(runtime):
    @workflow
    async def parent(ctx: Context, text: str) -> str:
        return (await ctx.run(research(), Question(text=text))).text

    assert await run(runtime, parent, "c") == "found a, computed b, found c"
    assert {item.workflow for item in await runtime.runs()} == {"parent", "research"}


async def test_the_failure_of_a_child_workflow_can_be_caught(runtime):
    @workflow
    async def child(ctx: Context, text: str) -> str:
        raise KeyError(text)

    @workflow
    async def parent(ctx: Context, text: str) -> str:
        try:
            return await ctx.run(child, text)
        except RunFailed as error:
            return f"{error.cause_type} at {error.path}"

    assert await run(runtime, parent, "x") == "KeyError at child[0]"


async def test_now_and_random_are_recorded(runtime):
    @workflow
    async def flow(ctx: Context) -> list[float]:
        return [await ctx.now(), await ctx.random(), await ctx.random()]

    started = await runtime.start(flow)
    now, one, two = await started.result()
    assert now > 1.7e9
    assert one != two
    recorded = [e.data["value"] async for e in started.events() if e.kind == "value.completed"]
    assert recorded == [now, one, two]


async def test_sleep_waits_and_the_run_is_waiting(runtime):
    @workflow
    async def flow(ctx: Context) -> str:
        await ctx.sleep(0.15)
        return "woke"

    started = await runtime.start(flow)
    await asyncio.sleep(0.08)
    assert await started.status() == "waiting"
    assert await started.result() == "woke"


async def test_code_in_a_thread_emits_and_reads_as_other_code_does(runtime):
    @workflow
    def flow(ctx: Context, n: int) -> str:
        for number in range(n):
            ctx.emit(f"{number} ")
            ctx.progress(f"line {number}")
        return f"{len(ctx.thread.messages)} {ctx.metadata}"

    first, *others = [await runtime.start(flow, 100, thread="t") for _ in range(3)]
    assert [await each.result() for each in (first, *others)] == ["0 {}", "2 {}", "4 {}"]
    texts = [e.data["text"] async for e in first.events() if e.kind == "text.emitted"]
    assert texts == [f"{number} " for number in range(100)]


async def test_emitted_text_and_progress_are_events(runtime):
    @workflow
    async def flow(ctx: Context) -> str:
        ctx.progress("thinking")
        ctx.emit("Hello ")
        ctx.emit("you.")
        return "done"

    started = await runtime.start(flow)
    await started.result()
    told = [(e.kind, e.data["text"]) async for e in started.events() if "text" in e.data]
    assert told == [
        ("progress.made", "thinking"),
        ("text.emitted", "Hello "),
        ("text.emitted", "you."),
    ]


async def test_an_effect_gets_its_idempotency_key(runtime):
    async def pay(amount: int, idempotency_key: str) -> str:
        return f"{amount} {len(idempotency_key)}"

    @workflow
    async def flow(ctx: Context) -> str:
        return await ctx.effect(partial(pay, amount=5), key="pay")

    assert await run(runtime, flow) == "5 32"


async def test_a_key_is_used_once_in_a_step(runtime):
    @workflow
    async def flow(ctx: Context) -> int:
        await ctx.effect(double, 1, key="k")
        return await ctx.effect(double, 2, key="k")

    with pytest.raises(RunFailed, match="the key 'k' was used twice"):
        await run(runtime, flow)


async def test_a_question_waits_for_its_answer(runtime):
    @workflow
    async def flow(ctx: Context) -> str:
        return "paid" if await ctx.ask(bool, "Refund?", key="refund") else "kept"

    started = await runtime.start(flow)
    while await started.status() != "waiting":
        await asyncio.sleep(0.01)
    (question,) = await started.questions()
    assert (question.key, question.question) == ("refund", "Refund?")
    await started.answer("refund", True)
    assert await started.result() == "paid"


async def test_an_answer_of_the_wrong_type_leaves_the_question_open(runtime):
    @workflow
    async def flow(ctx: Context) -> int:
        return await ctx.ask(int, "How many?", key="n")

    started = await runtime.start(flow)
    while not await started.questions():
        await asyncio.sleep(0.01)
    with pytest.raises(AskError, match="must be int, got 'not a number'"):
        await started.answer("n", "not a number")
    assert await started.questions()
    await started.answer("n", 3)
    assert await started.result() == 3


async def test_an_answer_to_nothing_lists_what_is_open(runtime):
    @workflow
    async def flow(ctx: Context) -> bool:
        return await ctx.ask(bool, "Sure?", key="sure")

    started = await runtime.start(flow)
    while not await started.questions():
        await asyncio.sleep(0.01)
    with pytest.raises(AskError, match=r"no open question has the key 'shure'.*flow\[0\]/=sure"):
        await started.answer("shure", True)
    await started.cancel()
    with pytest.raises(RunCancelled):
        await started.result()


async def test_a_question_is_answered_from_another_process(url):
    @workflow
    async def flow(ctx: Context) -> bool:
        return await ctx.ask(bool, "Sure?", key="sure")

    async with Runtime(url) as working, Runtime(url, worker=False) as looking:
        started = await working.start(flow)
        other = await looking.get(started.id)
        while not await other.questions():
            await asyncio.sleep(0.01)
        await other.answer("sure", True)
        assert await other.result() is True


async def test_cancel_stops_a_step(runtime):
    stopped = asyncio.Event()

    @workflow
    async def flow(ctx: Context) -> str:
        try:
            await asyncio.sleep(60)
        finally:
            stopped.set()

    started = await runtime.start(flow)
    await asyncio.sleep(0.05)
    await started.cancel()
    with pytest.raises(RunCancelled):
        await started.result()
    assert stopped.is_set()
    assert await started.status() == "cancelled"


async def test_cancel_lets_an_effect_end(runtime):
    @workflow
    async def flow(ctx: Context) -> str:
        await ctx.effect(partial(asyncio.sleep, 0.2, "slept"), key="e")
        return "not reached"

    started = await runtime.start(flow)
    while not [e for e in await started.recorded() if e.kind == "effect.started"]:
        await asyncio.sleep(0.01)
    await started.cancel()
    with pytest.raises(RunCancelled):
        await started.result()
    assert [e.kind for e in await started.recorded()][-2:] == ["effect.completed", "run.cancelled"]


async def test_run_sync_inside_a_loop_says_to_use_await():
    with pytest.raises(CrewError, match=r"write `await research.run\(…\)` instead"):
        research().run_sync(Question(text="x"))


def test_run_sync_runs_a_workflow(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    answer = research().run_sync(Question(text="c"))
    assert answer.text == "found a, computed b, found c"
    assert (tmp_path / ".crew" / "crew.db").is_file()


async def test_what_is_no_callee_is_refused(runtime):
    @workflow
    async def flow(ctx: Context) -> str:
        return await ctx.run("planner", "x")

    with pytest.raises(RunFailed, match="takes an agent, a workflow or a function"):
        await run(runtime, flow)


def test_a_workflow_has_a_name_and_a_version():
    @workflow(name="other", version="7")
    async def flow(ctx: Context, n: int) -> int: ...

    assert (flow.name, flow.version, flow.input, flow.output) == ("other", "7", int, int)


def test_state_without_a_model_is_refused():
    context = Context(None, None)
    with pytest.raises(GraphError, match="Graph\\(state=Model\\)"):
        _ = context.state


async def test_what_a_step_told_is_not_told_again_when_it_is_resumed(url):
    @workflow
    async def flow(ctx: Context) -> bool:
        ctx.progress("asking")
        ctx.emit("Hello")
        return await ctx.ask(bool, "Sure?", key="sure")

    async with Runtime(url) as runtime:
        started = await runtime.start(flow)
        while not await started.questions():
            await asyncio.sleep(0.01)
    async with Runtime(url, workflows=[flow]) as runtime:
        again = await runtime.get(started.id)
        await again.answer("sure", True)
        assert await again.result() is True
        told = [event.data["text"] async for event in again.events() if "text" in event.data]
    assert told == ["asking", "Hello"]


async def test_a_question_that_was_given_up_is_closed(runtime):
    @workflow
    async def hurried(ctx: Context) -> str:
        asked = asyncio.create_task(ctx.ask(str, "Who?", key="who"))
        deadline = asyncio.create_task(ctx.sleep(0.1))
        await asyncio.wait({asked, deadline}, return_when=asyncio.FIRST_COMPLETED)
        if asked.cancel():
            return f"nobody, {await ctx.ask(str, 'Why?', key='why')}"
        return asked.result()

    run = await runtime.start(hurried)
    while [question.key for question in await run.questions()] != ["why"]:
        await asyncio.sleep(0.01)
    with pytest.raises(AskError, match="no open question has the key 'who'"):
        await run.answer("who", "me")
    await run.answer("why", "late")
    assert await run.result() == "nobody, late"


async def test_an_error_of_a_mapped_call_can_be_caught_by_its_class(runtime):
    stopped = []

    async def one(n: int) -> int:
        if n == 1:
            raise KeyError("missing")
        try:
            await asyncio.sleep(60)
        finally:
            stopped.append(n)

    @workflow
    async def flow(ctx: Context) -> str:
        try:
            return str(await ctx.map(one, range(3)))
        except KeyError as error:
            return f"caught {error}, stopped {sorted(stopped)}"

    assert await run(runtime, flow) == "caught 'missing', stopped [0, 2]"


class Unreadable(MemoryStore):
    """A store whose threads cannot be read any more, for a fault of its own."""

    is_broken = False

    def turns(self, *thread, **options):
        if self.is_broken:
            raise RuntimeError("no threads today")
        return super().turns(*thread, **options)


@pytest.mark.parametrize("is_async", [True, False])
async def test_a_fault_on_the_way_to_the_thread_is_raised_where_it_is_read(is_async):
    store = Unreadable()

    def read(ctx: Context) -> str:
        store.is_broken = True
        return str(ctx.thread.messages)

    async def read_there(ctx: Context) -> str:
        return read(ctx)

    graph = Graph("reading", input=int, output=str)

    if is_async:

        @graph.node(name="read")
        async def reads(ctx: Context, n: int) -> str:
            return await read_there(ctx)

    else:

        @graph.node(name="read")
        def reads(ctx: Context, n: int) -> str:
            return read(ctx)

    async with Runtime(store) as runtime:
        started = await runtime.start(graph, 1, thread="t")
        with pytest.raises(RunFailed, match="no threads today"):
            async with asyncio.timeout(20):
                await started.result()
