"""What calls of models cost, as their endpoint has it, never passes a budget of tokens."""

import asyncio
import contextlib
import random

import pytest

from crew import Agent, Budget, Context, Retry, RunFailed, Runtime, workflow
from crew.errors import BudgetExceeded, ModelError, StoreError
from crew.llm import ModelRequest, ToolSpec
from crew.llm.cost import MARGIN, request_bytes
from crew.message import Message
from tests.core.counting import Counting, crashing
from tests.core.lives import result, stores

REFUSED = (BudgetExceeded, RunFailed, ModelError)
TEXT = "what is there to say about it? "


def crowd(
    model: Counting, *, agents: int, max_tokens: int = 60, emit: bool = False, children: bool = True
):
    agent = Agent("agent", model=model, max_tokens=max_tokens)

    async def one(ctx: Context, number: int) -> str:
        try:
            await ctx.run(agent, f"{TEXT * (number % 5)} {number}", emit=emit)
        except REFUSED as error:
            return type(error).__name__
        return "answered"

    @workflow(name="child")
    async def child(ctx: Context, number: int) -> str:
        return await one(ctx, number)

    @workflow(name="crowd")
    async def flow(ctx: Context, text: str) -> list[str]:
        async def way(number: int) -> str:
            if not children or number % 4 < 3:
                return await one(ctx, number)
            try:
                return await ctx.run(child, number)
            except REFUSED as error:
                return type(error).__name__

        return await asyncio.gather(*(way(number) for number in range(agents)))

    return flow


def failing(number: int) -> ModelError | None:
    """Fail each third time, in one of three ways."""
    if number % 9 == 0:
        return ModelError(message="gone", status=500)
    if number % 9 == 3:
        return ModelError(message="gone", broke_off=True)
    return ModelError(message="timed out") if number % 9 == 6 else None


@pytest.mark.parametrize("fails", [lambda number: None, failing], ids=["well", "failing"])
@pytest.mark.parametrize("emit", [False, True])
@pytest.mark.parametrize("seed", range(4))
async def test_a_crowd_never_passes_its_budget_by_bytes(runtime, fails, emit, seed):
    chance = random.Random(seed)
    model = Counting(rate=1.0, fails=fails, chance=chance)
    flow = crowd(model, agents=40, emit=emit)
    run = await runtime.start(flow, "go", budget=Budget(tokens=6000, strict=True))
    await result(run)
    assert model.tokens <= 6000
    usage = await run.usage()
    assert model.tokens <= sum(usage.get(f"{kind}_tokens", 0) for kind in KINDS) <= 6000


KINDS = ("input", "output", "unanswered")


@pytest.mark.parametrize("counts", [True, False], ids=["counted", "estimated"])
@pytest.mark.parametrize("rate", [0.1, 0.25, 0.4])
async def test_nearly_all_of_a_budget_can_be_used(runtime, counts, rate):
    model = Counting(rate=rate, counts=counts, chance=random.Random(1))
    flow = crowd(model, agents=150, children=False)
    run = await runtime.start(flow, "go", budget=Budget(tokens=4000))
    outcomes = await result(run)
    most = 4000 if counts else 4000 * (1 + MARGIN)
    assert 0.9 * 4000 <= model.tokens <= most
    assert set(outcomes) == {"answered", "BudgetExceeded"}


async def test_children_are_not_refused_for_what_calls_under_way_may_give_back(runtime):
    model = Counting(rate=0.25, wanted=10, chance=random.Random(3))
    flow = crowd(model, agents=60, max_tokens=300)
    run = await runtime.start(flow, "go", budget=Budget(tokens=6000))
    assert set(await result(run)) == {"answered"}


async def test_calls_wait_for_each_other_rather_than_be_refused(runtime):
    model = Counting(rate=0.25, wanted=5, chance=random.Random(2))
    flow = crowd(model, agents=30, max_tokens=900, children=False)
    run = await runtime.start(flow, "go", budget=Budget(tokens=5000))
    assert set(await result(run)) == {"answered"}
    assert all(request.max_tokens == 900 for request in model.requests[:3])


