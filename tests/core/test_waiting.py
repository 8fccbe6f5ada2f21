"""Runs that wait for a person or a time are only rows: no process holds them."""

import asyncio
import gc
import random
import time

import pytest

from crew import AskError, Context, Graph, KeyReused, Retry, Runtime, workflow
from crew.run import handle, leaving
from crew.run.driver import Driver

pytestmark = pytest.mark.parametrize("url", ["memory", "sqlite", "postgres"], indirect=True)


@pytest.fixture(autouse=True)
def leaves_at_once(monkeypatch):
    monkeypatch.setattr(leaving, "LINGER_SECONDS", 0.02)


class Counted:
    """A workflow that pays before it asks."""

    def __init__(self) -> None:
        self.entered = 0
        self.paid: list[str] = []

        @workflow
        async def approval(ctx: Context, name: str) -> str:
            self.entered += 1
            await ctx.effect(self.pay, name, key="pay")
            return f"{name}: {await ctx.ask(bool, 'Refund?', key='refund')}"

        self.flow = approval

    async def pay(self, name: str) -> str:
        self.paid.append(name)
        return name


async def left(runtime, run) -> None:
    """Wait until the run is in no driver's hands."""
    async with asyncio.timeout(10):
        while await run.status() != "waiting" or runtime.store.run(run.id).owner is not None:
            await asyncio.sleep(0.01)


async def test_a_run_that_asks_leaves_memory_and_comes_back(url):
    counted = Counted()
    async with Runtime(url) as runtime:
        run = await runtime.start(counted.flow, "a")
        await left(runtime, run)
        gc.collect()
        drivers = [item for item in gc.get_objects() if isinstance(item, Driver)]
        assert [item for item in drivers if item.run_id == run.id] == []
        await run.answer("refund", True)
        assert await run.result() == "a: True"
        assert (counted.entered, counted.paid) == (2, ["a"])


async def test_an_answer_to_a_run_out_of_memory_waits_for_nobodys_next_look(url, monkeypatch):
    @workflow
    async def approve(ctx: Context) -> bool:
        return await ctx.ask(bool, "May it go?", key="go")

    async with Runtime(url) as runtime:
        run = await runtime.start(approve)
        await left(runtime, run)
        monkeypatch.setattr(leaving, "LINGER_SECONDS", 60.0)
        runtime._look_seconds = 60.0
        runtime.look()
        await asyncio.sleep(0.1)
        async with asyncio.timeout(10):
            await run.answer("go", True)
            assert await run.result() is True


async def test_an_answer_of_the_wrong_type_is_refused_though_nobody_holds_the_run(url):
    counted = Counted()
    async with Runtime(url) as runtime:
        run = await runtime.start(counted.flow, "a")
        await left(runtime, run)
        with pytest.raises(AskError, match="must be bool, got 'banana'"):
            await run.answer("refund", "banana")
        assert len(await run.questions()) == 1
        await run.answer("refund", False)
        assert await run.result() == "a: False"


async def test_an_answer_under_its_key_may_come_again_even_once_the_run_has_ended(url):
    counted = Counted()
    async with Runtime(url) as runtime:
        run = await runtime.start(counted.flow, "a", thread="t")
        await left(runtime, run)
        again = [run.answer("refund", True, idempotency_key="k") for _ in range(2)]
        await asyncio.gather(*again)
        assert await run.result() == "a: True"
        await run.answer("refund", True, idempotency_key="k")
        with pytest.raises(KeyReused, match="another answer"):
            await run.answer("refund", False, idempotency_key="k")
        with pytest.raises(AskError):
            await run.answer("refund", True)
        found = await runtime.answered("k", thread="t")
        assert (found.run.id, found.question.key) == (run.id, "refund")
        assert await runtime.answered("k", thread="another") is None


async def test_one_key_may_come_with_an_answer_to_each_of_two_runs(url):
    counted = Counted()
    async with Runtime(url) as runtime:
        runs = [await runtime.start(counted.flow, name) for name in ("a", "b")]
        for run in runs:
            await left(runtime, run)
        for run in runs * 2:
            await run.answer("refund", run is runs[0], idempotency_key="k")
        assert [await run.result() for run in runs] == ["a: True", "b: False"]


async def test_the_first_answer_wins_and_the_later_one_is_told(url):
    counted = Counted()
    async with Runtime(url) as runtime:
        run = await runtime.start(counted.flow, "a")
        await left(runtime, run)
        results = await asyncio.gather(
            run.answer("refund", True), run.answer("refund", False), return_exceptions=True
        )
        assert sum(isinstance(item, AskError) for item in results) == 1
        won = results[0] is None
        assert await run.result() == f"a: {won}"
        with pytest.raises(AskError, match="is completed; nothing is asked there"):
            await run.answer("refund", True)


async def test_an_answer_to_a_question_that_is_withdrawn_meanwhile_is_refused(url, monkeypatch):
    post = handle.Run._post

    async def late(run, kind, name, *rest):
        while "still" in [question.key for question in await run.questions()]:
            await asyncio.sleep(0.01)
        await post(run, kind, name, *rest)

    monkeypatch.setattr(handle.Run, "_post", late)

    @workflow
    async def flow(ctx: Context) -> str:
        still = asyncio.create_task(ctx.ask(str, "Still?", key="still"))
        await ctx.sleep(0.3)
        still.cancel()
        return await ctx.ask(str, "What?", key="what")

    async with Runtime(url) as runtime:
        run = await runtime.start(flow)
        while not await run.questions():
            await asyncio.sleep(0.01)
        with pytest.raises(AskError, match="=still was closed before the answer came"):
            await run.answer("still", "yes")
        assert [question.key for question in await run.questions()] == ["what"]
        await run.answer("what", "that")
        assert await run.result() == "that"


