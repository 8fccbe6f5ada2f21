"""Keys, positions and attempts: what further attempts find again, and what none may mistake."""

import asyncio
import itertools
from collections.abc import Iterator
from typing import Any

import pytest

from crew import Agent, Context, Graph, Retry, RunFailed, Runtime, workflow
from crew.testing import ScriptedModel
from tests.core.flows import Done
from tests.core.lives import answered, left_waiting, result, stores

DID: list[Any] = []
NUMBERS: Iterator[int] = itertools.count()
TWICE = Retry(attempts=3, first_delay=0.01)


@pytest.fixture(autouse=True)
def nothing_done():
    DID.clear()


async def draw() -> int:
    return next(NUMBERS)


async def act(item: int) -> int:
    DID.append(item)
    return item


def draw_in_thread() -> int:
    return next(NUMBERS)


async def drawn(item: int) -> int:
    return next(NUMBERS)


@workflow
async def number(ctx: Context, value: int) -> int:
    return next(NUMBERS)


writer = Agent("writer", model=ScriptedModel(lambda request: str(next(NUMBERS))))


async def outer(ctx: Context) -> int:
    return await ctx.effect(draw)


async def said(ctx: Context, key: str | None) -> int:
    return int((await ctx.run(writer, "?", key=key)).output)


async def keyed_last(ctx: Context) -> list[int]:
    positions = [await ctx.run(draw), await ctx.run(draw)]
    return [*positions, await ctx.run(draw, key="draw.1")]


async def of_tasks(ctx: Context) -> list[int]:
    keyed = await ctx.effect(draw, key="effect:0/draw")
    return [keyed, *await asyncio.gather(ctx.effect(draw), ctx.effect(draw))]


SAME_NAMES = {
    "effect": lambda ctx: together(ctx.effect(draw, key="draw"), ctx.effect(draw)),
    "effect in a thread": lambda ctx: together(
        ctx.effect(draw_in_thread), ctx.effect(draw_in_thread, key="draw_in_thread")
    ),
    "agent": lambda ctx: together(said(ctx, "writer"), said(ctx, None)),
    "child": lambda ctx: together(ctx.run(number, 0, key="number"), ctx.run(number, 0)),
    "map": lambda ctx: mapped(ctx),  # noqa: PLW0108  it is defined below
    "number of a position": keyed_last,
    "call in a call": lambda ctx: together(ctx.run(outer, ctx), ctx.effect(draw, key="outer/draw")),
    "timer": lambda ctx: together(ctx.effect(draw, key="random"), ctx.random()),
}


async def together(*work: Any) -> list[int]:
    return [await item for item in work]


async def mapped(ctx: Context) -> list[int]:
    keyed = await ctx.map(drawn, [0, 0], key="drawn")
    return [*keyed, *await ctx.map(drawn, [0, 0])]


@stores
@pytest.mark.parametrize("where", SAME_NAMES)
async def test_a_key_is_never_taken_for_a_position(where, url):
    @workflow
    async def flow(ctx: Context, value: int) -> list[int | float]:
        return await SAME_NAMES[where](ctx)

    async with Runtime(url, workflows=[flow, number]) as runtime:
        run = await runtime.start(flow, 0)
        found = await result(run)
        assert len({*found}) == len(found)
        assert await result(await runtime.replay(run.id)) == found


class Flaky:
    """What fails twice before it works."""

    def __init__(self) -> None:
        self.tries = 0

    def fail_at_first(self) -> None:
        self.tries += 1
        if self.tries < 3:
            raise ConnectionError(f"try {self.tries}")

    async def function(self, item: int = 0) -> int:
        self.fail_at_first()
        return self.tries

    def in_thread(self, item: int = 0) -> int:
        self.fail_at_first()
        return self.tries


def keyed(kind: str, flaky: Flaky) -> Any:
    if kind == "function in a thread":
        return flaky.in_thread
    if kind == "child":

        @workflow(name="inner")
        async def inner(ctx: Context, value: int) -> int:
            return await flaky.function()

        return inner
    if kind == "graph":
        graph = Graph("inner", input=int, output=Done)

        @graph.node
        async def node(ctx: Context, value: int) -> Done:
            return Done(n=await ctx.run(flaky.function))

        return graph

    def says(request: Any) -> str:
        flaky.fail_at_first()
        return str(flaky.tries)

    return Agent("flaky", model=ScriptedModel(says))


