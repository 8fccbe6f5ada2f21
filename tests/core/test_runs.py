"""Starting, finding and keeping runs: keys, threads, crashes, owners."""

import asyncio
import sqlite3
from contextlib import closing

import pytest

from crew import (
    Budget,
    Context,
    CrewError,
    InputInvalid,
    KeyReused,
    RunFailed,
    RunNotFound,
    Runtime,
    StoreError,
    ThreadBusy,
    workflow,
)
from crew.config import Settings
from crew.event import ProgressMade
from crew.journal import Append, Release, Take, sqlite_file
from crew.journal.memory import MemoryStore
from crew.journal.writer import OpenRun, seal
from crew.run import leaving
from crew.run import runtime as runtimes
from crew.testing import CrashingStore
from tests.core.flows import Question, research


@workflow
async def echo(ctx: Context, text: str) -> str:
    before = [message.text for message in ctx.thread.messages]
    await asyncio.sleep(0.02)
    return f"{text} after {before}"


async def test_the_same_key_and_input_is_the_same_run(runtime):
    one = await runtime.start(echo, "a", key="k")
    two = await runtime.start(echo, "a", key="k")
    assert one.id == two.id
    assert await two.result() == "a after []"
    three = await runtime.start(echo, "a", key="k")
    assert (three.id, await three.result()) == (one.id, "a after []")


@pytest.mark.parametrize("further", [0, 1, 1 << 80])
async def test_whoever_has_the_last_event_of_a_run_waits_for_no_more(runtime, further):
    run = await runtime.start(echo, "a")
    await run.result()
    last = (await run.recorded())[-1].offset
    async with asyncio.timeout(5):
        assert [event async for event in run.events(after=last + further)] == []


async def test_a_key_with_another_input_is_refused(runtime):
    await runtime.start(echo, "a", key="k")
    with pytest.raises(KeyReused, match="'k' of workflow 'echo' was used with another input"):
        await runtime.start(echo, "b", key="k")


@pytest.mark.parametrize("value", [{"txt": "x"}, object()])
async def test_an_input_that_does_not_validate_stores_nothing(runtime, value):
    with pytest.raises(InputInvalid, match="the input of workflow 'research'"):
        await runtime.start(research(), value)
    assert await runtime.runs() == []


async def test_an_input_may_be_its_json(runtime):
    started = await runtime.start(research(), {"text": "c"})
    assert (await started.result()).text == "found a, computed b, found c"


async def test_an_unknown_run_is_said(runtime):
    with pytest.raises(RunNotFound, match="no run 'r0' in this store"):
        await runtime.get("r0")


async def test_runs_are_listed_by_status_newest_first(runtime):
    one = await runtime.start(echo, "a")
    two = await runtime.start(echo, "b")
    await asyncio.gather(one.result(), two.result())
    assert [run.id for run in await runtime.runs(status="completed")] == [two.id, one.id]
    assert await runtime.runs(status="failed") == []


async def test_a_tenant_sees_its_own_runs_alone(url):
    async with Runtime(url, tenant="a") as a, Runtime(url, tenant="b") as b:
        run = await a.start(echo, "x", thread="t")
        await run.result()
        assert await b.runs() == []
        assert (await b.thread("t")).messages == ()
        with pytest.raises(RunNotFound):
            await b.get(run.id)


async def test_turns_of_a_thread_queue_in_their_order(runtime):
    runs = [await runtime.start(echo, text, thread="t") for text in "abc"]
    answers = [await run.result() for run in runs]
    assert answers[0] == "a after []"
    assert answers[2].startswith("c after ['a', 'a after []', 'b'")
    said = [m.text for m in (await runtime.thread("t")).messages if m.role == "user"]
    assert said == ["a", "b", "c"]


async def test_a_busy_thread_can_reject(runtime):
    await runtime.start(echo, "a", thread="t")
    with pytest.raises(ThreadBusy, match="'t' has a turn that is still running"):
        await runtime.start(echo, "b", thread="t", when_busy="reject")


async def test_a_new_turn_can_cancel_the_older(runtime):
    @workflow
    async def slow(ctx: Context, text: str) -> str:
        await asyncio.sleep(60 if text == "a" else 0)
        return text

    older = await runtime.start(slow, "a", thread="t")
    newer = await runtime.start(slow, "b", thread="t", when_busy="cancel")
    assert await newer.result() == "b"
    assert await older.status() == "cancelled"


