"""What comes of steps that nobody waits for any more, and of what they left."""

import asyncio
import contextlib

import pytest
import uvloop

from crew import (
    Context,
    Graph,
    Quorum,
    Retry,
    RunCancelled,
    RunFailed,
    Runtime,
    StoreError,
    workflow,
)
from crew.call import attempt
from crew.call.attempt import Attempt
from crew.errors import GraphError
from crew.event import Failure, StepCompleted, StepFailed, StepStarted, from_data
from crew.graph.engine import apply
from crew.graph.state import RunState
from crew.journal.memory import MemoryStore
from crew.run.waits import Waits
from crew.testing import CrashingStore
from crew.value import Codec
from tests.core.flows import Answer, Finding, Search

SECONDS = 20


async def fetch(text: str) -> str:
    return text


def searches(look_up, **options) -> Graph:
    """Two searches, of which the first to be done is enough; the join asks a person."""
    graph = Graph("searches", input=int, output=Answer)

    @graph.node
    async def plan(n: int) -> list[Search]:
        return [Search(query=str(item)) for item in range(n)]

    @graph.node(**options)
    async def search(ctx: Context, task: Search) -> Finding:
        await look_up(ctx, task.query)
        return Finding(text=task.query)

    @graph.node(join=Quorum(0.5, after=0.01))
    async def gather(ctx: Context, findings: list[Finding]) -> Answer:
        agreed = await ctx.ask(str, "Enough?", key="enough")
        return Answer(text=agreed + "".join(finding.text for finding in findings))

    return graph


async def asked(run) -> None:
    async with asyncio.timeout(SECONDS):
        while not await run.questions():
            await asyncio.sleep(0.01)


async def sleeps_after_a_call(ctx: Context, query: str) -> None:
    await ctx.run(fetch, query)
    await asyncio.sleep(60 * int(query))


async def fails_at_first(ctx: Context, query: str) -> None:
    if query == "1":
        raise OSError("not now")


@pytest.mark.parametrize(
    ("look_up", "options"),
    [
        (sleeps_after_a_call, {}),
        (fails_at_first, {"retry": Retry(attempts=2, first_delay=60)}),
    ],
    ids=["at work", "to be tried again"],
)
async def test_what_a_quorum_let_go_of_is_forgotten_by_whoever_goes_on(look_up, options):
    store, graph = MemoryStore(), searches(look_up, **options)
    async with Runtime(store, workflows=[graph]) as runtime:
        run = await runtime.start(graph, 2)
        await asked(run)
    async with Runtime(store, workflows=[graph]) as runtime, asyncio.timeout(SECONDS):
        run = await runtime.get(run.id)
        await run.answer("enough", "yes: ")
        assert (await run.result()).text == "yes: 0"


@pytest.mark.parametrize(
    "late",
    [
        StepStarted("search[1]"),
        StepCompleted("search[1]", {"text": "late"}, None),
        StepFailed("search[1]", Failure("OSError", "late"), 1, True, 0.0),
    ],
    ids=lambda event: event.kind,
)
async def test_an_event_of_a_step_that_was_let_go_changes_nothing(late):
    graph, state = searches(sleeps_after_a_call), RunState()
    async with Runtime(MemoryStore(), workflows=[graph]) as runtime:
        run = await runtime.start(graph, 2)
        await asked(run)
        for event in await run.recorded():
            apply(graph.build(), state, from_data(event.kind, event.path, event.data))
    before = set(state.steps), state.completed
    assert apply(graph.build(), state, late) == []
    assert (set(state.steps), state.completed) == before


@pytest.mark.parametrize("how", ["cancel", "fail"])
async def test_a_run_ends_in_time_whatever_its_steps_do_then(how):
    let_go, inside = asyncio.Event(), asyncio.Event()
    graph = Graph("stubborn", input=int, output=Answer)

    @graph.node
    async def plan(n: int) -> list[Search]:
        return [Search(query=str(item)) for item in range(n)]

    @graph.node
    async def search(ctx: Context, task: Search) -> Finding:
        if task.query == "1":
            await inside.wait()
            assert how == "cancel", "as it is to fail"
        try:
            inside.set()
            await asyncio.sleep(60)
        finally:
            while not let_go.is_set():
                try:
                    await let_go.wait()
                except asyncio.CancelledError:
                    continue
        return Finding(text="late")

    @graph.node
    async def gather(findings: list[Finding]) -> Answer:
        return Answer(text="never")

    async with Runtime(MemoryStore()) as runtime, asyncio.timeout(SECONDS):
        run = await runtime.start(graph, 2)
        await inside.wait()
        if how == "cancel":
            await run.cancel()
        with pytest.raises((RunCancelled, RunFailed)):
            await run.result()
        ended = [event.kind for event in await run.recorded()]
        let_go.set()
        await asyncio.sleep(0.05)
        assert [event.kind for event in await run.recorded()] == ended


async def test_a_cancel_that_comes_while_a_steps_tasks_end_is_not_lost():
    ending, let_go = asyncio.Event(), asyncio.Event()

    @workflow
    async def flow(ctx: Context) -> str:
        async def stubborn() -> None:
            try:
                await asyncio.sleep(60)
            finally:
                ending.set()
                await let_go.wait()

        asyncio.create_task(stubborn())  # noqa: RUF006  the step lets it go
        await asyncio.sleep(0)
        return "done"

    async with Runtime(MemoryStore()) as runtime, asyncio.timeout(SECONDS):
        run = await runtime.start(flow)
        await ending.wait()
        await run.cancel()
        with pytest.raises(RunCancelled):
            await run.result()
        let_go.set()


