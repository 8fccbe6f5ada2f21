"""`crew show` and `crew resume` of a run that a newer release wrote to."""

import asyncio
import json
import os
import sys
from asyncio.subprocess import PIPE

import pytest

from crew import Context, Runtime, workflow
from tests.newer import KIND, write_newer_event

FLOW = """
from crew.call.context import Context
from crew.run import workflow

@workflow
async def approving(ctx: Context, text: str) -> bool:
    return await ctx.ask(bool, text, key="ok")
"""


@workflow
async def approving(ctx: Context, text: str) -> bool:
    return await ctx.ask(bool, text, key="ok")


@pytest.fixture
def url(tmp_path):
    return f"sqlite:///{tmp_path}/runs.db"


@pytest.fixture
async def newer(url):
    """The id of a run that asks, and to which a newer release wrote after that."""
    async with Runtime(url) as runtime:
        run = await runtime.start(approving, "ok?")
        async for event in run.events():
            if event.kind == "ask.opened":
                break
    write_newer_event(url, run.id, "approving[0]")
    return run.id


@pytest.fixture
def crew(url, tmp_path):
    """Runs a command, and returns its status, its output and its errors in one line."""

    async def command(*words: str):
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "serving.cli", *words, "--store", url),
            cwd=tmp_path,
            env=os.environ | {"CREW_BASE_URL": "http://127.0.0.1:9/v1"},
            stdout=PIPE,
            stderr=PIPE,
        )
        output, errors = await process.communicate()
        return process.returncode, output.decode(), " ".join(errors.decode().split())

    return command


async def test_show_says_that_a_newer_release_wrote_and_shows_the_rest(newer, crew):
    status, _, shown = await crew("show", newer)
    assert status == 0
    assert f"event 4 is of a kind that a newer release wrote: {KIND}" in shown
    assert "approving[0]" in shown
    assert "crew resume" not in shown


async def test_show_names_the_offsets_of_such_events_as_json(newer, crew):
    status, output, _ = await crew("show", newer, "--json")
    told = json.loads(output)
    assert status == 0
    assert told["newer_events"] == [told["events"][-1]["offset"]]
    assert told["parked"] is None


@pytest.mark.parametrize("which", ["one", "all"])
async def test_resume_leaves_it_and_says_why(newer, crew, tmp_path, which):
    (tmp_path / "flow.py").write_text(FLOW)
    words = [newer] if which == "one" else []
    status, _, said = await crew("resume", *words, "--workflow", "flow.py")
    assert status == 1
    assert f"run {newer} holds an event of the unknown kind '{KIND}'" in said
    assert "Traceback" not in said