async def test_many_waiting_runs_are_answered_in_any_order(url):
    counted = Counted()
    names = [f"r{number}" for number in range(60)]
    async with Runtime(url) as runtime:
        runs = [await runtime.start(counted.flow, name) for name in names]
        for run in runs:
            await left(runtime, run)
        random.Random(1).shuffle(runs)
        await asyncio.gather(*(run.answer("refund", True) for run in runs))
        assert sorted([await run.result() for run in runs]) == sorted(f"{n}: True" for n in names)
        assert sorted(counted.paid) == sorted(names)


async def test_several_questions_are_answered_in_any_order(url):
    @workflow
    async def several(ctx: Context) -> list[int]:
        return list(await asyncio.gather(*(ctx.ask(int, f"{n}?", key=f"k{n}") for n in range(3))))

    async with Runtime(url) as runtime:
        run = await runtime.start(several)
        await left(runtime, run)
        for n in (2, 0, 1):
            assert len(await run.questions()) == {2: 3, 0: 2, 1: 1}[n]
            await run.answer(f"k{n}", n * 10)
            await left(runtime, run) if n != 1 else None
        assert await run.result() == [0, 10, 20]


async def test_a_sleep_goes_on_when_it_is_due(url):
    @workflow
    async def napping(ctx: Context) -> float:
        before = await ctx.now()
        await ctx.sleep(1.5)
        return time.time() - before

    async with Runtime(url) as runtime:
        run = await runtime.start(napping)
        await left(runtime, run)
        assert 1.5 <= await run.result() < 4


async def test_a_back_off_goes_on_when_it_is_due(url):
    tries: list[float] = []

    graph = Graph("graph", input=int, output=str)

    @graph.node(retry=Retry(attempts=2, first_delay=1.3))
    async def flaky(value: int) -> str:
        tries.append(time.time())
        if len(tries) == 1:
            raise OSError("not yet")
        return "done"

    async with Runtime(url) as runtime:
        run = await runtime.start(graph, 1)
        await left(runtime, run)
        assert await run.result() == "done"
        assert tries[1] - tries[0] >= 1.3


async def test_a_run_with_work_under_way_does_not_wait(url):
    @workflow
    async def both(ctx: Context) -> str:
        async with asyncio.TaskGroup() as group:
            asked = group.create_task(ctx.ask(str, "What?", key="what"))
            worked = group.create_task(ctx.run(slow))
        return asked.result() + worked.result()

    async def slow() -> str:
        await asyncio.sleep(0.3)
        return "!"

    async with Runtime(url) as runtime:
        run = await runtime.start(both)
        while not await run.questions():
            await asyncio.sleep(0.01)
        assert await run.status() == "running"
        await left(runtime, run)
        await run.answer("what", "done")
        assert await run.result() == "done!"


async def test_a_run_waits_once_the_steps_that_were_held_back_have_ended(url):
    graph, entered = Graph("graph", input=int, output=str), list[int]()

    @graph.node
    async def spread(n: int) -> list[bool | float]:
        return [True, *(float(place) for place in range(n))]

    @graph.node
    async def asks(ctx: Context, politely: bool) -> bytes:
        return await ctx.ask(bytes, "What?", key="what")

    @graph.node(concurrency=1)
    async def works(place: float) -> bytes:
        entered.append(int(place))
        await asyncio.to_thread(time.sleep, 0.1)  # no timer, which would keep the run here
        return b""

    @graph.node
    async def join(done: list[bytes]) -> str:
        return f"{len(done)} done"

    async with Runtime(url) as runtime:
        run = await runtime.start(graph, 3)
        await left(runtime, run)
        assert entered == [0, 1, 2]
        await run.answer("what", "this")
        assert await run.result() == "4 done"
        assert entered == [0, 1, 2]


async def test_a_question_asked_inside_a_called_function_waits_too(url):
    @workflow
    async def outer(ctx: Context) -> str:
        async def inner() -> str:
            return await ctx.ask(str, "What?", key="what")

        return await ctx.run(inner)

    async with Runtime(url) as runtime:
        run = await runtime.start(outer)
        await left(runtime, run)
        await run.answer("what", "done")
        assert await run.result() == "done"


async def test_a_waiting_run_is_cancelled_without_being_driven(url):
    counted = Counted()
    async with Runtime(url) as runtime:
        run = await runtime.start(counted.flow, "a")
        await left(runtime, run)
        await run.cancel()
        assert await run.status() == "cancelled"
        assert counted.entered == 1


async def test_a_branch_with_its_answer_goes_on_while_another_one_waits(url):
    acted: list[str] = []

    async def act(text: str) -> None:
        acted.append(text)

    @workflow
    async def both(ctx: Context) -> str:
        async def first() -> str:
            said = await ctx.ask(str, "First?", key="first")
            await asyncio.sleep(0.2)  # nothing that the journal knows of
            await ctx.effect(act, said)
            return said

        return "".join(await asyncio.gather(first(), ctx.ask(str, "Second?", key="second")))

    async with Runtime(url) as runtime:
        run = await runtime.start(both)
        await left(runtime, run)
        await run.answer("first", "a")
        await left(runtime, run)
        assert acted == ["a"]
        await run.answer("second", "b")
        assert await run.result() == "ab"
        assert acted == ["a"]


async def test_an_answer_that_is_not_recorded_soon_is_safe_all_the_same(url, monkeypatch):
    monkeypatch.setattr(handle, "ANSWER_SECONDS", 0.0)
    counted = Counted()
    async with Runtime(url) as runtime:
        run = await runtime.start(counted.flow, "a")
        await left(runtime, run)
        await run.answer("refund", True)
        assert await run.result() == "a: True"
