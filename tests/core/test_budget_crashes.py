"""After crashes the accounts of a tree hold what its journals say, and no more than its budget."""

import asyncio
import random
from collections.abc import Sequence
from functools import partial

import pytest

from crew import Agent, Budget, Context, Runtime, workflow
from crew.errors import StoreError
from crew.journal import Append, Operation
from crew.journal.memory import MemoryStore
from crew.testing import CrashingStore, ScriptedModel, SeededLoop, simulate
from crew.testing.faulty_store import FaultyStore
from tests.core.counting import Counting
from tests.core.lives import result
from tests.core.test_budget_tree import PATIENCE, Branch, Family, failing, spent
from tests.core.test_take import FailsOnce

BUDGET = Budget(tokens=5000, strict=True)


async def holds(memory: MemoryStore, model: Counting, run) -> None:
    """Compare what was counted with what the endpoint has, and with the account."""
    ours = spent(await run.usage())
    assert model.tokens <= ours <= 5000
    (account,) = memory.accounts([run.id])
    assert account.total.tokens == ours
    assert account.total.open == 0


async def crashed(memory: MemoryStore, flow, after: int) -> str:
    """Start a run, and end its process after so many events; return its id."""
    store = CrashingStore(memory, after=after)
    async with Runtime(store) as runtime:
        run = await runtime.start(flow, Branch(depth=2), budget=BUDGET)
        async with asyncio.timeout(PATIENCE):
            while not store.is_down and await run.status() == "running":
                await asyncio.sleep(0.001)
    memory.forget_owners()
    return run.id


@pytest.mark.parametrize("seed", range(50))
async def test_after_a_crash_the_account_is_read_and_not_reserved_twice(seed):
    chance, memory = random.Random(seed), MemoryStore()
    model = Counting(rate=1.0, fails=failing, chance=chance)
    flow = Family(model, agents=4, width=3).flow
    found = await crashed(memory, flow, chance.randint(2, 250))
    async with Runtime(memory, workflows=[flow]) as runtime:
        run = await runtime.get(found)
        assert len(await result(run)) == 4 * 13
        await holds(memory, model, run)


@pytest.mark.parametrize("seed", range(8))
async def test_where_nobody_knows_what_was_written_the_budget_holds(seed):
    chance, memory = random.Random(seed), MemoryStore()
    model = Counting(rate=1.0, fails=failing, chance=chance)
    flow = Family(model, agents=4, width=3).flow
    store = FaultyStore(memory, after=1 << 30, chance=chance, often=0.1)
    said: list[str] = []
    async with Runtime(store, workflows=[flow]) as runtime, asyncio.timeout(PATIENCE):
        run = await runtime.start(flow, Branch(depth=2), budget=BUDGET)
        while not said:
            try:
                said = await run.result()
            except StoreError:
                await asyncio.sleep(0.05)
        await holds(memory, model, run)
    assert len(said) == 4 * 13


def test_children_on_one_budget_survive_every_schedule():
    agent = Agent("agent", model=ScriptedModel(lambda request: "yes it is"), max_tokens=40)

    @workflow(name="leaf")
    async def leaf(ctx: Context, number: int) -> int:
        await asyncio.gather(*(ctx.run(agent, f"{number} {each}") for each in range(2)))
        return number

    @workflow(name="branch")
    async def branch(ctx: Context, number: int) -> int:
        leaves = [ctx.run(leaf, number), ctx.run(leaf, number + 1), ctx.run(agent, "beside")]
        first, second, _ = await asyncio.gather(*leaves)
        return first + second

    @workflow(name="trunk")
    async def trunk(ctx: Context, text: str) -> int:
        return sum(await ctx.map(branch, [1, 3], budget=Budget(tokens=8000)))

    assert simulate(trunk, "go", seeds=40).output == 10


def asks_a_model(operation: Operation) -> bool:
    kinds = [event.kind for event in operation.events] if isinstance(operation, Append) else []
    return "model.started" in kinds


