"""`ctx.thread.state` is kept with the conversation, and committed with the turn that changes it."""

import asyncio
import contextlib
from typing import Any

import pytest
from pydantic import BaseModel

from crew import (
    Agent,
    Context,
    Graph,
    Retry,
    RunCancelled,
    RunFailed,
    Runtime,
    ToolCall,
    tool,
    workflow,
)
from crew.errors import GraphError, OutputInvalid, StoreError
from crew.journal.opening import open_store
from crew.testing import CrashingStore, ScriptedModel, simulate
from tests.core.lives import SECONDS, result, stores, until

THREAD = "t"


class Go(BaseModel):
    name: str


class Went(BaseModel):
    name: str
    seen: dict[str, Any]


def asks_tools(*calls: Any) -> ScriptedModel:
    """A model that calls these, in one reply each, and then says what came last."""

    def reply(request: Any) -> Any:
        turn = sum(message.role == "tool" for message in request.messages)
        return calls[turn] if turn < len(calls) else request.messages[-1].text

    return ScriptedModel(reply)


class Shop:
    """A turn in which the step, a tool, and an agent within a function change the state."""

    def __init__(self) -> None:
        @tool
        async def add(ctx: Context, item: str) -> str:
            """Put something into the cart."""
            cart = ctx.thread.state.setdefault("cart", [])
            cart.append(item)
            await ctx.sleep(0.001)
            ctx.thread.state["last"] = item
            return f"{len(cart)} in the cart"

        calls = [ToolCall("add", {"item": "tea"}), ToolCall("add", {"item": "milk"})]
        clerk = Agent("clerk", tools=[add], model=asks_tools(*calls))

        async def once_more(ctx: Context) -> str:
            return (await ctx.run(clerk, "the same")).output

        @workflow(name="shop")
        async def shop(ctx: Context, text: str) -> list[Any]:
            ctx.thread.state["turns"] = ctx.thread.state.get("turns", 0) + 1
            first = (await ctx.run(clerk, text)).output
            seen = len(ctx.thread.state["cart"])
            second = await ctx.run(once_more, ctx)
            ctx.thread.state.pop("last")
            return [first, seen, second, ctx.thread.state["turns"]]

        self.flow = shop


async def state_of(runtime: Any, thread: str = THREAD) -> dict[str, Any]:
    return dict((await runtime.thread(thread)).state)


async def turn(runtime: Any, flow: Any, value: Any = "x", thread: str = THREAD) -> Any:
    return await result(await runtime.start(flow, value, thread=thread))


async def test_steps_and_tools_find_it_in_the_next_turn(runtime):
    flow = Shop().flow
    assert await turn(runtime, flow) == ["2 in the cart", 2, "4 in the cart", 1]
    assert await state_of(runtime) == {"turns": 1, "cart": ["tea", "milk"] * 2}
    assert await turn(runtime, flow) == ["6 in the cart", 6, "8 in the cart", 2]
    assert await state_of(runtime) == {"turns": 2, "cart": ["tea", "milk"] * 4}
    assert await state_of(runtime, "another") == {}


async def crashed(url: str, after: int) -> None:
    """Crash the second of two turns after so many events."""
    flow = Shop().flow
    kept = open_store(url)
    try:
        async with Runtime(kept, workflows=[flow]) as runtime:
            await turn(runtime, flow)
        store = CrashingStore(kept, after=after)
        async with Runtime(store, workflows=[flow]) as runtime:
            with contextlib.suppress(StoreError):
                run = await runtime.start(flow, "x", key="one", thread=THREAD)
                async with asyncio.timeout(SECONDS):
                    while not store.is_down and await run.status() == "running":
                        await asyncio.sleep(0.002)
        async with Runtime(kept, workflows=[]) as runtime:
            thread = await runtime.thread(THREAD)
            has_answer = len(thread.messages) == 4
            assert thread.state["turns"] == (2 if has_answer else 1)
        async with Runtime(kept, workflows=[flow]) as runtime:
            run = await runtime.start(flow, "x", key="one", thread=THREAD)
            assert await result(run) == ["6 in the cart", 6, "8 in the cart", 2]
            assert await state_of(runtime) == {"turns": 2, "cart": ["tea", "milk"] * 4}
            assert await result(await runtime.replay(run.id)) == await result(run)
    finally:
        with contextlib.suppress(StoreError):
            kept.close()


