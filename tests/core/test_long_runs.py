"""A look at a long run costs what it shows, not the whole."""

from typing import Any

import pytest

from crew import Context, Runtime, StoreError, workflow
from crew.journal.memory import MemoryStore
from crew.run import asked
from tests.core.lives import until
from tests.long_runs import EVENTS, FEW, CountingStore, chatty, kept, long_run

__all__ = ["kept", "long_run"]


async def test_the_tail_of_a_long_run_is_read_alone(long_run):
    _, store, run = long_run
    last = await run.offset()
    assert last > EVENTS
    assert [event.offset for event in await run.page(after=last - 5, limit=10)] == [
        last - 4,
        last - 3,
        last - 2,
        last - 1,
        last,
    ]
    assert len(await run.recorded(after=last - 5)) == 5
    async for event in run.events(after=last - 5):
        if event.offset == last:
            break
    assert store.read < FEW


async def test_how_a_long_run_stands_is_told_by_its_ends(long_run):
    runtime, store, run = long_run
    assert await run.status() == "waiting"
    assert (await run.origin()).input == EVENTS
    assert (await run.ending()).kind == "open"
    assert [item.id for item in await runtime.runs()] == [run.id]
    assert store.read < FEW


async def test_a_second_look_at_what_a_long_run_asks_reads_what_is_new(long_run):
    _, store, run = long_run
    (question,) = await run.questions()
    store.read = 0
    assert await run.questions() == [question]
    assert store.read < FEW


async def test_an_answer_to_a_long_run_and_the_same_again_read_its_tail(long_run):
    _, store, run = long_run
    await run.questions()
    store.read = 0
    for _ in range(2):
        await run.answer("go", True, idempotency_key="k")
    assert store.read < FEW  # nobody drives it: the question stays open


async def test_what_is_asked_is_kept_of_the_runs_that_were_looked_at_last(monkeypatch):
    monkeypatch.setattr(asked, "MOST_KEPT", 1)
    store = CountingStore(MemoryStore())
    async with Runtime(store, workflows=[chatty]) as runtime:
        runs = [await runtime.start(chatty, 2 * FEW) for _ in range(2)]
        for run in runs:
            await until(run, "waiting")
            assert [question.key for question in await run.questions()] == ["go"]
        read = []
        for run in reversed(runs):
            store.read = 0
            await run.questions()
            read.append(store.read > FEW)
    assert read == [False, True]


async def test_questions_of_a_journal_that_lost_its_end_are_not_told():
    class Short(CountingStore):
        def events(self, number: int, *, after: int = 0, limit: int = 1024) -> Any:
            return list(super().events(number, after=after, limit=limit))[:-1]

    kept = MemoryStore()
    async with Runtime(kept, workflows=[chatty]) as runtime:
        await until(await runtime.start(chatty, 2), "waiting")
    async with Runtime(Short(kept), worker=False) as runtime:
        (run,) = await runtime.runs()
        with pytest.raises(StoreError, match="is damaged at event"):
            await run.questions()


async def test_a_question_that_was_answered_with_a_key_is_found_far_behind(runtime):
    @workflow
    async def flow(ctx: Context, n: int) -> int:
        await ctx.ask(bool, "Go on?", key="go")
        for number in range(n):
            await ctx.run(abs, number)
        return n

    run = await runtime.start(flow, 60)
    await until(run, "waiting")
    await run.answer("go", True, idempotency_key="k")
    assert await run.result() == 60
    answered = await run.answered("k")
    assert (answered.question.key, answered.question.question) == ("go", "Go on?")