async def test_a_failed_turn_keeps_its_message(runtime):
    @workflow
    async def fails(ctx: Context, text: str) -> str:
        raise ValueError("no")

    with pytest.raises(RunFailed):
        await (await runtime.start(fails, "a", thread="t")).result()
    messages = (await runtime.thread("t")).messages
    assert [m.text for m in messages] == ["a", "(not answered: the run failed)"]


async def test_leaving_the_runtime_keeps_runs_for_the_next(url):
    calls = []
    pause = [60.0]

    async def note(text: str) -> str:
        calls.append(text)
        return text

    @workflow
    async def flow(ctx: Context) -> str:
        first = await ctx.run(note, "first")
        await asyncio.sleep(pause[0])
        return first + await ctx.run(note, "second")

    async with Runtime(url) as runtime:
        run = await runtime.start(flow)
        while not calls:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.02)
    pause[0] = 0.0
    async with Runtime(url, workflows=[flow]) as runtime:
        again = await runtime.get(run.id)
        assert await again.result() == "firstsecond"
    assert calls == ["first", "second"]


async def test_a_reading_runtime_takes_nothing_over(url):
    async with Runtime(url, worker=False) as runtime:
        run = await runtime.start(echo, "x")
        await asyncio.sleep(0.15)
        assert await run.status() == "running"
    async with Runtime(url, workflows=[echo]) as worker:
        assert await (await worker.get(run.id)).result() == "x after []"


async def test_a_worker_leaves_other_workflows_alone(url):
    async with Runtime(url, worker=False) as runtime:
        run = await runtime.start(echo, "x")
    async with Runtime(url, workflows=[research()]) as worker:
        await asyncio.sleep(0.15)
        assert await (await worker.get(run.id)).status() == "running"


async def test_another_version_of_a_workflow_is_another_workflow(url):
    @workflow(name="echo", version="2")
    async def newer(ctx: Context, text: str) -> str:
        return "newer"

    async with Runtime(url, worker=False) as runtime:
        run = await runtime.start(echo, "x")
    async with Runtime(url, workflows=[newer, echo]) as worker:
        assert await (await worker.get(run.id)).result() == "x after []"


async def test_changed_code_parks_the_run_and_names_both_sides(url):
    async def note(text: str) -> str:
        return text

    def flow_with(text: str):
        @workflow(name="flow")
        async def flow(ctx: Context) -> str:
            said = await ctx.run(note, text)
            await ctx.sleep(0.3)
            return said

        return flow

    async with Runtime(url) as runtime:
        run = await runtime.start(flow_with("old"))
        while await run.status() != "waiting":
            await asyncio.sleep(0.01)
    async with Runtime(url, workflows=[flow_with("new")]) as runtime:
        run = await runtime.get(run.id)
        while (last := (await run.recorded())[-1]).kind != "run.parked":
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.7)
        assert (await run.recorded())[-1] == last
        assert await run.status() == "waiting"
    assert "diverged at flow[0]/note: the journal holds function note:" in last.data["detail"]


async def test_a_divergence_inside_a_called_function_is_no_failure_of_that_function(url):
    async def note(text: str) -> str:
        return text

    def flow_with(text: str):
        @workflow(name="flow")
        async def flow(ctx: Context) -> str:
            async def inner() -> str:
                async with asyncio.TaskGroup() as group:
                    said = group.create_task(ctx.run(note, text))
                return said.result() + await ctx.ask(str, "And?", key="and")

            return await ctx.run(inner)

        return flow

    async with Runtime(url) as runtime:
        run = await runtime.start(flow_with("old"))
        while not await run.questions():
            await asyncio.sleep(0.01)
    async with Runtime(url, workflows=[flow_with("new")]) as runtime:
        await runtime.resume(run.id)
        while (await (await runtime.get(run.id)).recorded())[-1].kind != "run.parked":
            await asyncio.sleep(0.01)
    async with Runtime(url, workflows=[flow_with("old")]) as runtime:
        again = await runtime.resume(run.id)
        await again.answer("and", "!")
        assert await again.result() == "old!"


