"""No endpoint is asked more often than its terms say, and whoever came first goes first."""

import asyncio
import itertools
import json
import subprocess
import sys
import time
from functools import partial

import pytest

from crew import Agent, Budget, Context, Fallback, OpenAIModel, Runtime, workflow
from crew.errors import ModelError
from crew.journal.memory import MemoryStore
from crew.llm import ModelReply
from crew.llm.bucket import SharedTimes, put_off, turn_at
from crew.llm.terms import Terms
from crew.testing import ScriptedModel, SeededLoop, simulate
from tests.core.counting import Counting
from tests.core.lives import result
from tests.core.test_default_model import Saying

TEN = Terms(price_in=0, price_out=0, requests_per_second=10)


class Strict(Counting):
    """Refuses more than ten requests in any second, by the time of its loop."""

    def __init__(self, terms: Terms = TEN, **given) -> None:
        super().__init__(**given)
        self.terms, self.times, self.refused = terms, list[float](), 0

    async def complete(self, request, *, on_text=None) -> ModelReply:
        now = asyncio.get_running_loop().time()
        if sum(now - each < 0.999 for each in self.times) >= 10:
            self.refused += 1
            raise ModelError(message="too many", status=429)
        self.times.append(now)
        return await super().complete(request, on_text=on_text)


def simulated(work, seed: int = 1):
    with asyncio.Runner(loop_factory=partial(SeededLoop, seed, limit=10_000.0)) as runner:
        return runner.run(work)


async def crowd(model, agents: int, **of_start) -> list[str]:
    agent = Agent("agent", model=model, max_tokens=16)

    @workflow(name="crowd")
    async def flow(ctx: Context, text: str) -> list[str]:
        return [each.output for each in await ctx.map(agent, [f"{n}" for n in range(agents)])]

    async with Runtime(MemoryStore()) as runtime:
        return await (await runtime.start(flow, "go", **of_start)).result()


def test_of_512_agents_at_ten_requests_a_second_none_is_refused():
    model = Strict()
    assert len(simulated(crowd(model, 512))) == 512
    assert model.refused == 0
    assert model.times[-1] - model.times[0] == pytest.approx(51.1)
    asked = [int(request.messages[-1].text) for request in model.requests]
    assert asked == sorted(asked)


def test_whoever_waits_has_reserved_nothing_and_has_no_intent():
    model = Strict(Terms(requests_per_second=1), wanted=4)

    async def work() -> list[int]:
        agent = Agent("agent", model=model, max_tokens=16)

        @workflow(name="crowd")
        async def flow(ctx: Context, text: str) -> None:
            await ctx.map(agent, ["a", "b", "c"])

        open_calls = []
        async with Runtime(MemoryStore()) as runtime:
            run = await runtime.start(flow, "go", budget=Budget(tokens=5000))
            for _ in range(3):
                await asyncio.sleep(1)
                kinds = [event.kind for event in await run.recorded()]
                open_calls.append(kinds.count("model.started"))
            await run.result()
        return open_calls

    assert simulated(work()) == [1, 2, 3]


@pytest.mark.parametrize("seed", range(3))
def test_a_budget_and_a_bucket_hold_together(seed):
    model = Strict(rate=1.0, wanted=4)
    said = simulated(crowd(model, 40, budget=Budget(tokens=100_000, strict=True)), seed)
    assert len(said) == 40
    assert model.refused == 0


def test_each_try_of_a_fallback_waits_for_its_own_endpoint():
    strong = Strict(fails=lambda number: ModelError(message="gone"))
    cheap = Strict(Terms(requests_per_second=5))
    cheap.name = "cheap"
    simulated(crowd(Fallback(strong, cheap), 30))
    assert strong.times[-1] == pytest.approx(2.9)
    assert cheap.times[-1] - cheap.times[0] == pytest.approx(5.8)


def test_what_is_on_record_waits_for_nothing():
    model = Strict(Terms(requests_per_second=0.1))

    async def work() -> float:
        agent = Agent("agent", model=model)

        @workflow(name="flow")
        async def flow(ctx: Context, text: str) -> int:
            return len(await ctx.map(agent, ["a", "b", "c"]))

        async with Runtime(MemoryStore()) as runtime:
            run = await runtime.start(flow, "go")
            await run.result()
            began = asyncio.get_running_loop().time()
            assert await (await runtime.replay(run.id)).result() == 3
            assert await (await runtime.fork(run.id)).result() == 3
            return asyncio.get_running_loop().time() - began

    assert simulated(work()) < 5
    assert len(model.requests) == 3


