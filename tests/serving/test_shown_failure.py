"""`crew show` of a run that failed shows the user's traceback."""

import asyncio
import os
import sys
from asyncio.subprocess import PIPE

import pytest

from crew import Context, RunFailed, Runtime, workflow


class Refused(Exception):
    """One of the user's own."""


async def looks() -> str:
    raise Refused("tired [of it]")


@workflow
async def flow(ctx: Context) -> str:
    return await ctx.run(looks)


async def test_show_names_the_line_of_the_users_code_that_raised(tmp_path):
    url = f"sqlite:///{tmp_path}/runs.db"
    async with Runtime(url) as runtime:
        run = await runtime.start(flow)
        with pytest.raises(RunFailed):
            await run.result()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "serving.cli", "show", run.id, "--store", url),
        env=os.environ | {"CREW_BASE_URL": "http://127.0.0.1:9/v1"},
        stdout=PIPE,
        stderr=PIPE,
    )
    _, shown = await process.communicate()
    assert 'raise Refused("tired [of it]")' in shown.decode()
    assert "failed at flow[0]: Refused: tired [of it]" in shown.decode()
    assert "crew/run/driver.py" not in shown.decode()
