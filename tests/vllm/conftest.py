"""The real vLLM behind Ray Serve, started once (`make vllm`); else nothing here is collected."""

import asyncio
import contextlib
import os
import sys
import time
import urllib.request
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from crew.config import Settings
from crew.run import Runtime
from serving.llm import LLMSettings, deploy, shutdown

collect_ignore_glob = [] if find_spec("vllm") else ["test_*.py"]

GPU = os.environ.get("CREW_TEST_GPU", "")
"""Ray's name of a GPU, or `any`; empty to compute on CPUs."""
MODEL = Path(sys.prefix, "smollm2")


def settings() -> LLMSettings:
    return LLMSettings(
        engine="vllm",
        model=str(MODEL),
        num_gpus=None if GPU else 0,
        accelerator_type=GPU.removeprefix("any"),
        context_tokens=2048,
        # So that a prompt's numbers are those of a step; in bf16 words differ after a while.
        engine_options={"enforce_eager": True, "dtype": "float32"},
        environment={"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1"},
    )


class Engine:
    """The deployment as an operator sees it."""

    def __init__(self, ray, url: str) -> None:
        self._ray, self.url = ray, url

    def deployments(self) -> dict[str, dict]:
        from ray.serve.context import _get_global_client

        return _get_global_client().get_serve_details()["applications"]["llm"]["deployments"]

    def pid(self) -> int:
        """The process of the engine's one replica."""
        named = self.deployments().items()
        [engine] = [deployment for name, deployment in named if name.startswith("LLMServer:")]
        [replica] = engine["replicas"]
        return replica["pid"]

    def running(self) -> float:
        """How many requests vLLM says that it computes."""
        return sum(self._metric("ray_vllm_num_requests_running"))

    def generated(self) -> float:
        """How many tokens vLLM says that it has written since it started."""
        return sum(self._metric("ray_vllm_generation_tokens_total"))

    async def wait_for_running(self, count: int, seconds: float = 90) -> None:
        """Wait until it says so for three seconds on end: what it says is a second or two old."""
        deadline, steady = time.monotonic() + seconds, 0
        while steady < 15:
            assert time.monotonic() < deadline, f"not {count} requests after {seconds} s"
            steady = steady + 1 if await asyncio.to_thread(self.running) == count else 0
            await asyncio.sleep(0.2)

    def _metric(self, name: str) -> list[float]:
        [node] = self._ray.nodes()
        address = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
        with urllib.request.urlopen(address, timeout=5) as response:
            lines = response.read().decode().splitlines()
        return [float(line.split()[-1]) for line in lines if line.startswith(name + "{")]


@pytest.fixture(scope="session")
def engine() -> Iterator[Engine]:
    """vLLM, deployed by our settings on a quiet local Ray; about two minutes on two cores."""
    with quiet_ray() as ray:
        yield Engine(ray, asyncio.run(deploy(settings())))
        asyncio.run(shutdown())


@contextlib.contextmanager
def quiet_ray():
    import ray

    ray.init(
        num_cpus=4,  # reserved, not used: the ingress, the replica, its worker and agents
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
        object_store_memory=100 << 20,
        namespace="crew",
        _system_config={"metrics_report_interval_ms": 500},
    )
    yield ray
    ray.shutdown()


@pytest.fixture
async def runtime(engine, tmp_path):
    """A crew whose agents ask that engine."""
    url = f"sqlite:///{tmp_path}/runs.db"
    async with Runtime(url, settings=Settings(base_url=engine.url)) as runtime:
        yield runtime
