"""What goes wrong in a tree of runs is settled at its cost, and nothing stays reserved for it."""

import asyncio
import contextlib
import random

import pytest

from crew import Agent, Budget, Context, RunCancelled, RunFailed, Runtime, workflow
from crew.errors import ModelError, StepTimeout
from crew.journal import OPEN
from crew.journal.opening import open_store
from crew.llm.cost import MARGIN
from tests.core.counting import Counting
from tests.core.lives import result, stores, until
from tests.core.test_budget_tree import Branch, Family, outcomes, spent


class Gated(Counting):
    """Answers no request before its gate is opened."""

    def __init__(self, **given) -> None:
        super().__init__(**given)
        self.gate = asyncio.Event()
        self.asked = asyncio.Event()

    async def complete(self, request, *, on_text=None):
        self.asked.set()
        await self.gate.wait()
        return await super().complete(request, on_text=on_text)


def account_of(runtime: Runtime, run):
    (account,) = runtime.store.accounts([run.id])
    return account


@pytest.mark.parametrize("seed", range(6))
async def test_calls_that_are_broken_off_leave_nothing_reserved_but_their_bounds(runtime, seed):
    model = Counting(rate=1.0, chance=random.Random(seed))
    agent = Agent("agent", model=model, max_tokens=60)
    chance = random.Random(seed)
    seconds = [chance.random() / 50 for _ in range(40)]

    @workflow(name="child")
    async def child(ctx: Context, number: int) -> None:
        for each in range(3):
            await ctx.run(agent, f"{number} {each}")

    @workflow(name="parent")
    async def parent(ctx: Context, text: str) -> None:
        async def one(number: int) -> None:
            callee, value = (agent, str(number)) if number % 2 else (child, number)
            await ctx.run(callee, value, timeout=seconds[number])

        await asyncio.gather(*map(one, range(40)), return_exceptions=True)

    run = await runtime.start(parent, "go", budget=Budget(tokens=6000, strict=True))
    await result(run)
    ours = spent(await run.usage())
    assert model.tokens <= ours <= 6000
    async with asyncio.timeout(20):
        while runtime.store.runs(parent=run.id, status=OPEN):
            await asyncio.sleep(0.01)  # those that were cancelled
    account = account_of(runtime, run)
    assert account.total.open == 0
    assert model.tokens <= account.total.tokens <= ours


@pytest.mark.parametrize("way", ["fails", "returns", "cancelled"])
async def test_a_run_that_ends_before_its_children_pays_for_what_they_have_begun(runtime, way):
    model = Gated(rate=1.0)
    agent = Agent("agent", model=model, max_tokens=60)

    @workflow(name="child")
    async def child(ctx: Context, text: str) -> None:
        await ctx.run(agent, text)

    @workflow(name="parent")
    async def parent(ctx: Context, text: str) -> str:
        task = asyncio.create_task(ctx.run(child, text))
        await model.asked.wait()
        if way == "fails":
            raise ValueError(text)
        if way == "cancelled":
            await task
        return "did not wait"

    run = await runtime.start(parent, "go", budget=Budget(tokens=5000))
    await asyncio.wait_for(model.asked.wait(), 10)
    if way == "cancelled":
        await run.cancel()
    await until(run, "failed", "completed", "cancelled")
    usage = await run.usage()
    assert 60 < usage["unanswered_tokens"] < 300
    assert account_of(runtime, run).total.tokens == usage["unanswered_tokens"]


@pytest.mark.parametrize("is_first", [True, False])
async def test_a_run_says_what_it_cost_where_one_child_had_a_budget_and_another_none(
    runtime, is_first
):
    model = Counting(rate=1.0, fails=lambda number: ModelError(message="no"))
    lost = Agent("lost", model=model, max_tokens=60)
    answered = Agent("answered", model=Counting(rate=1.0), max_tokens=60)

    @workflow(name="free")
    async def free(ctx: Context, text: str) -> None:
        await ctx.run(answered, text)

    @workflow(name="bound")
    async def bound(ctx: Context, text: str) -> None:
        with contextlib.suppress(ModelError):
            await ctx.run(lost, text)

    @workflow(name="parent")
    async def parent(ctx: Context, text: str) -> None:
        for child in (free, bound) if is_first else (bound, free):
            await ctx.run(child, text, budget=Budget(tokens=5000) if child is bound else None)

    run = await runtime.start(parent, "go")
    await result(run)
    children = [await runtime.get(row.id) for row in runtime.store.runs(parent=run.id)]
    costs = [spent(await child.usage()) for child in children]
    assert min(costs) > 0
    assert spent(await run.usage()) == sum(costs)


