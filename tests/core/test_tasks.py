"""What a step may do with tasks of its own, and what becomes of them."""

import asyncio
import contextlib
from contextvars import ContextVar, copy_context

import pytest

from crew import Context, GraphError, Runtime, workflow
from crew.journal.memory import MemoryStore

CALLER: ContextVar[str] = ContextVar("caller", default="nobody")


async def fetch(text: str) -> str:
    return f"got {text}"


async def paths(run):
    """Return the paths of the calls that a run has on record."""
    return [event.path async for event in run.events() if event.kind == "function.completed"]


async def test_what_a_timeout_of_asyncios_waits_for_is_in_its_callers_place(runtime):
    @workflow
    async def flow(ctx: Context) -> str:
        first = await asyncio.wait_for(ctx.run(fetch, "a"), 30)
        return f"{first}, {await ctx.run(fetch, 'b')}"

    run = await runtime.start(flow)
    assert await run.result() == "got a, got b"
    assert await paths(run) == ["flow[0]/fetch", "flow[0]/fetch.1"]
    assert await (await runtime.replay(run.id)).result() == "got a, got b"


async def test_coroutines_of_which_no_order_is_known_are_refused(runtime):
    @workflow
    async def flow(ctx: Context) -> str:
        try:
            for first in asyncio.as_completed([ctx.run(fetch, "a")]):
                return await first
        except GraphError as error:
            return str(error)
        return "nothing"

    assert "make them first: as_completed(" in await (await runtime.start(flow)).result()


async def test_tasks_that_were_made_first_are_taken_as_they_complete(runtime):
    @workflow
    async def flow(ctx: Context) -> list[str]:
        tasks = [asyncio.create_task(ctx.run(fetch, text)) for text in "ab"]
        return [await first for first in asyncio.as_completed(tasks)]

    run = await runtime.start(flow)
    output = await run.result()
    assert sorted(output) == ["got a", "got b"]
    assert await (await runtime.replay(run.id)).result() == output


async def test_a_task_may_have_variables_of_its_own(runtime):
    @workflow
    async def flow(ctx: Context) -> str:
        async def branch() -> str:
            return f"{await ctx.run(fetch, 'a')} for {CALLER.get()}"

        variables = copy_context()
        variables.run(CALLER.set, "me")
        task = asyncio.get_running_loop().create_task(branch(), context=variables)
        return f"{await task}, and {CALLER.get()}"

    run = await runtime.start(flow)
    assert await run.result() == "got a for me, and nobody"
    assert await paths(run) == ["flow[0]/branch:0/fetch"]


async def test_a_task_of_a_task_is_named_by_both(runtime):
    @workflow
    async def flow(ctx: Context) -> str:
        async def inner(text: str) -> str:
            return await ctx.run(fetch, text)

        async def outer() -> list[str]:
            return await asyncio.gather(inner("a"), inner("b"))

        return " ".join(await asyncio.create_task(outer()))

    run = await runtime.start(flow)
    assert await run.result() == "got a got b"
    assert await paths(run) == [
        "flow[0]/outer:0/inner:0/fetch",
        "flow[0]/outer:0/inner:1/fetch",
    ]


async def test_a_call_outside_the_tasks_of_its_step_is_refused(runtime):
    handed: list[Context] = []
    asked = asyncio.Event()

    @workflow
    async def flow(ctx: Context) -> str:
        handed.append(ctx)
        await asked.wait()
        return "done"

    run = await runtime.start(flow)
    while not handed:
        await asyncio.sleep(0.01)
    with pytest.raises(GraphError, match="outside the tasks of its step; call it in the step's"):
        await handed[0].run(fetch, "a")
    asked.set()
    assert await run.result() == "done"


async def test_a_context_is_of_one_step_and_refused_in_another(runtime):
    handed: list[Context] = []

    @workflow
    async def lends(ctx: Context) -> str:
        handed.append(ctx)
        return await ctx.ask(str, "Go on?", key="go")

    @workflow
    async def borrows(ctx: Context) -> str:
        return await handed[0].run(fetch, "a")

    lending = await runtime.start(lends)
    while not handed:
        await asyncio.sleep(0.01)
    with pytest.raises(Exception, match="was used for 'fetch' in another step"):
        await (await runtime.start(borrows)).result()
    await lending.cancel()


async def test_a_task_that_begins_another_while_it_is_stopped_ends_with_it(caplog):
    seen: list[str] = []

    async def late() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            seen.append("late was stopped")

    @workflow
    async def flow(ctx: Context) -> str:
        async def stubborn() -> None:
            try:
                await asyncio.sleep(60)
            finally:
                begun = asyncio.create_task(late())
                with contextlib.suppress(asyncio.CancelledError):
                    await begun

        task = asyncio.create_task(stubborn())
        await asyncio.sleep(0)
        return f"left {task.get_name() != ''}"

    async with Runtime(MemoryStore()) as runtime, asyncio.timeout(20):
        run = await runtime.start(flow)
        assert await run.result() == "left True"
    assert [record.message for record in caplog.records] == ["step.tasks_left"]


@pytest.mark.parametrize("rests", [0.0, 3.0])
async def test_what_a_task_begins_behind_its_steps_end_does_not_run(rests):
    seen: list[str] = []

    async def late() -> None:
        seen.append("late")

    @workflow
    async def flow(ctx: Context) -> str:
        async def stubborn() -> None:
            try:
                await asyncio.sleep(60)
            finally:
                await asyncio.sleep(rests)
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.create_task(late())
                seen.append("end")

        asyncio.create_task(stubborn())  # noqa: RUF006  the step lets it go
        await asyncio.sleep(0)
        return "done"

    async with Runtime(MemoryStore()) as runtime, asyncio.timeout(20):
        assert await (await runtime.start(flow)).result() == "done"
        while "end" not in seen:
            await asyncio.sleep(0.05)
    assert seen == (["late", "end"] if rests == 0.0 else ["end"])
