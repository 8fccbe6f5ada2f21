"""Many streams for a long time, and then SIGTERM while all of them are in mid-sentence."""

import asyncio
from pathlib import Path

import pytest

from crew.run import Runtime
from serving.listening import DRAIN_SECONDS, GRACE_SECONDS
from tests.crash.programs import serving
from tests.crash.reader import Reading
from tests.engine import text_of

WORDS, PACE = 100, 20.0
TEXT = text_of(WORDS)
ENGINE = ("--words", str(WORDS), "--pace", str(PACE))
SLOW = [pytest.mark.slow, pytest.mark.timeout(600)]
SHORT = pytest.param(16, 2, 2, 100, id="16 streams for a moment")
LONG = pytest.param(128, 30, 90, 20, marks=SLOW, id="128 streams for two minutes")


async def read_answers(port: int, name: int) -> list[Reading]:
    """Read one answer after another, until the server stops; return them, the cut one last."""
    found = list[Reading]()
    while not (found and found[-1].error):
        found.append(Reading(("chat", "responses")[name % 2], f"{name}-{len(found)}"))
        await found[-1].read(port)
    return found


async def pass_time(seconds: float, readers: list[asyncio.Task]) -> None:
    """Wait, unless a reader ends before."""
    done, _ = await asyncio.wait(readers, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    assert [task.result()[-1] for task in done] == []


def resident_mb(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1024


@pytest.mark.parametrize(("streams", "warm_up", "seconds", "most_mb"), [SHORT, LONG])
async def test_streams_that_go_on_for_long_lose_nothing(
    streams, warm_up, seconds, most_mb, tmp_path
):
    store = f"sqlite:///{tmp_path}/runs.db"
    async with serving(tmp_path, store, *ENGINE) as (_, server):
        readers = [asyncio.create_task(read_answers(server.port, name)) for name in range(streams)]
        await pass_time(warm_up, readers)
        before = resident_mb(server.pid)
        await pass_time(seconds, readers)
        growth = resident_mb(server.pid) - before
        assert await server.stop(DRAIN_SECONDS + GRACE_SECONDS) == 0
        found = await asyncio.gather(*readers)

        cut = [answers[-1] for answers in found]
        assert {reading.error for reading in cut} == {"server_stopping"}
        await server.start()
        await asyncio.gather(*(reading.read_on(server.port) for reading in cut))
    assert [each for answers in found for each in answers if each.text != TEXT] == []
    assert growth < most_mb + 0.1 * before
    async with Runtime(store, worker=False) as runtime:
        ended = await runtime.runs(status="completed", limit=1 << 20)
    assert {run.id for run in ended} == {each.run for answers in found for each in answers}