@stores
async def test_a_run_that_is_cancelled_where_nobody_drives_it_says_what_its_calls_cost(url):
    model = Counting(rate=1.0)
    agent = Agent("agent", model=model, max_tokens=60)

    @workflow(name="child")
    async def child(ctx: Context, text: str) -> None:
        await ctx.run(agent, text)
        await ctx.ask(bool, "Go on?", key="go")

    @workflow(name="parent")
    async def parent(ctx: Context, text: str) -> None:
        await ctx.run(child, text)

    async with Runtime(url) as runtime:
        run = await runtime.start(parent, "go", budget=Budget(tokens=5000))
        async with asyncio.timeout(20):
            while not (children := runtime.store.runs(parent=run.id, status=("waiting",))):
                await asyncio.sleep(0.01)
    async with Runtime(url, worker=False) as runtime:
        waiting = await runtime.get(children[0].id)
        await waiting.cancel()
        await until(waiting, "cancelled")
        assert spent(await waiting.usage()) == model.tokens
        assert account_of(runtime, waiting).is_closed
        assert account_of(runtime, run).total.tokens == model.tokens


async def test_a_child_whose_parent_has_ended_makes_no_further_call(runtime):
    model = Gated(rate=1.0)
    agent = Agent("agent", model=model, max_tokens=60)
    held = asyncio.Event()

    @workflow(name="child")
    async def child(ctx: Context, text: str) -> None:
        try:
            await ctx.run(agent, text)
        except asyncio.CancelledError:
            held.set()
            raise

    @workflow(name="parent")
    async def parent(ctx: Context, text: str) -> None:
        task = asyncio.create_task(ctx.run(child, text))
        await model.asked.wait()
        task.cancel()

    run = await runtime.start(parent, "go", budget=Budget(tokens=5000))
    await result(run)
    model.gate.set()
    await asyncio.wait_for(held.wait(), 10)
    assert len(model.requests) == 0
    assert spent(await run.usage()) > 0


@stores
async def test_a_call_of_the_parent_gives_back_to_its_first_child(url):
    model = Counting(rate=0.25, wanted=5)
    agent = Agent("agent", model=model, max_tokens=900)

    @workflow(name="child")
    async def child(ctx: Context, text: str) -> str:
        return str((await ctx.run(agent, text)).output)

    @workflow(name="parent")
    async def parent(ctx: Context, text: str) -> int:
        calls = [ctx.run(agent, text), ctx.run(agent, text), ctx.run(child, text)]
        return len(await asyncio.gather(*calls))

    async with Runtime(url) as runtime:
        run = await runtime.start(parent, "go", budget=Budget(tokens=1100))
        assert await result(run) == 3
        assert [request.max_tokens for request in model.requests] == [900] * 3
        assert account_of(runtime, run).total.open == 0


@stores
async def test_a_run_of_another_process_waits_for_what_one_here_gives_back(url):
    model = Gated(rate=0.25, wanted=5)
    agent = Agent("agent", model=model, max_tokens=900)

    @workflow(name="child")
    async def child(ctx: Context, text: str) -> str:
        await ctx.ask(bool, "May it go?", key="go")
        return str((await ctx.run(agent, text)).output)

    @workflow(name="parent")
    async def parent(ctx: Context, text: str) -> int:
        return len(await asyncio.gather(ctx.run(agent, text), ctx.run(child, text)))

    async with Runtime(url, look_seconds=3.0) as here:
        run = await here.start(parent, "go", budget=Budget(tokens=1100))
        async with asyncio.timeout(20):
            while not (children := here.store.runs(parent=run.id)):
                await asyncio.sleep(0.01)
            while here.store.runs(parent=run.id)[0].owner is not None:
                await asyncio.sleep(0.05)  # until it has left memory, for its question
        async with Runtime(url, workflows=[child]) as there:
            asked = await there.get(children[0].id)
            await asked.answer("go", True)
            await asyncio.sleep(0.5)
            owners = {there.store.run(each).owner for each in (run.id, asked.id)}
            assert len(owners) == 2
            assert len(model.requests) == 0
            model.gate.set()
            assert await result(run) == 2
    assert [request.max_tokens for request in model.requests] == [900, 900]


@pytest.mark.parametrize("rate", [0.2, 0.3, 0.4])
async def test_an_estimate_passes_a_budget_by_no_more_than_its_margin(runtime, rate):
    model = Counting(rate=rate, chance=random.Random(3))
    flow = Family(model, agents=8, width=3).flow
    said, _ = await outcomes(runtime, flow, 2, Budget(tokens=4000))
    assert set(said) == {"answered", "BudgetExceeded"}
    assert 0.9 * 4000 <= model.tokens <= 4000 * (1 + MARGIN)


@stores
async def test_a_fork_within_a_tree_has_accounts_of_its_own(url):
    model = Counting(rate=0.25, wanted=5)
    agent = Agent("agent", model=model, max_tokens=50)

    @workflow(name="child")
    async def child(ctx: Context, number: int) -> int:
        await ctx.run(agent, f"{number}")
        return number

    @workflow(name="parent")
    async def parent(ctx: Context, text: str) -> int:
        return sum(await ctx.map(child, [1, 2, 3], concurrency=1))

    async with Runtime(url) as runtime:
        run = await runtime.start(parent, "go", budget=Budget(tokens=2000))
        assert await result(run) == 6
        before = account_of(runtime, run)
        cut = [e.offset for e in await run.recorded() if e.kind == "child.started"][1]
        fork = await runtime.fork(run.id, at=cut)
        assert await result(fork) == 6
        assert account_of(runtime, run) == before
        assert account_of(runtime, fork).total.calls == 2
        below = await runtime.get(runtime.store.runs(parent=run.id)[0].id)
        again = await runtime.fork(below.id, at=1)
        assert await result(again) == 3
        assert account_of(runtime, run) == before