async def test_a_run_whose_failure_cannot_be_written_says_that_the_store_failed():
    store = CrashingStore(MemoryStore(), after=1000)

    @workflow
    async def flow(ctx: Context) -> str:
        store.is_down = True
        ctx.progress("lost")
        await asyncio.sleep(0.05)
        raise OSError("of the user's")

    async with Runtime(store) as runtime, asyncio.timeout(SECONDS):
        run = await runtime.start(flow)
        with pytest.raises(StoreError):
            await run.result()


async def test_a_run_whose_code_waits_for_what_it_cancelled_before_is_parked():
    entered = []

    @workflow
    async def flow(ctx: Context) -> str:
        entered.append("flow")
        task = asyncio.create_task(ctx.sleep(3600))
        if len(entered) == 1:
            await asyncio.sleep(0.05)
            task.cancel()
            await asyncio.wait([task])
            return await ctx.ask(str, "Go on?", key="go")
        await task
        return "never"

    store = MemoryStore()
    async with Runtime(store, workflows=[flow]) as runtime:
        run = await runtime.start(flow)
        await asked(run)
    async with Runtime(store, workflows=[flow]) as runtime, asyncio.timeout(SECONDS):
        run = await runtime.resume(run.id)
        while (parked := (await run.recorded())[-1]).kind != "run.parked":
            await asyncio.sleep(0.01)
    assert "the journal holds a call that the code cancelled" in parked.data["detail"]


async def test_a_timer_that_was_cancelled_is_cancelled_again_by_whoever_goes_on():
    @workflow
    async def flow(ctx: Context) -> str:
        timer = asyncio.create_task(ctx.sleep(3600))
        fetched = await ctx.run(fetch, "a")
        timer.cancel()
        await asyncio.wait([timer])
        return fetched + await ctx.ask(str, "Go on?", key="go")

    store = MemoryStore()
    async with Runtime(store, workflows=[flow]) as runtime:
        run = await runtime.start(flow)
        await asked(run)
    async with Runtime(store, workflows=[flow]) as runtime, asyncio.timeout(SECONDS):
        run = await runtime.get(run.id)
        await run.answer("go", "b")
        assert await run.result() == "ab"


@pytest.mark.parametrize(
    "loop_factory", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"]
)
def test_a_run_whose_code_will_cancel_what_it_cancelled_before_is_not_stuck(loop_factory):
    @workflow
    async def flow(ctx: Context) -> str:
        timer = asyncio.create_task(ctx.sleep(3600))
        await asyncio.wait([timer], timeout=0.2)
        timer.cancel()
        await asyncio.wait([timer])
        return "cancelled " + await ctx.ask(str, "Go on?", key="go")

    async def work() -> str:
        store = MemoryStore()
        async with Runtime(store, workflows=[flow]) as runtime:
            run = await runtime.start(flow)
            await asked(run)
        async with Runtime(store, workflows=[flow]) as runtime, asyncio.timeout(SECONDS):
            run = await runtime.get(run.id)
            await run.answer("go", "again")
            return await run.result()

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        assert runner.run(work()) == "cancelled again"


async def test_an_answer_that_comes_as_its_question_is_given_up_changes_nothing():
    changes = []
    waits = Waits(lambda: changes.append("changed"))
    codec = Codec(str, where="the answer")
    asking = asyncio.create_task(waits.answer("flow[0]/=who", codec, Attempt("flow[0]", "flow[0]")))
    await asyncio.sleep(0)
    asking.cancel()
    waits.answered("flow[0]/=who", "me")
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert (waits.until, waits.resuming) == ({}, 0)


async def test_what_a_straggler_left_on_record_is_no_part_of_a_run_that_goes_on():
    async def look_up(ctx: Context, query: str) -> None:
        if query == "1":
            await ctx.effect(fetch, query, key="act")
            await ctx.sleep(3600)

    graph, store = searches(look_up), MemoryStore()
    async with Runtime(store, workflows=[graph]) as runtime:
        run = await runtime.start(graph, 2)
        await asked(run)
        assert "timer.cancelled" in [event.kind for event in await run.recorded()]
    async with Runtime(store, workflows=[graph]) as runtime, asyncio.timeout(SECONDS):
        again = await runtime.get(run.id)
        await again.answer("enough", "yes")
        assert (await again.result()).text == "yes0"


async def test_what_goes_on_after_its_step_is_told_at_once_what_it_asks_wrongly(monkeypatch):
    monkeypatch.setattr(attempt, "STOP_SECONDS", 0.02)
    told, let_go = asyncio.Event(), asyncio.Event()

    @workflow
    async def flow(ctx: Context) -> str:
        async def stubborn() -> None:
            while not let_go.is_set():
                with contextlib.suppress(asyncio.CancelledError):
                    await let_go.wait()
            with pytest.raises(GraphError):
                await ctx.run(3)
            told.set()

        asyncio.create_task(stubborn())  # noqa: RUF006  the step lets it go
        await asyncio.sleep(0)
        return "done"

    async with Runtime(MemoryStore()) as runtime, asyncio.timeout(SECONDS):
        run = await runtime.start(flow)
        assert await run.result() == "done"
        let_go.set()
        await told.wait()