class FailingOnce(CrashingStore):
    """A store whose next commit fails, once it is told so."""

    fails = False

    def commit(self, operations):
        if self.fails:
            self.fails = False
            raise StoreError(message="for a moment")
        return super().commit(operations)


async def test_a_store_that_fails_a_child_for_a_moment_fails_no_parent(monkeypatch):
    monkeypatch.setattr(runtimes, "TAKE_SECONDS", 0.02)
    store = FailingOnce(MemoryStore(), after=1000)
    entered = []

    @workflow
    async def child(ctx: Context, text: str) -> str:
        entered.append(text)
        store.fails = len(entered) == 1
        ctx.progress("on")
        await asyncio.sleep(0.05)
        return text

    @workflow
    async def parent(ctx: Context, text: str) -> str:
        return await ctx.run(child, text)

    async with Runtime(store, workflows=[parent, child]) as runtime:
        run = await runtime.start(parent, "x")
        async with asyncio.timeout(5):
            while await run.status() == "running":
                await asyncio.sleep(0.01)
        assert await run.result() == "x"
        assert entered == ["x", "x"]


class Holding(CrashingStore):
    """A store that refuses to let the first run go."""

    refused = False

    def commit(self, operations):
        if not self.refused and any(isinstance(item, Release) for item in operations):
            self.refused = True
            raise StoreError(message="for a moment")
        return super().commit(operations)


async def test_a_run_that_could_not_be_let_go_is_taken_anew(monkeypatch):
    monkeypatch.setattr(leaving, "LINGER_SECONDS", 0.02)
    monkeypatch.setattr(runtimes, "TAKE_SECONDS", 0.02)
    store = Holding(MemoryStore(), after=1000)

    @workflow
    async def asks(ctx: Context) -> bool:
        return await ctx.ask(bool, "Sure?", key="sure")

    async with Runtime(store) as runtime, asyncio.timeout(5):
        run = await runtime.start(asks)
        while not store.refused:
            await asyncio.sleep(0.01)
        await run.answer("sure", True)
        assert await run.result() is True


class Robbed(FailingOnce):
    """One whose run is taken by another worker while its commit fails."""

    def commit(self, operations):
        if self.fails:
            self._store.commit([Take(1, "other", self.numbered(1).owner)])
        return super().commit(operations)


async def test_a_run_that_another_worker_took_while_the_store_failed_is_followed():
    store = Robbed(MemoryStore(), after=1000)
    store.claim_owner("other")

    @workflow
    async def tells(ctx: Context) -> None:
        store.fails = True
        ctx.progress("on")
        await asyncio.sleep(60)

    async with Runtime(store) as runtime:
        run = await runtime.start(tells)
        async with asyncio.timeout(5):
            while runtime.active() or runtime.lost_of(1) is not None:
                await asyncio.sleep(0.01)
        assert store.numbered(1).owner == "other"
        with pytest.raises(TimeoutError):  # it is the other's to end, and followed until then
            await asyncio.wait_for(run.result(), 0.1)


async def test_a_store_that_fails_is_the_callers_error_and_nothing_is_lost():
    kept = MemoryStore()
    store = CrashingStore(kept, after=4)
    async with Runtime(store) as runtime:
        run = await runtime.start(research(), Question(text="c"))
        with pytest.raises(StoreError):
            await run.result()
    kept.forget_owners()
    async with Runtime(kept, workflows=[research()]) as runtime:
        assert (await (await runtime.get(run.id)).result()).text == "found a, computed b, found c"


async def test_a_budget_must_be_positive():
    with pytest.raises(ValueError, match="1 or more"):
        Budget(tokens=0)


async def test_a_run_that_nobody_drives_is_cancelled_by_the_caller(url):
    async with Runtime(url, worker=False) as runtime:
        run = await runtime.start(echo, "x")
        await run.cancel()
        assert await run.status() == "cancelled"
        assert [event.kind async for event in run.events()] == ["run.started", "run.cancelled"]
    async with Runtime(url, workflows=[echo]) as worker:
        await asyncio.sleep(0.15)
        assert await (await worker.get(run.id)).status() == "cancelled"


async def test_two_callers_who_cancel_a_run_at_once_cancel_it_once(url):
    async with Runtime(url, worker=False) as one, Runtime(url, worker=False) as two:
        run = await one.start(echo, "x")
        await asyncio.gather(run.cancel(), (await two.get(run.id)).cancel())
        assert [event.kind async for event in run.events()] == ["run.started", "run.cancelled"]