def test_who_is_cancelled_leaves_its_time_to_the_next():
    model = ScriptedModel(terms=Terms(requests_per_second=1))

    async def work() -> float:
        loop = asyncio.get_running_loop()
        began = loop.time()
        turns = [asyncio.ensure_future(turn_at(model)) for _ in range(100)]
        await asyncio.sleep(0.5)
        for each in turns[1:99]:
            each.cancel()
        await turns[99]
        return loop.time() - began

    assert simulated(work()) == pytest.approx(1.0)


def test_a_pause_that_an_endpoint_asks_for_holds_all_up():
    model = ScriptedModel(terms=TEN)

    async def work() -> list[float]:
        loop = asyncio.get_running_loop()
        began, times = loop.time(), []

        async def one() -> None:
            await turn_at(model)
            times.append(round(loop.time() - began, 3))

        async with asyncio.TaskGroup() as group:
            for _ in range(4):
                group.create_task(one())
            await asyncio.sleep(0.15)
            await put_off(model, 5)
        return times

    assert simulated(work()) == [0.0, 0.1, 5.15, 5.25]


def test_a_clock_that_was_set_back_holds_nobody_up():
    model = ScriptedModel(terms=TEN)

    async def work() -> float:
        loop = asyncio.get_running_loop()
        await turn_at(model)
        loop._began -= 86_400
        began = loop.time()
        await turn_at(model)
        return loop.time() - began

    assert simulated(work()) < 1


async def test_where_nobody_says_how_often_nothing_is_waited_for():
    for _ in range(1000):
        await turn_at(ScriptedModel())


class Refusing(Saying):
    """Refuses the second request."""

    def __init__(self) -> None:
        super().__init__(delay=0.0)
        self.numbers = itertools.count(1)

    def complete(self, body):
        if next(self.numbers) == 2:
            return 429, {"error": {"message": "slow down"}}
        return super().complete(body)


async def test_an_endpoint_that_refuses_for_too_many_is_asked_again_in_turn():
    with Refusing() as endpoint:
        model = OpenAIModel("big", base_url=endpoint.url, requests_per_second=50)
        agent = Agent("agent", model=model)

        @workflow(name="flow")
        async def flow(ctx: Context, text: str) -> list[str]:
            return [each.output for each in await ctx.map(agent, ["a", "b", "c", "d", "e"])]

        async with Runtime(":memory:") as runtime:
            run = await runtime.start(flow, "go")
            assert await result(run) == ["big says yes"] * 5
    assert len(endpoint.requests) == 6


TAKES = """
import asyncio, json, sys
from pathlib import Path
from crew.llm.bucket import Bucket, SharedTimes

async def main():
    bucket = Bucket(SharedTimes(Path(sys.argv[1])))
    taken = []
    async def one():
        await bucket.turn(0.02)
    times = bucket.times
    take = times.take
    async def noted(seconds):
        taken.append(await take(seconds))
        return taken[-1]
    times.take = noted
    await asyncio.gather(*(one() for _ in range(25)))
    print(json.dumps(taken))

asyncio.run(main())
"""


def test_the_processes_of_a_machine_share_the_times_of_an_endpoint(tmp_path):
    command = [sys.executable, "-c", TAKES, str(tmp_path / "bucket")]
    began = time.time()
    each = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    times = sorted(t for one in each for t in json.loads(one.communicate(timeout=60)[0]))
    assert len(times) == 75
    assert times[0] >= began
    assert all(later - former >= 0.0199 for former, later in itertools.pairwise(times))


async def test_a_file_that_is_damaged_begins_anew(tmp_path):
    path = tmp_path / "bucket"
    path.write_bytes(b"odd")
    now = time.time()
    assert now <= await SharedTimes(path).take(1.0) <= time.time()


async def test_runs_of_two_runtimes_share_a_bucket():
    model = ScriptedModel(lambda request: "yes", terms=Terms(requests_per_second=200))
    agent = Agent("agent", model=model)

    @workflow(name="flow")
    async def flow(ctx: Context, text: str) -> str:
        return (await ctx.run(agent, text)).output

    async with Runtime(":memory:") as one, Runtime(":memory:") as other:
        began = asyncio.get_running_loop().time()
        runs = [await each.start(flow, "go") for each in (one, other) for _ in range(10)]
        assert [await result(run) for run in runs] == ["yes"] * 20
        assert asyncio.get_running_loop().time() - began >= 19 / 200


def test_a_bucket_survives_every_schedule():
    model = ScriptedModel(lambda request: "yes", terms=Terms(requests_per_second=2))
    agent = Agent("agent", model=model)

    @workflow
    async def flow(ctx: Context, text: str) -> int:
        return len(await ctx.map(agent, ["a", "b", "c", "d"]))

    assert simulate(flow, "go", seeds=25).output == 4