async def spent_by_a_child(memory: MemoryStore, agents: int) -> tuple[int, int]:
    """Let the commit of a child's first call of a model fail; return what was counted, and held."""
    model = Counting()
    agent = Agent("agent", model=model, max_tokens=16)

    @workflow(name="leaf")
    async def leaf(ctx: Context, text: str) -> None:
        for _ in range(agents):
            await ctx.run(agent, text)

    @workflow(name="trunk")
    async def trunk(ctx: Context, text: str) -> None:
        beside = (ctx.run(leaf, f"{n}", budget=Budget(tokens=190)) for n in range(2))
        await asyncio.gather(ctx.run(leaf, text, budget=Budget(tokens=190)), *beside)

    async with Runtime(FailsOnce(memory, asks_a_model), workflows=[leaf, trunk]) as runtime:
        run = await runtime.start(trunk, "go")
        while await run.status() == "running":
            await asyncio.sleep(0.01)
        await run.result()
    return model.tokens, memory.accounts([run.id])[0].total.tokens


@pytest.mark.parametrize("agents", [1, 2, 3])
def test_what_was_drawn_for_an_intent_that_was_not_written_comes_back(agents):
    for seed in range(20):
        with asyncio.Runner(loop_factory=partial(SeededLoop, seed, limit=1000.0)) as runner:
            counted, held = runner.run(spent_by_a_child(MemoryStore(), agents))
        assert counted == held == 3 * 28 * agents


class Leaves(CrashingStore):
    """A store that tells when so many events are written."""

    def __init__(self, memory: MemoryStore, events: int) -> None:
        super().__init__(memory, after=1 << 30)
        self.until, self.is_full = events, asyncio.Event()

    def commit(self, operations: Sequence[Operation]) -> list[object]:
        results = super().commit(operations)
        self.until -= sum(len(each.events) for each in operations if isinstance(each, Append))
        if self.until <= 0:
            self.is_full.set()
        return results


async def asked_until(memory: MemoryStore, events: int, budget: Budget) -> tuple[int, int]:
    """Leave a run after so many events; return how often a model was asked, and how often meant."""
    model = Counting(counts=True)
    agent = Agent("agent", model=model, max_tokens=16)

    @workflow(name="leaf")
    async def leaf(ctx: Context, text: str) -> None:
        async def later(passes: int) -> None:
            for _ in range(passes):
                await asyncio.sleep(0)
            await ctx.run(agent, text)

        await asyncio.gather(*map(later, range(12)))

    @workflow(name="trunk")
    async def trunk(ctx: Context, text: str) -> None:
        await ctx.run(leaf, text)

    store = Leaves(memory, events)
    async with Runtime(store, workflows=[leaf, trunk]) as runtime:
        await runtime.start(trunk, "go", budget=budget)
        await store.is_full.wait()
    kinds = [e.kind for row in memory.runs() for e in memory.events(row.number)]
    return len(model.requests), kinds.count("model.started")


@pytest.mark.parametrize("budget", [Budget(tokens=9999), Budget(calls=99)], ids=["tokens", "calls"])
def test_no_model_is_asked_by_a_run_that_is_let_go_before_that_is_on_record(budget):
    for seed in range(5):
        for events in range(4, 12):
            with asyncio.Runner(loop_factory=partial(SeededLoop, seed, limit=1000.0)) as runner:
                asked, meant = runner.run(asked_until(MemoryStore(), events, budget))
            assert asked <= meant


async def said_after_a_restart(memory: MemoryStore, seed: int) -> list[str]:
    """Leave a run while two agents wait for a model; return what they say when it goes on."""
    model = Counting(counts=True, wanted=4, chance=random.Random(seed))
    agent = Agent("agent", model=model, max_tokens=16)

    @workflow(name="leaf")
    async def leaf(ctx: Context, text: str) -> list[str]:
        return [each.output for each in await ctx.map(agent, [text, text])]

    @workflow(name="trunk")
    async def trunk(ctx: Context, text: str) -> list[str]:
        return await ctx.run(leaf, text, budget=Budget(tokens=205))

    store = Leaves(memory, 8)
    async with Runtime(store, workflows=[leaf, trunk]) as runtime:
        run = await runtime.start(trunk, "go")
        await store.is_full.wait()
    memory.forget_owners()
    async with Runtime(memory, workflows=[leaf, trunk]) as runtime:
        return await (await runtime.get(run.id)).result()


def test_whoever_asks_a_model_anew_waits_for_what_may_come_back():
    for seed in range(20):
        with asyncio.Runner(loop_factory=partial(SeededLoop, seed, limit=1000.0)) as runner:
            said = runner.run(said_after_a_restart(MemoryStore(), seed))
        assert len(said) == 2