@stores
@pytest.mark.parametrize("kind", ["function in a thread", "child", "graph", "agent"])
async def test_a_call_with_a_key_is_tried_again(kind, url):
    flaky = Flaky()
    callee = keyed(kind, flaky)

    @workflow
    async def flow(ctx: Context, value: int) -> str:
        given = "0" if kind == "agent" else 0
        found = await ctx.run(callee, given, key="call", retry=TWICE)
        return str(getattr(found, "output", found))

    async with Runtime(url) as runtime:
        run = await runtime.start(flow, 0)
        assert "3" in await result(run)
        assert flaky.tries == 3


async def one_effect(ctx: Context) -> None:
    await ctx.effect(act, 1)


async def keyed_effect(ctx: Context) -> None:
    await ctx.effect(act, 1, key="one")


async def effect_in_a_call(ctx: Context) -> None:
    await ctx.run(one_effect, ctx)


async def effects_at_once(ctx: Context) -> None:
    await asyncio.gather(ctx.effect(act, 1), ctx.effect(act, 2))


async def effects_in_a_map(ctx: Context) -> None:
    async def one(item: int) -> int:
        return await ctx.effect(act, item)

    await ctx.map(one, [1, 2])


async def effect_retried_twice_over(ctx: Context) -> None:
    await ctx.run(one_effect, ctx, retry=TWICE)


ACTS = {
    "keyed": keyed_effect,
    "in a call": effect_in_a_call,
    "at once": effects_at_once,
    "in a map": effects_in_a_map,
    "retried within": effect_retried_twice_over,
}


def retried(acts: Any) -> tuple[Any, Flaky]:
    flaky = Flaky()

    async def attempt(ctx: Context) -> int:
        await acts(ctx)
        flaky.fail_at_first()
        return flaky.tries

    @workflow
    async def flow(ctx: Context, value: int) -> int:
        tries = await ctx.run(attempt, ctx, retry=TWICE)
        await ctx.ask(bool, "go?", key="go")
        return tries

    return flow, flaky


@stores
@pytest.mark.parametrize("acts", ACTS)
async def test_effects_in_a_call_that_is_tried_again_act_once(acts, url):
    flow, flaky = retried(ACTS[acts])
    run = await left_waiting(url, flow)
    output, _ = await answered(url, flow, run=run)
    assert (output, flaky.tries) == (3, 3)
    assert sorted(DID) == sorted({*DID})
    async with Runtime(url, workflows=[flow]) as runtime:
        assert await result(await runtime.replay(run)) == 3


@stores
async def test_a_question_in_a_call_that_is_tried_again_is_asked_once(url):
    async def asks(ctx: Context) -> None:
        assert await ctx.ask(bool, "go?", key="go")

    flaky = Flaky()

    async def attempt(ctx: Context) -> int:
        await asks(ctx)
        flaky.fail_at_first()
        return flaky.tries

    @workflow
    async def flow(ctx: Context, value: int) -> int:
        return await ctx.run(attempt, ctx, key="asking", retry=TWICE)

    output, events = await answered(url, flow, run=await left_waiting(url, flow))
    assert output == 3
    assert [event.kind for event in events].count("ask.opened") == 1


@pytest.mark.parametrize("key", [1, b"pay", "", ["pay"]])
@pytest.mark.parametrize("how", ["run", "effect", "ask", "map"])
async def test_a_key_that_is_no_text_is_refused_with_what_it_must_be(key, how):
    @workflow
    async def flow(ctx: Context, value: int) -> object:
        if how == "ask":
            return await ctx.ask(bool, "go?", key=key)
        if how == "map":
            return await ctx.map(act, [value], key=key)
        return await (ctx.run if how == "run" else ctx.effect)(act, value, key=key)

    async with Runtime("memory:", workflows=[flow]) as runtime:
        with pytest.raises(RunFailed, match="a key is a text of one letter at least"):
            await result(await runtime.start(flow, 0))