@pytest.mark.parametrize("after", range(2, 56))
async def test_a_crash_anywhere_gives_the_turn_and_its_changes_or_neither(tmp_path, after):
    await crashed(f"sqlite:///{tmp_path}/runs.db", after)


@pytest.mark.parametrize("url", ["postgres"], indirect=True)
@pytest.mark.parametrize("after", [7, 16, 29, 46])
async def test_so_does_one_on_postgresql(url, after):
    await crashed(url, after)


def test_it_survives_a_simulation():
    assert simulate(Shop().flow, "x", seeds=15).output == ["2 in the cart", 2, "4 in the cart", 1]


async def test_a_replay_reads_what_the_run_read_whatever_came_since(runtime):
    @workflow(name="counts")
    async def counts(ctx: Context, text: str) -> int:
        ctx.thread.state["n"] = ctx.thread.state.get("n", 0) + 1
        return ctx.thread.state["n"]

    runs = [await runtime.start(counts, "x", thread=THREAD) for _ in range(3)]
    assert [await result(run) for run in runs] == [1, 2, 3]
    assert await result(await runtime.replay(runs[1].id)) == 2
    fork = await runtime.fork(runs[1].id)
    assert await result(fork) == 2
    assert await state_of(runtime) == {"n": 3}  # a fork is no turn


async def test_code_that_runs_in_a_thread_changes_it_too(runtime):
    @tool
    def add(ctx: Context, item: str) -> str:
        """Put something into the cart."""
        ctx.thread.state.setdefault("cart", []).append(item)
        return item

    agent = Agent("agent", tools=[add], model=asks_tools(ToolCall("add", {"item": "tea"})))
    graph = Graph("graph", input=str, output=int)

    @graph.node
    def begin(ctx: Context, text: str) -> list[Go]:
        ctx.thread.state["begun"] = len(ctx.thread.messages)
        return [Go(name=str(number)) for number in range(5)]

    @graph.node
    async def ask(ctx: Context, go: Go) -> Went:
        return Went(name=(await ctx.run(agent, go.name)).output, seen={})

    @graph.node
    def end(ctx: Context, went: list[Went]) -> int:
        ctx.thread.state["ended"] = ctx.thread.state["begun"]
        return len(ctx.thread.state["cart"])

    run = await runtime.start(graph, "x", thread=THREAD)
    count = await result(run)  # of branches that begin at once, the last to complete stands
    assert await result(await runtime.replay(run.id)) == count
    state = {"begun": 0, "ended": 0, "cart": ["tea"] * count}
    assert await state_of(runtime) == state


async def test_a_turn_that_fails_leaves_it_as_it_was(runtime):
    @workflow(name="fails")
    async def fails(ctx: Context, text: str) -> str:
        ctx.thread.state["said"] = text
        if text == "bad":
            raise ValueError(text)
        return text

    await turn(runtime, fails, "good")
    with pytest.raises(RunFailed):
        await turn(runtime, fails, "bad")
    assert await state_of(runtime) == {"said": "good"}


async def test_a_turn_that_is_cancelled_leaves_it_as_it_was(runtime):
    @workflow(name="waits")
    async def waits(ctx: Context, text: str) -> bool:
        ctx.thread.state["said"] = text
        return await ctx.ask(bool, "go?", key="go")

    run = await runtime.start(waits, "x", thread=THREAD)
    await until(run, "waiting")
    await run.cancel()
    with pytest.raises(RunCancelled):
        await result(run)
    assert await state_of(runtime) == {}


async def test_what_fails_in_a_turn_changes_nothing_and_its_next_attempt_begins_anew(runtime):
    tried: list[dict[str, Any]] = []

    @tool
    async def mark(ctx: Context) -> str:
        """Mark it."""
        ctx.thread.state["marked"] = True
        raise ValueError("no")

    agent = Agent("agent", tools=[mark], model=asks_tools(ToolCall("mark", {})))
    graph = Graph("graph", input=str, output=int)

    @graph.node(retry=Retry(attempts=2, first_delay=0.001))
    async def step(ctx: Context, text: str) -> int:
        tried.append(dict(ctx.thread.state))
        ctx.thread.state["tries"] = ctx.thread.state.get("tries", 0) + 1
        await ctx.run(agent, text)
        if len(tried) == 1:
            raise OSError("once")
        return 1

    await turn(runtime, graph)
    assert tried == [{}, {}]
    assert await state_of(runtime) == {"tries": 1}