async def test_a_run_without_children_has_no_row(runtime):
    model = Counting()
    agent = Agent("agent", model=model)

    @workflow(name="alone")
    async def alone(ctx: Context, text: str) -> None:
        await ctx.run(agent, text, budget=Budget(tokens=2000))

    run = await runtime.start(alone, "go", budget=Budget(tokens=5000))
    await result(run)
    assert runtime.store.accounts([run.id]) == []


async def test_accounts_go_with_their_runs(runtime):
    model = Counting(wanted=5)
    flow = Family(model, agents=1, width=2).flow
    run = await runtime.start(flow, Branch(depth=1), budget=Budget(tokens=5000))
    await result(run)
    ids = [run.id, *(row.id for row in runtime.store.runs(parent=run.id))]
    assert len(runtime.store.accounts(ids)) == 3
    await runtime.erase()
    assert runtime.store.accounts(ids) == []


@stores
async def test_what_nobody_drives_any_more_holds_nothing_up(url):
    model = Gated(rate=1.0)
    agent = Agent("agent", model=model, max_tokens=60)

    @workflow(name="child")
    async def child(ctx: Context, text: str) -> None:
        await ctx.run(agent, text)

    @workflow(name="parent")
    async def parent(ctx: Context, text: str) -> None:
        await ctx.run(child, text)

    async with Runtime(url) as runtime:
        run = await runtime.start(parent, "go", budget=Budget(tokens=5000))
        await asyncio.wait_for(model.asked.wait(), 10)
        assert account_of(runtime, run).total.open > 0
    store = open_store(url)
    (account,) = store.accounts([run.id])
    assert account.total.open == 0
    assert account.total.tokens > 60
    store.close()
    async with Runtime(url, worker=False) as runtime:
        await (await runtime.get(run.id)).cancel()
        with pytest.raises(RunCancelled):
            await result(await runtime.get(run.id))


async def test_a_budget_that_is_used_up_names_the_call_that_was_refused(runtime):
    model = Counting(rate=1.0)
    agent = Agent("agent", model=model, max_tokens=60)

    @workflow(name="child")
    async def child(ctx: Context, text: str) -> None:
        for number in range(20):
            await ctx.run(agent, f"{number}")

    @workflow(name="parent")
    async def parent(ctx: Context, text: str) -> None:
        await ctx.run(child, text)

    run = await runtime.start(parent, "go", budget=Budget(tokens=600))
    with pytest.raises(RunFailed, match=r"BudgetExceeded: \d+ tokens needed at child\[0\]/agent"):
        await result(run)


async def test_a_call_that_does_not_stop_when_it_is_told_to_gives_nothing_back():
    class Stubborn(Counting):
        async def complete(self, request, *, on_text=None):
            self.requests.append(request)
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                await asyncio.sleep(1.5)
            raise ModelError(message="late", status=503)

    model = Stubborn()
    agent = Agent("agent", model=model, max_tokens=60)

    @workflow(name="child")
    async def child(ctx: Context, text: str) -> None:
        await ctx.run(agent, text)

    @workflow(name="parent")
    async def parent(ctx: Context, text: str) -> None:
        with pytest.raises(StepTimeout):
            await ctx.run(child, text, timeout=0.2)
        await asyncio.sleep(2.5)

    async with Runtime(":memory:") as runtime:
        run = await runtime.start(parent, "go", budget=Budget(tokens=5000))
        await result(run)
        (below,) = runtime.store.runs(parent=run.id)
        accounts = runtime.store.accounts([run.id, below.id])
        assert [account.total.open for account in accounts] == [0, 0]
        assert spent(await run.usage()) == accounts[0].total.tokens > 60


async def test_a_call_that_is_cancelled_while_it_draws_leaves_nothing_under_way():
    model = Counting(rate=1.0, wanted=5)
    agent = Agent("agent", model=model, max_tokens=60)
    seen = list[tuple[int, int]]()

    @workflow(name="child")
    async def child(ctx: Context, text: str) -> None:
        await ctx.run(agent, text)

    @workflow(name="parent")
    async def parent(ctx: Context, text: str) -> None:
        await ctx.run(child, text)
        for passes in range(24):
            task = asyncio.create_task(ctx.run(agent, f"{passes}"))
            for _ in range(passes):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait({task})
            await asyncio.sleep(0.02)
            (account,) = runtime.store.accounts([ctx.run_id])
            seen.append((account.total.open, account.total.calls))

    async with Runtime(":memory:") as runtime:
        run = await runtime.start(parent, "go", budget=Budget(tokens=9000))
        await result(run)
        (account,) = runtime.store.accounts([run.id])
    assert {back for back, _ in seen} == {0}
    assert seen[-1][1] == account.total.calls
    assert spent(await run.usage()) == account.total.tokens >= model.tokens
