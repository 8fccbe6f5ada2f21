"""Taking a run, folding its journal, and going on or parking are one unit, whatever fails in it."""

import asyncio
import contextlib
import functools
from typing import Any

import pytest
from pydantic import BaseModel, create_model

from crew import Agent, AskError, Context, Diverged, Graph, Runtime, StoreError, workflow
from crew.journal import PARKED, Append, Release
from crew.journal.opening import open_store
from crew.testing import ScriptedModel
from tests.core.flows import Answer

SECONDS = 30.0
databases = pytest.mark.parametrize("url", ["sqlite", "postgres"], indirect=True)


class In(BaseModel):
    n: int = 0


class Out(BaseModel):
    n: int


def kind(name: str) -> Any:
    return create_model(name, n=(int, ...))


A, B, C = kind("A"), kind("B"), kind("C")


def flow(gives: Any, value: Any, *takers: Any, first: str = "first") -> Graph:
    """Return a graph whose first node gives `value`; for each of `takers` there is one that asks.

    A list is fanned out and joined.
    """
    graph = Graph("flow", input=In, output=Out)

    async def begin(given: In) -> Any:
        return value

    begin.__annotations__["return"] = gives
    graph.node(name=first)(begin)
    for number, taker in enumerate(takers):

        async def take(ctx: Context, item: Any) -> Any:
            agreed = await ctx.ask(bool, "?", key="q")
            return Answer(text=str(agreed)) if isinstance(value, list) else Out(n=agreed)

        returns = Answer if isinstance(value, list) else Out
        take.__annotations__ |= {"item": taker, "return": returns}
        graph.node(name=f"take{number}")(take)
    if isinstance(value, list):

        @graph.node
        async def join(answers: list[Answer]) -> Out:
            return Out(n=len(answers))

    return graph


def of_input(taken: Any) -> Graph:
    """Return a graph whose input is a union."""
    graph = Graph("flow", input=taken | B, output=Out)
    for number, taker in enumerate((taken, B)):

        async def take(ctx: Context, item: Any) -> Out:
            return Out(n=await ctx.ask(bool, "?", key="q"))

        take.__annotations__["item"] = taker
        graph.node(name=f"take{number}")(take)
    return graph


OTHER_GRAPHS = {
    "a member of a union is renamed": (
        flow(A | B, A(n=1), A, B),
        flow(C | B, C(n=1), C, B),
    ),
    "a member of a union is gone": (
        flow(A | B | C, C(n=1), A, B, C),
        flow(A | B, A(n=1), A, B),
    ),
    "one type became a union": (flow(A, A(n=1), A), flow(A | B, A(n=1), A, B)),
    "a member is renamed in a fan-out": (
        flow(list[A | B], [A(n=1)], A, B),
        flow(list[C | B], [C(n=1)], C, B),
    ),
    "one type became a union in a fan-out": (
        flow(list[A], [A(n=1)], A),
        flow(list[A | B], [A(n=1)], A, B),
    ),
    "one value became a fan-out": (flow(A, A(n=1), A), flow(list[A | B], [A(n=1)], A, B)),
    "a member of the input is renamed": (of_input(A), of_input(C)),
}


async def begun(runtime: Runtime, graph: Any, value: Any = None) -> str:
    """Start a run; return its id once it waits for an answer."""
    run = await runtime.start(graph, In() if value is None else value)
    async with asyncio.timeout(SECONDS):
        while not await run.questions() or await run.status() != "waiting":
            await asyncio.sleep(0.01)
    return run.id


async def parked(runtime: Runtime, run_id: str) -> dict[str, Any]:
    """Return what is said of a run, once it is left to a person and to nobody else."""
    async with asyncio.timeout(SECONDS):
        while runtime.store.run(run_id).owner != PARKED:
            await asyncio.sleep(0.01)
    last = (await (await runtime.get(run_id)).recorded())[-1]
    assert last.kind == "run.parked"
    return last.data


async def finished(runtime: Runtime, run_id: str) -> Any:
    """Resume a run with the code that wrote it, answer its question, and return its output."""
    async with asyncio.timeout(SECONDS):
        run = await runtime.resume(run_id)
        while not (questions := await run.questions()) and await run.status() != "completed":
            await asyncio.sleep(0.01)
        if questions:
            with contextlib.suppress(AskError):  # it came while the run was parked
                await run.answer("q", True)
        return await run.result()


