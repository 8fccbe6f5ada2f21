"""Hosts on Ray die while an answer streams through the endpoint; its reader sees no seam."""

import asyncio
import random

import pytest

from crew.run import Runtime
from tests.crash.programs import serving
from tests.crash.reader import Reading
from tests.crash.test_kill_on_ray import run_host
from tests.engine import text_of
from tests.place import kill

pytestmark = [
    pytest.mark.ray,
    pytest.mark.slow,
    pytest.mark.xdist_group("ray"),
    pytest.mark.usefixtures("hosts_end"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning"),
    pytest.mark.timeout(300),
]

WORDS, PACE, KILLS = 60, 20.0, 4


async def agent_host(store: str, run_id: str) -> int:
    async with Runtime(store, worker=False) as runtime:
        events = await (await runtime.get(run_id)).recorded()
    return [event for event in events if event.kind == "agent.started"][-1].data["pid"]


@pytest.mark.parametrize("victim", ["agent host", "run host"])
async def test_host_that_is_killed_in_mid_sentence_leaves_no_seam(victim, cluster, tmp_path):
    store, moments = f"sqlite:///{tmp_path}/runs.db", random.Random(1)
    engine = ("--words", str(WORDS), "--pace", str(PACE))
    on_ray = {"CREW_AGENTS": "ray", "CREW_RAY_ADDRESS": cluster}
    async with serving(tmp_path, store, *engine, **on_ray) as (_, server):
        for number in range(KILLS):
            reading = Reading("responses", key=f"k{number}")
            reader = asyncio.create_task(reading.read(server.port))
            while not reading.text and not reader.done():
                await asyncio.sleep(0.05)
            await asyncio.sleep(moments.uniform(0.0, 0.2))
            kill(await agent_host(store, reading.run) if victim == "agent host" else run_host())
            async with asyncio.timeout(60):
                await reader
            assert (reading.text, reading.error) == (text_of(WORDS), "")