@pytest.mark.parametrize("counts", [True, False])
async def test_a_text_of_which_bytes_are_too_many_is_asked_all_the_same(runtime, counts):
    model = Counting(rate=0.2, wanted=10, counts=counts)
    agent = Agent("agent", model=model, max_tokens=1000)

    @workflow
    async def flow(ctx: Context, text: str) -> None:
        await ctx.run(agent, text)

    for text in ("word " * 26_000, "字" * 40_000):
        budget = Budget(tokens=60_000)
        await result(await runtime.start(flow, text, budget=budget))
        strict = await runtime.start(flow, text, budget=Budget(tokens=60_000, strict=True))
        if counts:
            await result(strict)
        else:
            with pytest.raises(RunFailed, match="tokens needed"):
                await result(strict)


async def test_an_output_limit_is_sent_and_made_shorter_before_a_call_is_refused(runtime):
    model = Counting(rate=1.0, wanted=10_000)
    agent = Agent("agent", model=model)

    @workflow
    async def flow(ctx: Context, text: str) -> None:
        for number in range(3):
            await ctx.run(agent, f"{text} {number}")

    run = await runtime.start(flow, "go", budget=Budget(tokens=1500, strict=True))
    with pytest.raises(RunFailed, match="tokens needed"):
        await result(run)
    first, second = (request.max_tokens for request in model.requests)
    assert first == 1024
    assert 16 <= second < 400
    assert model.tokens <= 1500


async def test_without_a_budget_no_limit_is_sent(runtime):
    model = Counting()
    agent = Agent("agent", model=model)

    @workflow
    async def flow(ctx: Context, text: str) -> None:
        await ctx.run(agent, text)

    run = await runtime.start(flow, "go", budget=Budget(calls=5))
    await result(run)
    assert [request.max_tokens for request in model.requests] == [None]
    assert [e.data.get("reserve") for e in await run.recorded() if e.kind == "model.started"] == [
        None
    ]


async def test_an_answer_that_breaks_off_is_reserved_anew_each_time(runtime):
    broken = ModelError(message="broke", broke_off=True, input_tokens=50, output_tokens=400)
    model = Counting(wanted=400, fails=lambda number: broken)
    agent = Agent("agent", model=model, max_tokens=400)

    @workflow
    async def flow(ctx: Context, text: str) -> None:
        await ctx.run(agent, text, emit=True)

    run = await runtime.start(flow, "go", budget=Budget(tokens=1200))
    with pytest.raises(RunFailed, match="tokens needed"):
        await result(run)
    assert model.tokens <= 1200
    assert len(model.requests) == 3


class Late(Counting):
    """Answers once somebody says so."""

    def __init__(self, **given) -> None:
        super().__init__(**given)
        self.asked, self.gate = asyncio.Event(), asyncio.Event()

    async def complete(self, request, *, on_text=None):
        self.asked.set()
        await self.gate.wait()
        return await super().complete(request, on_text=on_text)


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("counted", [True, False])
async def test_an_answer_that_broke_off_waits_for_what_others_give_back(runtime, shared, counted):
    late = Late(wanted=5)
    cost = {"input_tokens": 100, "output_tokens": 400} if counted else {}

    def breaks(number: int) -> ModelError | None:
        if number > 1:
            return None
        asyncio.get_running_loop().call_later(0.5, late.gate.set)
        return ModelError(message="broke", broke_off=True, **cost)

    broken = Counting(wanted=400, fails=breaks)
    first = Agent("first", model=late, max_tokens=400)
    second = Agent("second", model=broken, max_tokens=400)

    @workflow(name="child")
    async def child(ctx: Context, is_first: bool) -> str:
        if not is_first:
            await late.asked.wait()
        return (await ctx.run(first if is_first else second, "hello", emit=True)).output

    @workflow(name="flow")
    async def flow(ctx: Context, text: str) -> list[str]:
        if shared:
            return await asyncio.gather(ctx.run(child, True), ctx.run(child, False))
        return await asyncio.gather(child.function(ctx, True), child.function(ctx, False))

    run = await runtime.start(flow, "go", budget=Budget(tokens=1300))
    assert [len(text.split()) for text in await result(run)] == [5, 400]
    assert [request.max_tokens for request in broken.requests] == [400, 400]