@databases
@pytest.mark.parametrize("change", OTHER_GRAPHS)
async def test_a_journal_that_another_graph_wrote_parks_its_run(change, url):
    old, new = OTHER_GRAPHS[change]
    async with Runtime(url, workflows=[old]) as runtime:
        run_id = await begun(runtime, old, A(n=1) if "input" in change else None)
    async with Runtime(url, workflows=[new]) as runtime:
        await (await runtime.get(run_id)).answer("q", True)
        said = await parked(runtime, run_id)
    assert said["reason"] == "unreadable"
    assert "the journal holds" in said["detail"]
    assert "the code here has" in said["detail"]
    async with Runtime(url, workflows=[old]) as runtime:
        assert (await finished(runtime, run_id)).n == 1


async def test_a_resume_under_code_that_cannot_read_the_journal_says_so_and_a_cancel_works(url):
    old, new = OTHER_GRAPHS["a member of a union is renamed"]
    async with Runtime(url, workflows=[old]) as runtime:
        run_id = await begun(runtime, old)
    async with Runtime(url, workflows=[new]) as runtime:
        with pytest.raises(Diverged, match="holds step.completed .*'A'.* gives C | B"):
            await runtime.resume(run_id)
        await parked(runtime, run_id)
        run = await runtime.get(run_id)
        await run.cancel()
        assert await run.status() == "cancelled"


@functools.cache
def finding(version: int) -> type[BaseModel]:
    """Return a type that another version of the code has with one field more."""
    more = {} if version == 1 else {"score": (int, ...)}
    return create_model("Finding", text=(str, "t"), **more)


def made(version: int) -> Any:
    """Return a value of it."""
    return finding(version)(**{} if version == 1 else {"score": 1})


def of_function(version: int) -> Any:
    async def fetch() -> Any:
        return made(version)

    fetch.__annotations__["return"] = finding(version)

    @workflow(name="flow")
    async def plain(ctx: Context, given: In) -> int:
        await ctx.run(fetch)
        return int(await ctx.ask(bool, "?", key="q"))

    return plain


def of_effect(version: int) -> Any:
    async def fetch() -> Any:
        return made(version)

    fetch.__annotations__["return"] = finding(version)

    @workflow(name="flow")
    async def plain(ctx: Context, given: In) -> int:
        await ctx.effect(fetch)
        return int(await ctx.ask(bool, "?", key="q"))

    return plain


def of_agent(version: int) -> Any:
    model = ScriptedModel(lambda request: '{"text": "t"}')
    agent = Agent("finder", model=model, output=finding(version))

    @workflow(name="flow")
    async def plain(ctx: Context, given: In) -> int:
        await ctx.run(agent, "find")
        return int(await ctx.ask(bool, "?", key="q"))

    return plain


def of_child(version: int) -> Any:
    async def fetch(given: In) -> Any:
        return made(version)

    fetch.__annotations__["return"] = finding(version)
    child = workflow(name="child")(fetch)

    @workflow(name="flow")
    async def plain(ctx: Context, given: In) -> int:
        await ctx.run(child, In())
        return int(await ctx.ask(bool, "?", key="q"))

    return plain


def of_answer(version: int) -> Any:
    @workflow(name="flow")
    async def plain(ctx: Context, given: In) -> int:
        await ctx.ask(bool if version == 1 else finding(version), "first?", key="first")
        return int(await ctx.ask(bool, "?", key="q"))

    return plain


def of_step(version: int) -> Any:
    return flow(finding(version), made(version), finding(version))


def of_input_field(version: int) -> Any:
    async def plain(ctx: Context, given: Any) -> int:
        return int(await ctx.ask(bool, "?", key="q"))

    plain.__annotations__["given"] = finding(version)
    return workflow(name="flow")(plain)


def of_state(version: int) -> Any:
    fields: dict[str, Any] = {"n": (int, 0) if version == 1 else (str, "")}
    graph = Graph("flow", input=In, output=Out, state=create_model("State", **fields))

    @graph.node
    async def first(ctx: Context, given: In) -> Answer:
        ctx.patch(n=5)
        return Answer(text="")

    @graph.node
    async def second(ctx: Context, item: Answer) -> Out:
        agreed = await ctx.ask(bool, "?", key="q")
        return Out(n=agreed and ctx.state.n == 5)

    return graph


