"""A look at a long run costs what it shows, not the whole."""

from tests.long_runs import EVENTS, FEW, kept, long_run

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
