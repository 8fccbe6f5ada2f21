"""A big value is encoded beside the event loop: whoever else is there goes on meanwhile."""

import asyncio
import shutil
import threading
from typing import Annotated, Any

import pytest
from pydantic import BaseModel, PlainSerializer

from crew import (
    Agent,
    Context,
    Graph,
    InputInvalid,
    OutputInvalid,
    RunCancelled,
    Runtime,
    StepTimeout,
    tool,
    workflow,
)
from crew.journal import Blob
from crew.journal.text import TextWriter
from crew.testing import ScriptedModel, ToolCall
from crew.value import BIG
from tests.core.lives import SECONDS, result, stores, until

TEXT = "x" * (BIG + 1)


class Gate:
    """Where the encoding of a value stands still until it is opened."""

    def __init__(self) -> None:
        self.reached, self._opened = threading.Event(), threading.Event()

    def open(self) -> None:
        self._opened.set()

    def pass_through(self, value: str) -> str:
        self.reached.set()
        self._opened.wait(5)
        return value

    async def until_reached(self) -> None:
        async with asyncio.timeout(SECONDS):
            while not self.reached.is_set():
                await asyncio.sleep(0.005)

    def close(self) -> None:
        self.reached.clear()
        self._opened.clear()

    @property
    def is_open(self) -> bool:
        return self._opened.is_set()


gate = Gate()


class Slow(BaseModel):
    mark: Annotated[str, PlainSerializer(gate.pass_through)] = "x"
    text: str = TEXT


@pytest.fixture(autouse=True)
def _closed():
    gate.close()
    yield
    gate.open()


async def give() -> Slow:
    return Slow()


async def act() -> Slow:
    return Slow()


async def sent(text: str) -> str:
    return text


@tool(effect="read")
async def look() -> Slow:
    """Look."""
    return Slow()


async def length_of(value: Slow) -> int:
    return len(value.text)


@workflow
async def by_function(ctx: Context, n: int) -> int:
    return len((await ctx.run(give)).text)


@workflow
async def by_effect(ctx: Context, n: int) -> int:
    return len((await ctx.effect(act, key="act")).text)


@workflow
async def by_output(ctx: Context, n: int) -> Slow:
    return Slow()


@workflow
async def by_child(ctx: Context, n: int) -> int:
    return len((await ctx.run(by_output, n)).text)


@workflow
async def by_argument(ctx: Context, n: int) -> int:
    return await ctx.run(length_of, Slow())


@workflow
async def by_input_of_a_child(ctx: Context, n: int) -> int:
    return await ctx.run(counts, Slow())


@workflow
async def by_tool(ctx: Context, n: int) -> int:
    model = ScriptedModel([ToolCall("look", {}), "seen"])
    agent = Agent("looker", model=model, tools=[look], output=str)
    return len((await ctx.run(agent, "look")).output)


@workflow
async def counts(ctx: Context, value: Slow) -> int:
    return len(value.text)


in_steps = Graph("in_steps", input=int, output=int)


@in_steps.node
async def first(n: int) -> Slow:
    return Slow()


@in_steps.node
async def second(value: Slow) -> int:
    return len(value.text)


@workflow
async def other(ctx: Context, n: int) -> int:
    return n + await ctx.run(one)


async def one() -> int:
    return 1


FLOWS = [by_function, by_effect, by_output, by_child, by_argument, by_input_of_a_child, by_tool]


@pytest.mark.parametrize("flow", [*FLOWS, in_steps], ids=lambda flow: flow.name)
async def test_other_runs_go_on_while_a_big_value_is_encoded(flow):
    async with Runtime(":memory:") as runtime:
        run = await runtime.start(flow, 0)
        await gate.until_reached()
        assert await result(await runtime.start(other, 1)) == 2
        assert not gate.is_open
        assert await run.status() == "running"
        gate.open()
        assert await result(run) in (len(TEXT), Slow(), len("seen"))


async def test_they_go_on_while_the_input_of_a_run_is_encoded():
    async with Runtime(":memory:") as runtime:
        starting = asyncio.create_task(runtime.start(counts, Slow(), key="once"))
        await gate.until_reached()
        assert await result(await runtime.start(other, 1)) == 2
        assert not starting.done()
        gate.open()
        run = await starting
        assert await result(run) == len(TEXT)
        assert (await runtime.start(counts, Slow(), key="once")).id == run.id


async def test_what_ends_while_a_big_value_is_encoded_comes_before_it():
    @workflow
    async def race(ctx: Context, n: int) -> list[str]:
        tasks = {
            asyncio.create_task(ctx.run(give, key="big"), name="big"),
            asyncio.create_task(ctx.run(one, key="small"), name="small"),
        }
        came = []
        while tasks:
            done, tasks = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            came += [task.get_name() for task in done]
            gate.open()
        return came

    async with Runtime(":memory:") as runtime:
        run = await runtime.start(race, 0)
        assert await result(run) == ["small", "big"]
        assert await result(await runtime.replay(run.id)) == ["small", "big"]