def branches(looks: Any) -> Graph:
    """One branch looks at the state, and waits; another changes it meanwhile, and completes."""
    graph = Graph("branches", input=str, output=dict)

    @graph.node
    async def split(ctx: Context, text: str) -> list[Go]:
        return [Go(name="first"), Go(name="second")]

    @graph.node
    async def branch(ctx: Context, go: Go) -> Went:
        if go.name == "second":
            ctx.thread.state["by"] = "second"
            return Went(name=go.name, seen={})
        seen = dict(ctx.thread.state) if looks else {}
        await ctx.ask(bool, "go?", key="go")
        return Went(name=go.name, seen=seen | dict(ctx.thread.state))

    @graph.node
    async def join(ctx: Context, went: list[Went]) -> dict:
        return {each.name: each.seen for each in went} | {"join": dict(ctx.thread.state)}

    return graph


@stores
@pytest.mark.parametrize("looks", [True, False])
async def test_a_step_that_is_entered_again_sees_what_it_saw(url, looks):
    flow = branches(looks)
    async with Runtime(url, workflows=[flow]) as runtime:
        run = await runtime.start(flow, "x", thread=THREAD)
        await until(run, "waiting")
    async with Runtime(url, workflows=[flow]) as runtime:
        run = await runtime.get(run.id)
        await run.answer("go", True)
        first = {} if looks else {"by": "second"}
        expected = {"first": first, "second": {}, "join": {"by": "second"}}
        assert await result(run) == expected
        assert await result(await runtime.replay(run.id)) == expected


async def test_items_of_a_map_change_it_in_their_order(memory):
    @tool
    async def add(ctx: Context, after: float, item: str) -> str:
        """Add it."""
        await ctx.sleep(after)
        ctx.thread.state["last"] = item
        ctx.thread.state[item] = True
        return item

    def reply(request: Any) -> Any:
        item = request.messages[0].text
        after = 0.05 if item == "a" else 0.0
        if request.messages[-1].role == "tool":
            return "done"
        return ToolCall("add", {"after": after, "item": item})

    agent = Agent("agent", tools=[add], model=ScriptedModel(reply))

    @workflow(name="maps")
    async def maps(ctx: Context, text: str) -> int:
        await ctx.map(agent, ["a", "b"])
        return len(ctx.thread.state)

    assert await turn(memory, maps) == 3
    assert await state_of(memory) == {"last": "b", "a": True, "b": True}


@pytest.mark.parametrize(
    "value", [object(), {1, 2}, (1,), b"x", {1: "x"}, float("nan"), [{"deep": object()}]]
)
async def test_what_is_no_json_is_refused_where_it_is_set(memory, value):
    caught: list[str] = []

    @workflow(name="sets")
    async def sets(ctx: Context, text: str) -> str:
        try:
            ctx.thread.state["x"] = value
        except OutputInvalid as error:
            caught.append(str(error))
        return text

    await turn(memory, sets)
    assert caught[0].startswith("ctx.thread.state['x'] keeps JSON alone")
    assert await state_of(memory) == {}


async def test_what_became_no_json_in_place_fails_its_step(memory):
    @workflow(name="grows")
    async def grows(ctx: Context, text: str) -> str:
        ctx.thread.state["cart"] = []
        ctx.thread.state["cart"].append(object())
        return text

    with pytest.raises(RunFailed, match=r"state\['cart'\] keeps JSON alone"):
        await turn(memory, grows)


async def test_what_a_tool_left_no_json_is_for_the_model_to_read(memory):
    @tool
    async def keep(ctx: Context) -> str:
        """Keep a set."""
        ctx.thread.state["words"] = []
        ctx.thread.state["words"].append({1})
        return "kept"

    model = ScriptedModel(
        lambda request: ToolCall("keep") if len(request.messages) < 2 else request.messages[-1].text
    )

    @workflow
    async def flow(ctx: Context, text: str) -> str:
        return (await ctx.run(Agent("clerk", model=model, tools=[keep]), text)).output

    run = await memory.start(flow, "hello", thread=THREAD)
    assert "keeps JSON alone" in await result(run)
    assert "words" not in (await memory.thread(THREAD)).state


async def test_what_grows_too_big_is_refused(memory):
    @workflow(name="grows")
    async def grows(ctx: Context, text: str) -> str:
        for number in range(3):
            ctx.thread.state[f"part {number}"] = "x" * 500_000
        return text

    with pytest.raises(RunFailed, match=r"ctx.thread.state would hold 15000\d\d bytes"):
        await turn(memory, grows)


