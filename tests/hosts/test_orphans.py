"""The program that started a run is killed, and then the host that drives the run is, too."""

import asyncio
import os
import sys
from asyncio.subprocess import PIPE
from pathlib import Path

import pytest

from crew import Runtime
from crew.hosts.cluster import quiet_cluster
from tests.hosts.orphan import flow_of
from tests.hosts.victims import end_all, host

pytestmark = [
    pytest.mark.ray,
    pytest.mark.slow,
    pytest.mark.xdist_group("ray"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning"),
    pytest.mark.timeout(300),
]
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def cluster():
    with quiet_cluster() as address:
        yield address
        end_all()


async def left_by_a_program(store: str, done: Path, cluster: str) -> str:
    """Start a run in a program that is killed while the run waits; return the run's id."""
    settings = {"CREW_RAY_ADDRESS": cluster, "PYTHONPATH": str(ROOT)}
    command = (sys.executable, "-m", "tests.hosts.orphan", store, str(done))
    program = await asyncio.create_subprocess_exec(
        *command, cwd=ROOT, env=os.environ | settings, stdout=PIPE
    )
    try:
        assert program.stdout is not None
        run_id = (await program.stdout.readline()).decode().strip()
        async with Runtime(store, worker=False) as reader, asyncio.timeout(60):
            run = await reader.get(run_id)
            while not await run.questions():
                await asyncio.sleep(0.05)
        return run_id
    finally:
        program.kill()
        await program.wait()


async def test_its_run_goes_on_in_the_next_incarnation_of_the_host(cluster, postgres_url, tmp_path):
    store, done = postgres_url, tmp_path / "done"
    run_id = await left_by_a_program(store, done, cluster)
    (await host("run", "orphan")).kill()
    async with Runtime(store, worker=False) as reader, asyncio.timeout(120):
        run = await reader.get(run_id)
        await run.answer("go", True)
        assert await run.result() == "before 300000, after"
    assert done.read_text().splitlines() == ["before 300000", "after"]
    end_all()


async def test_the_next_program_finds_the_host_while_it_is_restarted(
    cluster, tmp_path, monkeypatch
):
    store, done = f"sqlite:///{tmp_path}/runs.db", tmp_path / "done"
    monkeypatch.setenv("CREW_RAY_ADDRESS", cluster)
    run_id = await left_by_a_program(store, done, cluster)
    (await host("run", "orphan")).kill()
    async with asyncio.timeout(120):
        async with Runtime(store, workflows=[flow_of(done)], agents="ray") as runtime:
            run = await runtime.get(run_id)
            await run.answer("go", True)
            assert await run.result() == "before 300000, after"
    assert done.read_text().splitlines() == ["before 300000", "after"]
    end_all()