async def test_a_call_that_is_cancelled_while_its_result_is_encoded_has_none():
    async with Runtime(":memory:") as runtime:
        run = await runtime.start(by_function, 0)
        await gate.until_reached()
        await run.cancel()
        with pytest.raises(RunCancelled):
            await result(run)
        gate.open()
        assert "function.completed" not in [event.kind for event in await run.recorded()]


@pytest.mark.parametrize("call", ["child", "function"])
async def test_a_call_that_is_cancelled_while_it_is_told_apart_has_an_end(call):
    callee = counts if call == "child" else length_of

    @workflow
    async def flow(ctx: Context, n: int) -> int:
        calling = asyncio.create_task(ctx.run(callee, Slow(), key="it"))
        await asyncio.to_thread(gate.reached.wait, SECONDS)
        calling.cancel()
        await asyncio.wait([calling])
        assert calling.cancelled()
        return await ctx.run(one)

    async with Runtime(":memory:") as runtime:
        run = await runtime.start(flow, 0)
        assert await result(run) == 1
        gate.open()
        kinds = [event.kind for event in await run.recorded()]
        assert f"{call}.cancelled" in kinds
        assert f"{call}.completed" not in [kind for kind in kinds if call == "child"]


@stores
async def test_an_effect_that_was_given_much_is_answered_from_its_record(url):
    @workflow
    async def flow(ctx: Context, n: int) -> bool:
        made = await ctx.effect(sent, "x" * (BIG + 1), key="send")
        assert await ctx.ask(bool, "Go on?", key="go")
        return made == await ctx.effect(sent, "x" * (BIG + 1), key="again")

    async with Runtime(url, workflows=[flow]) as runtime:
        run = await runtime.start(flow, 0)
        await until(run, "waiting")
    async with Runtime(url, workflows=[flow]) as runtime:
        again = await runtime.get(run.id)
        await again.answer("go", True)
        assert await result(again) is True
        assert await result(await runtime.replay(run.id)) is True


