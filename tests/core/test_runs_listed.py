"""Runs found by what they are of, when they were accepted, and what they were started with."""

import time
from datetime import UTC, datetime, timedelta

import pytest

from crew import Context, Graph, InputInvalid, Runtime, workflow
from tests.core.lives import stores, until


@workflow
async def one(ctx: Context, number: int) -> int:
    return number


@workflow
async def asks(ctx: Context, number: int) -> bool:
    return await ctx.ask(bool, "Go on?", key="go")


graph = Graph("graph", input=int, output=str)


@graph.node
async def write(ctx: Context, number: int) -> str:
    return str(number)


def ids(runs: list) -> list[str]:
    return [run.id for run in runs]


@stores
async def test_runs_are_found_by_their_workflow(url):
    async with Runtime(url) as runtime:
        first = await runtime.start(one, 1)
        other = await runtime.start(graph, 1)
        assert ids(await runtime.runs(workflow="one")) == [first.id]
        assert ids(await runtime.runs(workflow=graph)) == [other.id]
        assert await runtime.runs(workflow="none") == []


@stores
async def test_runs_are_found_by_when_they_were_accepted(url):
    async with Runtime(url) as runtime:
        run = await runtime.start(one, 1)
        assert ids(await runtime.runs(since=run.created_at)) == [run.id]
        an_hour_ago = datetime.now(UTC) - timedelta(hours=1)
        assert ids(await runtime.runs(since=an_hour_ago)) == [run.id]
        assert await runtime.runs(since=time.time() + 3600) == []


@pytest.mark.parametrize(
    "value", ["acme", 7, True, None, ["a", {"b": 1}], "é\u2028" * 5000], ids=lambda v: repr(v)[:12]
)
@stores
async def test_runs_are_found_by_their_metadata(url, value):
    async with Runtime(url) as runtime:
        run = await runtime.start(one, 1, metadata={"customer": value, "other": 1})
        await runtime.start(one, 2, metadata={"customer": "somebody", "other": 1})
        await runtime.start(one, 3)
        assert ids(await runtime.runs(metadata={"customer": value})) == [run.id]
        assert ids(await runtime.runs(metadata={"customer": value, "other": 1})) == [run.id]
        assert await runtime.runs(metadata={"customer": value, "other": 2}) == []
        assert len(await runtime.runs(metadata={"other": 1})) == 2


@stores
async def test_a_fork_is_found_by_what_its_base_was_started_with(url):
    async with Runtime(url) as runtime:
        run = await runtime.start(one, 1, metadata={"customer": "acme"})
        await run.result()
        fork = await runtime.fork(run.id)
        assert ids(await runtime.runs(metadata={"customer": "acme"})) == [fork.id, run.id]


@stores
async def test_pages_and_conditions_go_together(url):
    async with Runtime(url) as runtime:
        made = [
            await runtime.start(asks if n % 2 else one, n, metadata={"set": n < 6})
            for n in range(8)
        ]
        for run in made:
            await until(run, "waiting", "completed")
        wanted = {"workflow": "asks", "status": "waiting", "metadata": {"set": True}}
        page = await runtime.runs(**wanted, limit=2)
        rest = await runtime.runs(**wanted, limit=2, before=page[-1].id)
        assert ids(page + rest) == [made[5].id, made[3].id, made[1].id]


@stores
async def test_another_tenants_metadata_finds_nothing(url):
    async with Runtime(url) as runtime:
        await runtime.start(one, 1, metadata={"customer": "acme"})
        assert await runtime.of("other").runs(metadata={"customer": "acme"}) == []


@stores
async def test_what_was_removed_is_found_by_nothing(url):
    async with Runtime(url) as runtime:
        run = await runtime.start(one, 1, thread="t", metadata={"customer": "acme"})
        await run.result()
        await runtime.erase(thread="t")
        assert await runtime.runs(metadata={"customer": "acme"}) == []


@pytest.mark.parametrize(
    "wrong",
    [{"since": "today"}, {"since": datetime(2026, 1, 1)}, {"metadata": "acme"}, {"workflow": 3}],  # noqa: DTZ001
)
async def test_what_cannot_be_asked_for_is_refused(wrong):
    async with Runtime(":memory:") as runtime:
        with pytest.raises(InputInvalid):
            await runtime.runs(**wrong)
