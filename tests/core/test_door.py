"""What callers give is checked at the door: it says which argument, and of what type it is."""

import uuid
from enum import StrEnum
from pathlib import Path

import pytest

from crew import Budget, Context, InputInvalid, Runtime, workflow
from crew.message import Message


class Colour(StrEnum):
    RED = "red"


@workflow
async def echo(ctx: Context, text: str) -> str:
    return text


@workflow
async def asking(ctx: Context, text: str) -> str:
    return await ctx.ask(str, "What?", key="q")


KEY = uuid.UUID(int=1)
CALLS = {
    "start key": (lambda rt, run: rt.start(echo, "a", key=KEY), "key must be a string, not UUID"),
    "start key bytes": (lambda rt, run: rt.start(echo, "a", key=b"k"), "key .*not bytes"),
    "start thread": (lambda rt, run: rt.start(echo, "a", thread=7), "thread .*not int"),
    "start budget": (lambda rt, run: rt.start(echo, "a", budget=500), "budget .*not int"),
    "start when_busy": (
        lambda rt, run: rt.start(echo, "a", when_busy="wait"),
        "when_busy must be one of 'queue', 'reject', 'cancel', not 'wait'",
    ),
    "start workflow": (lambda rt, run: rt.start("echo", "a"), "workflow must be .*not str"),
    "start metadata": (lambda rt, run: rt.start(echo, "a", metadata={"a": KEY}), "metadata"),
    "start a list": (lambda rt, run: rt.start(echo, "a", metadata=["a"]), "metadata .*not list"),
    "of": (lambda rt, run: rt.of(KEY).runs(), "tenant .*not UUID"),
    "get": (lambda rt, run: rt.get(KEY), "run_id .*not UUID"),
    "get nothing": (lambda rt, run: rt.get(None), "run_id .*not NoneType"),
    "runs status": (lambda rt, run: rt.runs(status="done"), "status must be one of"),
    "runs limit": (lambda rt, run: rt.runs(limit="9"), "limit .*not str"),
    "runs thread": (lambda rt, run: rt.runs(thread=Path("t")), "thread .*not PosixPath"),
    "runs before": (lambda rt, run: rt.runs(before=1), "run_id .*not int"),
    "thread": (lambda rt, run: rt.thread(KEY), "thread .*not UUID"),
    "thread metadata": (lambda rt, run: rt.thread_metadata(None), "thread .*not NoneType"),
    "open_thread": (
        lambda rt, run: rt.open_thread(KEY, [Message("user", "hello")]),
        "thread .*not UUID",
    ),
    "describe_thread": (lambda rt, run: rt.describe_thread("t", {"a": {1}}), "metadata"),
    "answered": (lambda rt, run: rt.answered(KEY, thread="t"), "idempotency_key .*not UUID"),
    "fork": (lambda rt, run: rt.fork(run.id, at="2"), "at .*not str"),
    "fork nowhere": (lambda rt, run: rt.fork(run.id, at=0), "none at 0"),
    "replay": (lambda rt, run: rt.replay(KEY), "run_id .*not UUID"),
    "resume": (lambda rt, run: rt.resume(7), "run_id .*not int"),
    "prune": (lambda rt, run: rt.prune(older_than="1 day"), "older_than .*not str"),
    "prune keep": (lambda rt, run: rt.prune(keep=-1), "keep must be 0 or more"),
    "erase": (lambda rt, run: rt.erase(thread=KEY), "thread .*not UUID"),
    "answer key": (lambda rt, run: run.answer(KEY, "a"), "key .*not UUID"),
    "answer idempotency": (
        lambda rt, run: run.answer("q", "a", idempotency_key=KEY),
        "idempotency_key .*not UUID",
    ),
    "page": (lambda rt, run: run.page(after=-1, limit=1), "after must be 0 or more"),
}


@pytest.mark.parametrize(("call", "said"), CALLS.values(), ids=CALLS.keys())
async def test_an_argument_of_a_wrong_type_is_named(call, said):
    async with Runtime(":memory:") as runtime:
        run = await runtime.start(asking, "a", thread="t")
        with pytest.raises(InputInvalid, match=said):
            await call(runtime, run)
        assert await (await runtime.start(echo, "b")).result() == "b"


async def test_events_are_asked_for_behind_a_place(runtime):
    run = await runtime.start(echo, "a")
    with pytest.raises(InputInvalid, match="after .*not str"):
        await anext(aiter(run.events(after="1")))


async def test_a_name_that_is_a_kind_of_text_is_kept_as_text(runtime):
    budget = Budget(calls=1)
    run = await runtime.start(echo, "a", key=Colour.RED, thread=Colour.RED, budget=budget)
    assert await run.result() == "a"
    again = await runtime.start(echo, "a", key="red", thread="red", budget=budget)
    assert (again.id, type(again.key), type(again.thread)) == (run.id, str, str)
