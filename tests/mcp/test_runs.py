"""Runs with tools of servers: what is on record, and what becomes of it when a process dies."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest
from mcp.server.mcpserver import MCPServer

from crew import MCP, EffectUnknown, RunFailed, Runtime, ToolCall
from crew.journal.opening import open_store
from crew.source import definition_of
from crew.testing import CrashingStore, simulate
from tests.core.lives import SECONDS, result, stores, until
from tests.mcp.flows import desk, holding
from tests.mcp.places import library, unsound

FIND = ToolCall("find", {"title": "Emma"})
ROOT = Path(__file__).parents[2]


@pytest.fixture
def acts(tmp_path, monkeypatch) -> Path:
    """A file that servers write a line to for each act."""
    file = tmp_path / "acts.txt"
    file.touch()
    monkeypatch.setenv("ACTS", str(file))
    return file


async def outcome(url, flow, **runtime_options):
    """What a run comes to, and its events."""
    async with Runtime(url, workflows=[flow], **runtime_options) as runtime:
        run = await runtime.start(flow, "hello")
        return await result(run), await run.recorded()


@stores
async def test_recorded_run_replays_without_its_server(url):
    flow = desk([library(effect="read")], FIND)
    async with Runtime(url, workflows=[flow]) as runtime:
        run = await runtime.start(flow, "hello")
        live = await result(run)

    gone = desk([MCP("no-such-program")], FIND)
    async with Runtime(url, workflows=[gone]) as runtime:
        same = await runtime.replay(run.id)
        assert await result(same) == live == '{"title": "Emma", "days": null}'


async def test_secrets_of_a_server_are_in_no_journal(tmp_path):
    secrets = {"TOKEN": "Bearer sk-1234567"}
    file = tmp_path / "runs.db"
    server = unsound("die-at-first", env=secrets)
    flow = desk([server], ToolCall("work"))
    async with Runtime(f"sqlite:///{file}", workflows=[flow]) as runtime:
        run = await runtime.start(flow, "hello")
        await result(run)
        recorded = repr([event.data for event in await run.recorded()])

    assert "no key ***" in recorded
    assert "sk-1234567" not in recorded
    assert "sk-1234567" not in f"{definition_of(server)} {server!r}"


@stores
async def test_call_that_was_cut_off_is_not_made_again(url, acts):
    flow = desk([unsound("die")], ToolCall("work"))
    with pytest.raises(RunFailed) as failed:
        await outcome(url, flow)

    assert isinstance(failed.value.__cause__, EffectUnknown)
    assert "out of paper" in str(failed.value)


async def test_call_that_took_too_long_is_unknown_where_it_acts_once():
    server = MCPServer("here", log_level="ERROR")

    @server.tool()
    async def hang() -> None:
        await asyncio.sleep(3600)

    with pytest.raises(RunFailed) as failed:
        await outcome(":memory:", desk([MCP(server, timeout=2)], ToolCall("hang")))

    assert failed.value.cause_type == "EffectUnknown"


@pytest.mark.parametrize(
    ("options", "effects"),
    [
        ({}, ["once", "once"]),
        ({"effect": "read"}, ["read", "read"]),
        ({"effect": {"lend": "idempotent"}}, ["once", "idempotent"]),
        ({"trust_hints": True}, ["read", "once"]),
        ({"trust_hints": True, "effect": {"find": "once"}}, ["once", "once"]),
    ],
)
async def test_effect_is_what_the_user_says_and_hints_count_where_they_are_trusted(
    options, effects
):
    flow = desk([library(**options)], FIND, ToolCall("lend", {"title": "Emma"}))
    _, events = await outcome(":memory:", flow)

    assert [event.data["effect"] for event in events if event.kind == "tool.started"] == effects


async def test_person_is_asked_where_approve_says_so(acts):
    server = library(approve={"lend": lambda call: call.days > 30}, env={"ACTS": str(acts)})
    calls = [ToolCall("lend", {"title": "Emma", "days": days}) for days in (99, 98)]
    flow = desk([server], ToolCall("lend", {"title": "Emma"}), *calls)
    async with Runtime(":memory:", workflows=[flow]) as runtime:
        run = await runtime.start(flow, "hello")
        for approved in (True, False):
            async with asyncio.timeout(SECONDS):
                while not (asked := await run.questions()):
                    await asyncio.sleep(0.01)
            await run.answer(asked[0].path, approved)
        said = await result(run)

    assert acts.read_text().split() == ["lend", "lend"]
    assert "a person refused" in said


@pytest.mark.parametrize(
    "url", ["sqlite", pytest.param("postgres", marks=pytest.mark.slow)], indirect=True
)
async def test_no_act_is_repeated_wherever_the_store_fails(url, acts):
    server = library(effect={"find": "read"}, env={"ACTS": str(acts)})
    flow = desk([server], FIND, ToolCall("lend", {"title": "Emma"}))
    kept = open_store(url)
    statuses = set()
    try:
        for after in range(2, 14):
            acts.write_text("")
            store = CrashingStore(kept, after=after)
            async with Runtime(store, workflows=[flow]) as runtime:
                run = await runtime.start(flow, "hello", key=str(after))
                async with asyncio.timeout(SECONDS):
                    while not store.is_down:
                        await asyncio.sleep(0.002)
            async with Runtime(kept, workflows=[flow]) as runtime:
                run = await runtime.start(flow, "hello", key=str(after))
                statuses.add(await until(run, "completed", "failed"))
            assert acts.read_text().split().count("lend") == 1
    finally:
        kept.close()

    assert statuses == {"completed", "failed"}  # where nobody knows whether it acted


@pytest.mark.parametrize(
    ("url", "server", "effect"),
    [
        ("sqlite", "library", "once"),
        ("sqlite", "library", "idempotent"),
        pytest.param("postgres", "library", "once", marks=pytest.mark.slow),
        pytest.param("sqlite", "shop", "once", marks=pytest.mark.slow),
        pytest.param("postgres", "shop", "idempotent", marks=pytest.mark.slow),
    ],
    indirect=["url"],
)
async def test_kill_with_a_tool_in_flight(url, acts, server, effect):
    victim = subprocess.Popen(
        [sys.executable, "-m", "tests.mcp.flows", url, server, effect],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    try:
        async with asyncio.timeout(SECONDS * 2):
            while "hold" not in acts.read_text():
                await asyncio.sleep(0.02)
    finally:
        victim.kill()
        victim.wait()

    flow = holding(server, effect)
    async with Runtime(url, workflows=[flow]) as runtime:
        run = await runtime.start(flow, "hello", key="only")
        status = await until(run, "completed", "failed")
        ending = await run.ending()

    first, *others = acts.read_text().split()
    assert first in ("search", "find")
    if effect == "once":
        assert (status, others) == ("failed", ["hold"])
        assert ending.error.type == "EffectUnknown"
    else:
        assert (status, others) == ("completed", ["hold", "hold"])
        assert " | held by " in ending.output


def test_server_in_this_process_is_called_under_every_crash_of_a_simulation():
    server = MCPServer("here", log_level="ERROR")

    @server.tool()
    async def add(a: int, b: int) -> int:
        return a + b

    flow = desk([MCP(server, effect="read")], ToolCall("add", {"a": 1, "b": 2}))
    done = simulate(flow, "hello", seeds=30)

    assert done.output == "3"


@stores
async def test_run_goes_on_with_what_it_was_offered_and_has_read_where_the_server_is_gone(url):
    calls = FIND, ToolCall("lend", {"title": "Emma"})
    flow = desk([library(approve={"lend": True})], *calls)
    async with Runtime(url, workflows=[flow]) as runtime:
        run = await runtime.start(flow, "hello")
        await until(run, "waiting")

    gone = desk([MCP("no-such-program", approve={"lend": True})], *calls)
    async with Runtime(url, workflows=[gone]) as runtime:
        run = await runtime.get(run.id)
        (asked,) = await run.questions()
        await run.answer(asked.path, True)
        said = await result(run)

    found, _, lent = said.partition(" | ")
    assert found == '{"title": "Emma", "days": null}'
    assert lent.startswith("error: MCP server 'no-such-program' (lend): ")