@stores
@pytest.mark.parametrize("by_key", [True, False], ids=["effect", "function"])
async def test_a_big_value_that_new_code_cannot_read_parks_the_run(url, by_key):
    def flow_of(kind: Any) -> Any:
        async def make() -> Any:
            return ["x" * 300] * (BIG // 300)

        make.__annotations__["return"] = kind

        @workflow
        async def flow(ctx: Context, n: int) -> int:
            made = await (ctx.effect(make, key="made") if by_key else ctx.run(make))
            assert await ctx.ask(bool, "Go on?", key="go")
            return len(made)

        return flow

    async with Runtime(url, workflows=[flow_of(list[str])]) as runtime:
        run = await runtime.start(flow_of(list[str]), 0)
        await until(run, "waiting")
    async with Runtime(url, workflows=[flow_of(list[int])]) as runtime:
        again = await runtime.get(run.id)
        await again.answer("go", True)
        async with asyncio.timeout(SECONDS):
            while (await again.ending()).kind != "parked":
                await asyncio.sleep(0.01)
    async with Runtime(url, workflows=[flow_of(list[str])]) as runtime:
        assert await result(await runtime.resume(run.id)) == BIG // 300


async def test_a_patch_of_much_is_kept_for_the_next_step():
    class Shared(BaseModel):
        text: str = ""

    graph = Graph("shared", input=int, output=int, state=Shared)

    @graph.node
    async def write(ctx: Context, n: int) -> str:
        ctx.patch(text=TEXT)
        return "written"

    @graph.node
    async def read(ctx: Context, said: str) -> int:
        return len(ctx.state.text)

    async with Runtime(":memory:") as runtime:
        run = await runtime.start(graph, 0)
        assert await result(run) == len(TEXT)
        assert await result(await runtime.replay(run.id)) == len(TEXT)


async def test_the_time_of_a_call_goes_on_while_its_result_is_encoded():
    @workflow
    async def flow(ctx: Context, n: int) -> str:
        try:
            await ctx.run(give, timeout=0.05)
        except StepTimeout:
            return "late"
        return "in time"

    async with Runtime(":memory:") as runtime:
        run = await runtime.start(flow, 0)
        assert await result(run) == "late"
        assert await result(await runtime.replay(run.id)) == "late"


async def test_an_effect_that_is_cancelled_while_its_result_is_encoded_is_unknown():
    async with Runtime(":memory:") as runtime:
        run = await runtime.start(by_effect, 0)
        await gate.until_reached()
        await run.cancel()
        await until(run, "cancelled")
        gate.open()
        kinds = [event.kind for event in await run.recorded()]
        assert "effect.unknown" in kinds
        assert "effect.completed" not in kinds


async def test_a_process_that_dies_while_a_value_is_encoded_has_written_nothing_of_it(tmp_path):
    (tmp_path / "live").mkdir()
    async with Runtime(f"sqlite:///{tmp_path}/live/runs.db") as runtime:
        run = await runtime.start(by_function, 0)
        await gate.until_reached()
        shutil.copytree(tmp_path / "live", tmp_path / "dead")
        gate.open()
        assert await result(run) == len(TEXT)
    async with Runtime(f"sqlite:///{tmp_path}/dead/runs.db", workflows=[by_function]) as runtime:
        again = await runtime.get(run.id)
        assert await result(again) == len(TEXT)
        kinds = [event.kind for event in await again.recorded()]
        assert kinds.count("function.completed") == 1


KINDS: dict[str, tuple[Any, Any]] = {
    "numbers": (list[int], [*range(BIG // 8 + 1)]),
    "dicts": (list[dict[str, Any]], [{"n": n, "é": ["a", None, 1.5]} for n in range(12_000)]),
    "anything": (Any, {"a": [[n, {"b": "x" * 20}] for n in range(12_000)], "b:": "y"}),
    "text": (str, 'é"\\\n' * (BIG // 4 + 1)),
    "bytes": (bytes, b"x" * (BIG + 1)),
}


@stores
@pytest.mark.parametrize(("kind", "value"), KINDS.values(), ids=KINDS.keys())
async def test_a_big_value_is_the_same_for_whoever_reads_it(url, kind, value):
    async def make() -> Any:
        return value

    make.__annotations__["return"] = kind

    @workflow
    async def flow(ctx: Context, n: int) -> kind:  # type: ignore[valid-type]
        made = await ctx.run(make)
        assert await ctx.ask(bool, "Go on?", key="go")
        return made

    async with Runtime(url, workflows=[flow]) as runtime:
        run = await runtime.start(flow, 0)
        await until(run, "waiting")
    async with Runtime(url, workflows=[flow]) as runtime:
        again = await runtime.get(run.id)
        await again.answer("go", True)
        assert await result(again) == value
        events = await again.recorded()
        (made,) = [event.data["result"] for event in events if event.kind == "function.completed"]
        assert made == (value.decode() if kind is bytes else value)
        assert events == [event async for event in again.events()]
    async with Runtime(url, workflows=[flow]) as runtime:
        assert await result(await runtime.get(run.id)) == value
        assert await result(await runtime.replay(run.id)) == value


async def test_a_value_that_changes_while_it_is_encoded_is_refused():
    held: dict[str, Any] = {"slow": Slow(), **{str(n): n for n in range(20_000)}}

    async def give_held() -> dict[str, Any]:
        return held

    @workflow
    async def flow(ctx: Context, n: int) -> str:
        try:
            await ctx.run(give_held)
        except OutputInvalid as error:
            return str(error)
        return ""

    async with Runtime(":memory:") as runtime:
        run = await runtime.start(flow, 0)
        await gate.until_reached()
        held["more"] = 1
        gate.open()
        assert "let nothing change what was returned" in await result(run)


async def test_what_was_written_of_a_value_that_nobody_got_goes_with_a_scrub(tmp_path):
    @workflow
    async def flow(ctx: Context, n: int) -> str:
        return (await ctx.run(make))[:1]

    async def make() -> str:
        return TEXT

    files = tmp_path / "runs.db.blobs"
    async with Runtime(f"sqlite:///{tmp_path}/runs.db") as runtime:
        assert await result(await runtime.start(flow, 0)) == "x"
        store = runtime.store
        left = Blob("ab" * 32, b"x" * (2 << 20))
        store.write_ahead(left)
        assert len([*files.glob("??/*")]) == 2
        store.scrub()
        assert len([*files.glob("??/*")]) == 1


async def test_an_input_that_no_journal_takes_is_refused_by_name():
    @workflow
    async def flow(ctx: Context, parts: list[str]) -> int:
        return len(parts)

    async with Runtime(":memory:") as runtime:
        with pytest.raises(InputInvalid, match="it is more than 64 MiB of JSON"):
            await runtime.start(flow, ["x" * 1_000_000] * 70)
        assert await runtime.runs() == []


def test_of_values_that_were_written_down_the_newest_are_kept():
    writer, values = TextWriter(), [[n] for n in range(1000)]
    for value in values:
        writer.make_ready(value, Blob(f"{value}", b""))
    assert id(values[-1]) in writer.ready
    assert id(values[0]) not in writer.ready


@stores
async def test_data_that_look_like_a_pointer_to_a_big_value_are_data(url):
    looks = {"$json": "a" * 64, "in": [{"$json": "b" * 64}]}

    async def give_looks() -> dict[str, Any]:
        return looks

    @workflow
    async def flow(ctx: Context, n: int) -> dict[str, Any]:
        made = await ctx.run(give_looks)
        assert await ctx.ask(bool, "Go on?", key="go")
        return made

    async with Runtime(url, workflows=[flow]) as runtime:
        run = await runtime.start(flow, 0)
        await until(run, "waiting")
    async with Runtime(url, workflows=[flow]) as runtime:
        again = await runtime.get(run.id)
        await again.answer("go", True)
        assert await result(again) == looks
