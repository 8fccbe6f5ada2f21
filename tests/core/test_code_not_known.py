"""What needs the code of a run is refused where nobody has given it."""

import pytest

from crew import Context, Runtime, workflow
from crew.errors import InputInvalid
from tests.core.lives import left_waiting, result


@workflow
async def asks(ctx: Context, number: int) -> int:
    return number if await ctx.ask(bool, "Go on?", key="go") else 0


@workflow
async def other(ctx: Context, number: int) -> int:
    return number


@pytest.mark.parametrize("what", ["replay", "fork"])
async def test_replay_and_fork_name_the_workflow_that_is_needed(tmp_path, what):
    url = f"sqlite:///{tmp_path}/runs.db"
    async with Runtime(url, workflows=[other]) as runtime:
        run = await runtime.start(other, 1)
        await result(run)
    async with Runtime(url, workflows=[asks]) as runtime:
        with pytest.raises(InputInvalid, match=r"'other' version 1, which this runtime does not"):
            await getattr(runtime, what)(run.id)


async def test_run_that_waits_needs_no_code_to_be_answered(tmp_path):
    url = f"sqlite:///{tmp_path}/runs.db"
    run = await left_waiting(url, asks)
    async with Runtime(url, workflows=[asks], worker=False) as runtime:
        assert [item.key for item in await (await runtime.get(run)).questions()] == ["go"]


async def test_run_is_not_gone_on_with(tmp_path):
    url = f"sqlite:///{tmp_path}/runs.db"
    run = await left_waiting(url, asks)
    async with Runtime(url, workflows=[other]) as runtime:
        with pytest.raises(InputInvalid, match=r"'asks' version 1, which this runtime does not"):
            await runtime.resume(run)
