"""A key is for one start: with another thread or budget it is refused, and says what differs."""

import pytest

from crew import Budget, Context, KeyReused, Runtime, workflow
from tests.core.lives import result, stores


@workflow
async def echo(ctx: Context, text: str) -> str:
    return text


FIRST = {"thread": "t1", "budget": Budget(tokens=5)}
OTHERS = {
    "another thread": ({**FIRST, "thread": "t2"}, "another thread .'t1', now 't2'"),
    "no thread": ({"budget": FIRST["budget"]}, "another thread .'t1', now None"),
    "more tokens": ({**FIRST, "budget": Budget(tokens=6)}, "budget .tokens=5, now tokens=6"),
    "no budget": ({"thread": "t1"}, "another budget .tokens=5, now none"),
    "calls": ({**FIRST, "budget": Budget(tokens=5, calls=1)}, "now tokens=5, calls=1"),
    "seconds": ({**FIRST, "budget": Budget(seconds=9.5)}, "now seconds=9.5"),
}


@pytest.mark.parametrize(("other", "said"), OTHERS.values(), ids=OTHERS.keys())
async def test_a_key_with_something_else_is_refused_and_says_what(runtime, other, said):
    run = await runtime.start(echo, "a", key="k", **FIRST)
    with pytest.raises(KeyReused, match=said) as caught:
        await runtime.start(echo, "a", key="k", **other)
    assert caught.value.key == "k"
    assert [found.id for found in await runtime.runs()] == [run.id]
    assert (await runtime.thread("t2")).messages == ()


async def test_all_that_the_row_says_is_named_at_once(runtime):
    await runtime.start(echo, "a", key="k", thread="t1")
    with pytest.raises(KeyReused, match="another input and another thread"):
        await runtime.start(echo, "b", key="k", thread="t2")


async def test_the_same_start_again_is_the_same_run(runtime):
    run = await runtime.start(echo, "a", key="k", **FIRST)
    again = await runtime.start(echo, "a", key="k", thread="t1", budget=Budget(tokens=5))
    assert again.id == run.id


@stores
async def test_a_key_is_compared_after_a_restart_and_once_the_run_has_ended(url):
    async with Runtime(url, workflows=[echo]) as runtime:
        run = await runtime.start(echo, "a", key="k", **FIRST)
        await result(run)
    async with Runtime(url, worker=False) as door:
        assert (await door.start(echo, "a", key="k", **FIRST)).id == run.id
        for name in ("more tokens", "another thread"):
            other, said = OTHERS[name]
            with pytest.raises(KeyReused, match=said):
                await door.start(echo, "a", key="k", **other)


async def test_a_refused_key_cancels_no_turn_that_runs(runtime):
    @workflow
    async def asking(ctx: Context, text: str) -> str:
        return await ctx.ask(str, "What?", key="q")

    run = await runtime.start(asking, "a", key="k", thread="t")
    with pytest.raises(KeyReused, match="another budget"):
        await runtime.start(
            asking, "a", key="k", thread="t", budget=Budget(calls=1), when_busy="cancel"
        )
    assert await run.status() in ("running", "waiting")
    await run.cancel()