@pytest.mark.parametrize("reports", [True, False])
async def test_an_endpoint_that_reports_nothing_is_not_free(runtime, reports):
    model = Counting(rate=0.25, reports=reports)
    agent = Agent("agent", model=model)

    @workflow
    async def flow(ctx: Context, text: str) -> None:
        for number in range(100):
            await ctx.run(agent, f"{text} {number}")

    run = await runtime.start(flow, "go", budget=Budget(tokens=2500))
    with pytest.raises(RunFailed, match="tokens needed"):
        await result(run)
    assert 5 < len(model.requests) < 60


async def test_an_endpoint_that_keeps_to_no_limit_is_reckoned_with_from_then_on(runtime):
    class Endless(Counting):
        async def complete(self, request, *, on_text=None):
            reply = await super().complete(request, on_text=on_text)
            self.said += 500
            usage = reply.usage
            return type(reply)(reply.text, usage=type(usage)(usage.input_tokens, 500, 0, 1))

    model = Endless()
    agent = Agent("agent", model=model, max_tokens=50)

    @workflow
    async def flow(ctx: Context, text: str) -> None:
        for number in range(9):
            await ctx.run(agent, f"{text} {number}")

    run = await runtime.start(flow, "go", budget=Budget(tokens=1000))
    with pytest.raises(RunFailed, match="tokens needed"):
        await result(run)
    assert len(model.requests) == 2


@pytest.mark.parametrize("seed", range(12))
@stores
async def test_after_crashes_the_budget_still_holds(url, seed):
    chance = random.Random(seed)
    model = Counting(rate=1.0, fails=failing, chance=chance)
    agent = Agent("agent", model=model, max_tokens=60)
    budget = Budget(tokens=5000, strict=True)

    @workflow(name="child")
    async def child(ctx: Context, number: int) -> int:
        for each in range(3):
            await ctx.run(agent, f"{number} {each}", retry=Retry(attempts=2, first_delay=0.001))
        return number

    @workflow(name="flow")
    async def flow(ctx: Context, text: str) -> int:
        async def one(number: int) -> int:
            try:
                return await ctx.run(child if number % 2 else agent, number if number % 2 else text)
            except REFUSED:
                return 0

        return len(await asyncio.gather(*map(one, range(8))))

    with crashing(url, chance.randint(2, 30)) as store:
        async with Runtime(store) as runtime:
            run = await runtime.start(flow, "go", budget=budget)
            with contextlib.suppress(StoreError):
                await result(run)
    async with Runtime(url, workflows=[flow, child]) as runtime:
        run = await runtime.get(run.id)
        assert await result(run) == 8
        usage = await run.usage()
    ours = sum(usage.get(f"{kind}_tokens", 0) for kind in KINDS)
    assert model.tokens <= ours <= 5000


def test_the_bytes_of_a_request_are_those_of_its_schema_and_tools_too():
    plain = ModelRequest((Message("user", "字"),))
    schema = {"type": "object", "description": "d" * 500}
    tooled = ModelRequest(plain.messages, tools=(ToolSpec("t", "d" * 500, {"type": "object"}),))
    typed = ModelRequest(plain.messages, schema=schema)
    assert request_bytes(plain) >= 3
    assert request_bytes(tooled) > request_bytes(plain) + 500
    assert request_bytes(typed) > request_bytes(plain) + 500