@databases
@pytest.mark.parametrize(
    "make",
    [
        of_function,
        of_effect,
        of_agent,
        of_child,
        of_answer,
        of_step,
        of_input_field,
        of_state,
    ],
)
async def test_a_recorded_value_that_new_code_cannot_read_parks_the_run(make, url):
    old, new = make(1), make(2)
    async with Runtime(url, workflows=[old]) as runtime:
        run = await runtime.start(old, {})
        async with asyncio.timeout(SECONDS):
            while "q" not in (keys := [item.key for item in await run.questions()]):
                if "first" in keys:
                    await run.answer("first", True)
                await asyncio.sleep(0.01)
            while await run.status() != "waiting":
                await asyncio.sleep(0.01)
    async with Runtime(url, workflows=[new]) as runtime:
        await runtime.resume(run.id)
        said = await parked(runtime, run.id)
    assert said["reason"] == "unreadable"
    assert "the journal holds" in said["detail"]
    async with Runtime(url, workflows=[old]) as runtime:
        output = await finished(runtime, run.id)
        assert getattr(output, "n", output) == 1


class FailsOnce:
    """A store whose commit fails once, where `when` says so of its operations."""

    def __init__(self, store: Any, when: Any, *, is_written: bool = False) -> None:
        self._store, self._when, self._is_written = store, when, is_written
        self.failures = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def commit(self, operations: Any) -> Any:
        if not self.failures and any(self._when(item) for item in operations):
            self.failures += 1
            if self._is_written:
                self._store.commit(operations)
            raise StoreError(message="for a moment")
        return self._store.commit(operations)


def leaves(operation: Any) -> bool:
    return isinstance(operation, Release) and operation.to == PARKED


def parks(operation: Any) -> bool:
    return isinstance(operation, Append) and any(e.kind == "run.parked" for e in operation.events)


def diverging_function(version: int) -> Any:
    async def draw(n: int) -> int:
        return n

    @workflow(name="flow")
    async def plain(ctx: Context, given: In) -> int:
        await ctx.run(draw, version, key="draw")
        return int(await ctx.ask(bool, "?", key="q"))

    return plain


def diverging_effect(version: int) -> Any:
    async def pay(n: int) -> int:
        return n

    @workflow(name="flow")
    async def plain(ctx: Context, given: In) -> int:
        await ctx.effect(pay, version, key="pay")
        return int(await ctx.ask(bool, "?", key="q"))

    return plain


def diverging_agent(version: int) -> Any:
    agent = Agent("finder", model=ScriptedModel(lambda request: "found"))

    @workflow(name="flow")
    async def plain(ctx: Context, given: In) -> int:
        await ctx.run(agent, f"find {version}", key="find")
        return int(await ctx.ask(bool, "?", key="q"))

    return plain


def other_graph(version: int) -> Any:
    return OTHER_GRAPHS["a member of a union is renamed"][version - 1]


@databases
@pytest.mark.parametrize("when", [leaves, parks])
@pytest.mark.parametrize("is_written", [False, True])
@pytest.mark.parametrize(
    "make", [diverging_function, diverging_effect, diverging_agent, of_child, other_graph]
)
async def test_a_commit_that_fails_while_a_run_parks_strands_nothing(make, when, is_written, url):
    old, new = make(1), make(2)
    inner = open_store(url)
    async with Runtime(inner, workflows=[old]) as runtime:
        run_id = await begun(runtime, old)
    store = FailsOnce(inner, when, is_written=is_written)
    async with Runtime(store, workflows=[new]) as runtime:
        with contextlib.suppress(StoreError):  # the answer was stored; its recording was cut short
            await (await runtime.get(run_id)).answer("q", True)
        await parked(runtime, run_id)
    assert store.failures == 1
    async with Runtime(inner, workflows=[old]) as runtime:
        output = await finished(runtime, run_id)
        assert getattr(output, "n", output) == 1
    inner.close()


class UnreadableForAMoment:
    """A store whose events cannot be read a few times."""

    def __init__(self, store: Any, times: int) -> None:
        self._store, self.left = store, times

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def events(self, *arguments: Any, **options: Any) -> Any:
        if self.left:
            self.left -= 1
            raise StoreError(message="cannot be read for a moment")
        return self._store.events(*arguments, **options)


@databases
async def test_a_run_that_could_not_be_read_for_a_moment_is_taken_again(url):
    old = diverging_function(1)
    inner = open_store(url)
    async with Runtime(inner, workflows=[old]) as runtime:
        run_id = await begun(runtime, old)
    store = UnreadableForAMoment(inner, 2)
    async with Runtime(store, workflows=[old]) as runtime:
        run = await runtime.get(run_id)
        await run._post("answer", "plain[0]/=q", True)
        async with asyncio.timeout(SECONDS):
            while await run.status() != "completed":
                await asyncio.sleep(0.01)
    assert store.left == 0
    inner.close()
