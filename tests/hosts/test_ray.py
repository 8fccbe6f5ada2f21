"""Runs and agents in Ray hosts: where they run, what crosses, and when hosts stop."""

import asyncio
import gc
import os
import socket
import time

import pytest
from pydantic import BaseModel

from crew import (
    Agent,
    Context,
    Graph,
    ModelError,
    RunCancelled,
    RunFailed,
    Runtime,
    StoreError,
    ToolCall,
    tool,
    workflow,
)
from crew.config import load_settings
from crew.errors import SettingsInvalid
from crew.hosts import ray as hosts
from crew.hosts.cluster import quiet_cluster
from crew.hosts.collector import MOST_NEW
from crew.testing import ScriptedModel
from tests.hosts.certificates import certificates

pytestmark = [
    pytest.mark.ray,
    pytest.mark.xdist_group("ray"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning"),
    pytest.mark.timeout(120),
]


class Word(BaseModel):
    text: str


@tool(effect="read")
async def place(word: str) -> int:
    """Return the process this runs in."""
    return os.getpid()


def asks_for_place(request):
    said = request.messages[-1]
    return said.text if said.role == "tool" else ToolCall("place", {"word": said.text})


@pytest.fixture(scope="module")
def cluster():
    with pytest.MonkeyPatch.context() as patch:
        # `make coverage` measures this process alone: Ray kills its own before they could tell.
        patch.delenv("COVERAGE_PROCESS_CONFIG", raising=False)
        with quiet_cluster() as address:
            yield address


@pytest.fixture(params=["over links", "by calls of actors"])
def transport(request, monkeypatch):
    """How hosts talk to each other."""
    if request.param == "by calls of actors":
        monkeypatch.setenv("CREW_LINK_PORTS", "none")


@pytest.fixture
async def runtime(cluster, url, transport):
    async with Runtime(url, agents="ray") as runtime:
        yield runtime


@pytest.fixture
def url(tmp_path):
    return f"sqlite:///{tmp_path}/runs.db"


def actors() -> list[str]:
    import ray

    named = ray.util.list_named_actors(all_namespaces=True)
    return [item["name"] for item in named if item["namespace"] == "crew"]


async def gone(wanted, seconds=20) -> bool:
    deadline = time.monotonic() + seconds
    while any(wanted(name) for name in actors()):
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(0.1)
    return True


def places(text: str = "first") -> Graph:
    """A graph whose steps, agents and tools say where they run."""
    graph = Graph("places", input=str, output=list[str])
    agent = Agent("finder", model=ScriptedModel([asks_for_place] * 100), tools=[place])

    @graph.node
    async def find(ctx: Context, word: str) -> list[str]:
        found = (await ctx.run(agent, word)).output
        return [text, str(os.getpid()), found]

    return graph


async def test_steps_and_agents_run_in_hosts_of_their_own(runtime):
    run = await runtime.start(places(), "here")
    text, step, agent = await run.result()
    assert text == "first"
    assert len({step, agent, str(os.getpid())}) == 3
    started = [e.data["pid"] async for e in run.events() if e.kind == "agent.started"]
    assert started == [int(agent)]


async def test_one_that_only_looks_starts_no_host_and_one_with_the_workflow_goes_on(cluster, url):
    async with Runtime(url, agents="ray", worker=False) as looking:
        run = await looking.start(places(), "x")
        assert looking.fleet._hosts == {}
        async with Runtime(url, agents="ray", workflows=[places()]):
            text, step, _ = await run.result()
    assert text == "first"
    assert step != str(os.getpid())


async def test_what_hosts_count_is_asked_of_them(runtime):
    await (await runtime.start(places(), "here")).result()
    _, host = await runtime.all_metrics()
    counted = {sample.name: sample.value for it in host.collect() for sample in it.samples}

    assert counted["crew_runs_total"] == counted["crew_tool_calls_total"] == 1
    assert [part.source for part in await runtime.all_metrics()][1] == host.source


async def test_new_code_starts_new_hosts_and_the_old_ones_stop(runtime):
    old = await (await runtime.start(places(), "a")).result()
    (old_host,) = runtime.fleet._hosts
    assert old_host in actors()
    new = await (await runtime.start(places("second"), "a")).result()
    assert (old[0], new[0]) == ("first", "second")
    assert old[1] != new[1]
    assert await gone(lambda name: name == old_host)


async def test_errors_cross_with_their_class_and_message(runtime):
    agent = Agent("failing", model=ScriptedModel([ModelError(message="the endpoint is down")]))

    @workflow
    async def flow(ctx: Context, text: str) -> str:
        try:
            return (await ctx.run(agent, text)).output
        except ModelError as error:
            raise ValueError(f"caught: {error}") from error

    with pytest.raises(RunFailed, match="ValueError: caught: the endpoint is down") as caught:
        await (await runtime.start(flow, "x")).result()
    assert caught.value.cause_type == "ValueError"


async def test_a_cancel_reaches_the_agent_in_its_host(runtime, tmp_path):
    async def slow(request):
        return "never"

    class Slow(ScriptedModel):
        async def complete(self, request, *, on_text=None):
            try:
                await asyncio.sleep(60)
            finally:
                (tmp_path / "stopped").touch()

    agent = Agent("slow", model=Slow(["x"]))

    @workflow
    async def flow(ctx: Context, text: str) -> str:
        return (await ctx.run(agent, text)).output

    run = await runtime.start(flow, "x")
    async for event in run.events():
        if event.kind == "model.started":
            break
    began = time.monotonic()
    await run.cancel()
    with pytest.raises(RunCancelled):
        await run.result()
    while not (tmp_path / "stopped").exists():
        assert time.monotonic() - began < 5
        await asyncio.sleep(0.05)


async def test_many_runs_share_the_hosts(runtime):
    graph = places()
    runs = [await runtime.start(graph, str(n)) for n in range(20)]
    found = [await run.result() for run in runs]
    assert len({step for _, step, _ in found}) == 1
    assert len({agent for _, _, agent in found}) == 1


async def test_idle_hosts_stop_on_a_joined_cluster(cluster, url, monkeypatch):
    monkeypatch.setattr(hosts, "IDLE_SECONDS", 1.5)
    async with Runtime(url, agents="ray") as runtime:
        await (await runtime.start(places("idle"), "x")).result()
        mine = set(runtime.fleet._hosts)
        assert mine <= set(actors())
        assert await gone(lambda name: name in mine)


async def test_a_store_in_memory_is_refused(cluster):
    with pytest.raises(StoreError, match="several processes can open, not :memory:"):
        async with Runtime(":memory:", agents="ray"):
            pytest.fail("it opened")


def test_a_cluster_that_is_not_there_is_named(tmp_path):
    import subprocess
    import sys

    code = (
        "from crew.hosts.cluster import connect\nfrom crew import CrewError\n"
        "try:\n    connect('127.0.0.1:9')\nexcept CrewError as error:\n    print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=True
    )
    assert "no Ray cluster answers at '127.0.0.1:9'" in done.stdout
    assert "CREW_RAY_ADDRESS" in done.stdout


async def test_forks_and_resumed_runs_go_on_in_hosts_too(runtime):
    @workflow
    async def asking(ctx: Context, text: str) -> list[str]:
        return [await ctx.ask(str, text, key="what"), str(os.getpid())]

    run = await runtime.start(asking, "What?")
    while not await run.questions():
        await asyncio.sleep(0.05)
    resumed, fork = await runtime.resume(run.id), await runtime.fork(run.id)
    while not await fork.questions():
        await asyncio.sleep(0.05)
    for asked, answer in ((resumed, "one"), (fork, "other")):
        await asked.answer("what", answer)
        said, pid = await asked.result()
        assert said == answer
        assert pid != str(os.getpid())


async def test_a_host_that_may_use_no_free_port_says_so(cluster, url, monkeypatch):
    with socket.socket() as taken:
        taken.bind(("0.0.0.0", 0))
        taken.listen()
        monkeypatch.setenv("CREW_LINK_PORTS", str(taken.getsockname()[1]))
        async with Runtime(url, agents="ray") as runtime:
            with pytest.raises(RunFailed, match="no port of .* is free"):
                await (await runtime.start(places("no port"), "x")).result()


@pytest.mark.parametrize("ports", ["some", "9-1", "70000", "-5"])
async def test_ports_that_are_no_range_are_refused_before_anything_starts(ports, monkeypatch):
    monkeypatch.setenv("CREW_LINK_PORTS", ports)
    with pytest.raises(SettingsInvalid, match="CREW_LINK_PORTS is .*; it must be a range"):
        load_settings()


async def test_hosts_talk_encrypted_where_a_certificate_is_given(
    cluster, url, tmp_path, monkeypatch
):
    certificates(tmp_path)
    monkeypatch.setenv("CREW_LINK_TLS", str(tmp_path / "certificate.pem"))
    async with Runtime(url, agents="ray") as runtime:
        text, step, agent = await (await runtime.start(places("tls"), "x")).result()
    assert text == "tls"
    assert step != agent


collector = Agent("collector", model=ScriptedModel(lambda request: str(gc.get_threshold()[0])))


@workflow
async def collecting(ctx: Context, text: str) -> str:
    return f"{gc.get_threshold()[0]} {(await ctx.run(collector, text)).output}"


async def test_hosts_of_both_kinds_look_for_garbage_less_often(cluster, url):
    async with Runtime(url, agents="ray") as runtime:
        assert await (await runtime.start(collecting, "")).result() == f"{MOST_NEW} {MOST_NEW}"