async def test_a_run_says_what_it_is(runtime):
    run = await runtime.start(echo, "x", thread="t")
    assert (run.workflow, run.version, run.thread) == ("echo", "1", "t")
    assert repr(run) == f"<run {run.id} of 'echo'>"
    await run.result()
    assert run.created_at == pytest.approx((await run.recorded())[0].at, abs=1)


async def test_events_are_read_in_pages(runtime):
    run = await runtime.start(research(), Question(text="c"))
    await run.result()
    first = await run.page(after=0, limit=4)
    rest = await run.page(after=4, limit=100)
    assert len(first) == 4
    assert first + rest == await run.recorded()
    assert await run.page(after=rest[-1].offset, limit=4) == []


async def test_a_run_tells_what_it_was_started_with_and_how_it_ended(runtime):
    run = await runtime.start(echo, "x")
    await run.result()
    origin, ending = await run.origin(), await run.ending()
    assert (origin.workflow, origin.input) == ("echo", "x")
    assert (ending.kind, ending.output) == ("completed", "x after []")


async def test_a_slow_reader_waits_for_nothing_that_is_there_already(url):
    go_on = asyncio.Semaphore(0)

    @workflow
    async def tells(ctx: Context) -> None:
        for text in "abc":
            await go_on.acquire()
            ctx.progress(text)

    async with Runtime(url, look_seconds=60) as runtime, asyncio.timeout(10):
        run = await runtime.start(tells)
        async for event in run.events():
            if event.kind == "step.started" or event.data.get("text") == "a":
                go_on.release()
            while event.data.get("text") == "a" and (await run.recorded())[-1] == event:
                await asyncio.sleep(0.01)  # it comes back when "b" is written
            if event.data.get("text") == "b":
                break


async def test_what_others_wrote_before_a_cancel_from_here_is_not_missed(url):
    @workflow
    async def asks(ctx: Context) -> bool:
        return await ctx.ask(bool, "Sure?", key="sure")

    async with Runtime(url, worker=False, look_seconds=60) as looking:
        run = await looking.start(asks)
        seen = asyncio.create_task(kinds_of(run))
        async with Runtime(url, workflows=[asks]):
            while not await run.questions():
                await asyncio.sleep(0.01)
        await run.cancel()
        assert await seen == [event.kind for event in await run.recorded()]
        assert "ask.opened" in await seen


async def kinds_of(run):
    return [event.kind async for event in run.events()]


async def test_a_run_that_was_erased_is_not_there_any_more(runtime):
    run = await runtime.start(echo, "x", thread="t")
    await run.result()
    await runtime.erase(thread="t")
    with pytest.raises(RunNotFound, match=f"no run '{run.id}'"):
        await run.status()


async def test_a_run_draws_itself(runtime):
    run = await runtime.start(research(), Question(text="c"))
    await run.result()
    drawn = run._repr_html_()
    assert run.id in drawn
    assert "look_up[2]" in drawn
    assert "completed" in drawn


async def test_restarts_of_a_waiting_run_do_not_poison_it(url):
    @workflow
    async def asks(ctx: Context) -> bool:
        return await ctx.ask(bool, "Sure?", key="sure")

    for _ in range(5):
        async with Runtime(url, workflows=[asks]) as runtime:
            run = await runtime.start(asks, key="one")
            while await run.status() != "waiting" or not await run.questions():
                await asyncio.sleep(0.01)
    async with Runtime(url, workflows=[asks]) as runtime:
        again = await runtime.get(run.id)
        await again.answer("sure", True)
        assert await again.result() is True


async def test_an_owner_that_only_fell_silent_is_no_owner_proven_dead(monkeypatch):
    monkeypatch.setattr(runtimes, "TAKE_SECONDS", 0.02)
    store = MemoryStore()
    async with Runtime(store, worker=False) as starting:
        run = await starting.start(echo, "x")
    store.claim_owner("silent")
    store.commit([take_of(store, run.id, "silent")])
    async with Runtime(store, workflows=[echo], settings=Settings(lease=0.1)) as runtime:
        again = await runtime.get(run.id)
        assert await again.result() == "x after []"
        proven = [e.data["proven"] async for e in again.events() if e.kind == "run.taken"]
    assert proven == [False]