def in_function(ctx: Context) -> str:
    async def function() -> int:
        ctx.thread.state["x"] = 1
        return 1

    return ctx.run(function)


def in_effect(ctx: Context) -> Any:
    async def act() -> int:
        ctx.thread.state["x"] = 1
        return 1

    return ctx.effect(act)


@pytest.mark.parametrize("made", [in_function, in_effect])
async def test_it_is_not_changed_where_that_would_be_lost(memory, made):
    @workflow(name="changes")
    async def changes(ctx: Context, text: str) -> int:
        return await made(ctx)

    with pytest.raises(RunFailed, match=r"ctx.thread.state (is|cannot be) changed"):
        await turn(memory, changes)


async def test_a_function_reads_a_copy(memory):
    @workflow(name="reads")
    async def reads(ctx: Context, text: str) -> list[str]:
        async def function() -> list[str]:
            found = ctx.thread.state["cart"]
            found.append("lost")
            return found

        ctx.thread.state["cart"] = ["tea"]
        return [*await ctx.run(function), *ctx.thread.state["cart"]]

    assert await turn(memory, reads) == ["tea", "lost", "tea"]
    assert await state_of(memory) == {"cart": ["tea"]}


async def test_without_a_thread_it_is_empty_and_keeps_nothing(memory):
    @workflow(name="alone")
    async def alone(ctx: Context, text: str) -> str:
        assert dict(ctx.thread.state) == {}
        ctx.thread.state["x"] = 1
        return text

    with pytest.raises(RunFailed, match="start the run with thread="):
        await result(await memory.start(alone, "x"))


@pytest.mark.parametrize("name", ["", ":agent:desk", 1])
async def test_its_names_are_texts_of_the_users(memory, name):
    @workflow(name="names")
    async def names(ctx: Context, text: str) -> str:
        ctx.thread.state[name] = 1
        return text

    with pytest.raises(RunFailed, match="a name is a text"):
        await turn(memory, names)


@stores
async def test_odd_texts_and_numbers_come_back_as_they_were(url):
    kept = {
        "half": "\ud800",
        "long": "x" * 5000,
        "big": 2**80,
        "small": 1e-300,
        "nested": [{"ä": None}],
    }

    @workflow(name="odd")
    async def odd(ctx: Context, text: str) -> bool:
        was_kept = dict(ctx.thread.state) == kept
        ctx.thread.state.update(kept)
        return was_kept

    async with Runtime(url) as runtime:
        assert [await turn(runtime, odd) for _ in range(2)] == [False, True]
        second = (await runtime.runs(thread=THREAD))[0]
        end = (await second.recorded())[-1]
        assert "thread" not in end.data  # nothing has changed


async def test_outside_a_turn_it_is_only_read(runtime):
    await turn(runtime, Shop().flow)
    state = (await runtime.thread(THREAD)).state
    state["cart"].append("x")
    with pytest.raises(GraphError, match="is changed in a turn"):
        state["x"] = 1
    with pytest.raises(GraphError, match="is changed in a turn"):
        del state["cart"]
    assert len((await runtime.thread(THREAD)).state["cart"]) == 4


async def test_it_goes_with_its_thread(runtime):
    await turn(runtime, Shop().flow)
    await runtime.erase(thread=THREAD)
    assert await state_of(runtime) == {}
    assert (await turn(runtime, Shop().flow))[-1] == 1


@stores
async def test_it_is_in_snapshots(url):
    graph = Graph("wide", input=str, output=int)
    waits = asyncio.Event()

    @graph.node
    async def split(ctx: Context, text: str) -> list[Go]:
        ctx.thread.state["begun"] = text
        return [Go(name=str(number)) for number in range(200)]

    @graph.node(concurrency=1)
    async def count(ctx: Context, go: Go) -> Went:
        if go.name == "190" and not waits.is_set():
            waits.set()
            await asyncio.Event().wait()
        ctx.thread.state["last"] = go.name
        return Went(name=go.name, seen={})

    @graph.node
    async def join(ctx: Context, went: list[Went]) -> int:
        return len(ctx.thread.state)

    async with Runtime(url, workflows=[graph]) as runtime:
        run = await runtime.start(graph, "x", thread=THREAD)
        async with asyncio.timeout(SECONDS):
            await waits.wait()
    async with Runtime(url, workflows=[graph]) as runtime:
        assert await result(await runtime.get(run.id)) == 2
        assert await state_of(runtime) == {"begun": "x", "last": "199"}