async def test_a_run_that_cannot_be_read_keeps_nobody_from_the_others(monkeypatch, caplog):
    monkeypatch.setattr(runtimes, "TAKE_SECONDS", 0.02)
    store = MemoryStore()
    async with Runtime(store, worker=False) as starting:
        bad, good = await starting.start(echo, "bad"), await starting.start(echo, "good")
    monkeypatch.setattr(ProgressMade, "kind", "model.failed")  # without its error
    store.commit([append_of(store, bad.id, ProgressMade("echo[0]", "x"))])
    async with Runtime(store, workflows=[echo]) as runtime:
        assert await (await runtime.get(good.id)).result() == "good after []"
        assert await (await runtime.start(echo, "next")).result() == "next after []"
        parked = (await (await runtime.get(bad.id)).recorded())[-1]
    assert (parked.kind, parked.data["reason"]) == ("run.parked", "unreadable")
    assert "run.parked" in caplog.text


async def test_a_run_is_not_followed_once_its_runtime_was_left():
    store = MemoryStore()
    async with Runtime(store) as runtime:
        run = await runtime.start(echo, "x")
    with pytest.raises(CrewError, match="the runtime was left; open it again"):
        await run.result()


async def test_a_runtime_may_be_left_twice(url):
    async with Runtime(url) as runtime:
        await (await runtime.start(echo, "x")).result()
    await runtime.__aexit__(None, None, None)


async def test_a_run_of_a_workflow_that_is_not_known_here_is_refused(url):
    async with Runtime(url) as runtime:
        run = await runtime.start(echo, "x")
        await run.result()
    async with Runtime(url) as runtime:
        with pytest.raises(InputInvalid, match="'echo' version 1, which .* give it in `workflows="):
            await runtime.replay(run.id)


async def test_what_has_ended_or_has_a_living_owner_is_not_taken_by_a_resume(url):
    async with Runtime(url) as owner, Runtime(url, workflows=[echo]) as other:
        run = await owner.start(echo, "x")
        resumed = await other.resume(run.id)
        assert await resumed.result() == "x after []"
        await other.resume(run.id)
        assert "run.taken" not in [event.kind async for event in resumed.events()]


async def test_a_store_that_another_process_holds_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(sqlite_file, "OPEN_SECONDS", 0.02)
    with closing(sqlite3.connect(tmp_path / "runs.db")) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(StoreError, match="runs.db is locked by another process; try again"):
            async with Runtime(f"sqlite:///{tmp_path}/runs.db"):
                pytest.fail("it opened")


def take_of(store, run_id, owner):
    row = store.run(run_id)
    return Take(row.number, owner, row.owner)


def append_of(store, run_id, event):
    row = store.run(run_id)
    open_run = OpenRun(row.id, row.number, row.epoch, row.offset, row.crc)
    return Append(row.number, row.epoch, (seal(open_run, row.offset + 1, event),))


async def test_one_runtime_serves_tenants_who_see_nothing_of_each_other(runtime):
    a, b = runtime.of("a"), runtime.of("b")
    run = await a.start(echo, "x", thread="t", key="k")
    other = await b.start(echo, "x", thread="t", key="k")
    assert await run.result() == await other.result() == "x after []"
    assert [item.id for item in await a.runs()] == [run.id]
    assert [m.text for m in (await b.thread("t")).messages] == ["x", "x after []"]
    with pytest.raises(RunNotFound):
        await b.get(run.id)


async def test_a_child_belongs_to_its_parents_tenant(runtime):
    @workflow
    async def parent(ctx: Context, text: str) -> str:
        return await ctx.run(echo, text)

    run = await runtime.of("a").start(parent, "x")
    assert await run.result() == "x after []"
    assert len(await runtime.of("a").runs()) == 2
    assert await runtime.runs() == []


async def test_what_a_caller_keeps_with_a_run_is_in_its_first_event(runtime):
    run = await runtime.start(echo, "x", thread="t", key="k", metadata={"topic": "tea"})
    [first, *_] = await run.recorded()
    assert first.data["metadata"] == {"topic": "tea"}
    assert (run.turn, run.key) == (1, "k")
    assert "metadata" not in (await (await runtime.start(echo, "x")).recorded())[0].data
