"""Runs and agents in Ray hosts: where they run, what crosses, and when hosts stop."""

import asyncio
import gc
import os
import signal
import socket
import tempfile
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


@pytest.fixture
async def told(cluster, url, tmp_path, monkeypatch):
    """A runtime that hears of its runs over links to their hosts alone, and never looks."""
    (tmp_path / "file").touch()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "file"))
    async with Runtime(url, agents="ray", look_seconds=3600) as runtime:
        yield runtime


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


@workflow
async def asking(ctx: Context, name: str) -> str:
    return f"{name}: {await ctx.ask(str, 'What?', key='what')}"


@workflow
async def telling(ctx: Context, texts: list[str]) -> int:
    for text in texts:
        ctx.progress(text)
        await ctx.ask(bool, text, key=text)
    return os.getpid()


async def kinds(run) -> list[str]:
    return [event.kind async for event in run.events()]


async def asked(run):
    while not await run.questions():
        await asyncio.sleep(0.01)


async def test_a_host_adopts_the_runs_that_are_started_in_its_name(told):
    runs = [await told.start(places(), str(n)) for n in range(3)]
    for run in runs:
        await run.result()
        assert "run.taken" not in await kinds(run)
    fork = await told.fork(runs[0].id)
    await fork.result()
    assert "run.taken" not in await kinds(fork)


async def test_what_a_host_writes_is_told_as_it_is_written(told):
    run = await told.start(telling, ["a", "b", "c"])
    said = ""
    async for event in run.events():
        if event.kind == "ask.opened":
            said += event.data["question"]
            await run.answer(said[-1], True)
    assert said == "abc"


async def test_a_cancel_is_told_to_the_host(told):
    run = await told.start(asking, "a")
    following = asyncio.create_task(kinds(run))
    await asked(run)
    await run.cancel()
    with pytest.raises(RunCancelled):
        await run.result()
    assert (await following)[-1] == "run.cancelled"


async def test_turns_of_one_thread_are_driven_in_order(told):
    @workflow
    async def turn(ctx: Context, n: int) -> list[str]:
        return [message.text for message in ctx.thread.messages if message.role == "user"]

    runs = [await told.start(turn, n, thread="t") for n in range(3)]
    assert [await run.result() for run in runs] == [[], ["0"], ["0", "1"]]


async def test_two_programs_have_their_runs_driven_by_one_host(told, url):
    async with Runtime(url, agents="ray", look_seconds=3600) as other:
        graph = places("shared")
        mine, others = await told.start(graph, "mine"), await other.start(graph, "others")
        found = [await mine.result(), await others.result()]
        assert len({step for _, step, _ in found}) == 1
        await told.start(asking, "of its own")  # so that it has a link to that host, too
        watched = await told.get((await other.start(asking, "a")).id)
        following = asyncio.create_task(watched.result())
        await asked(watched)
        await watched.answer("what", "this")
        assert await following == "a: this"


async def test_a_program_that_goes_away_keeps_nobody_from_following(told, url):
    run = await told.start(asking, "a")
    following = asyncio.create_task(run.result())
    async with Runtime(url, agents="ray", look_seconds=3600) as other:
        left = asyncio.create_task((await other.get(run.id)).result())
        await asked(run)
        left.cancel()
    await run.answer("what", "this")
    assert await following == "a: this"


async def test_where_no_host_can_tell_runs_end_by_looking(cluster, url, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "file"))
    monkeypatch.setenv("CREW_LINK_PORTS", "none")
    async with Runtime(url, agents="ray") as runtime:
        run = await runtime.start(asking, "a")
        following = asyncio.create_task(kinds(run))
        await asked(run)
        await run.answer("what", "this")
        assert await run.result() == "a: this"
        assert (await following)[-1] == "run.completed"


@pytest.mark.slow
async def test_a_run_is_taken_whose_host_dies_before_it_adopts_it(told):
    pid = await (await told.start(telling, [])).result()
    os.kill(pid, signal.SIGSTOP)
    run = await told.start(telling, [])
    assert told.store.run(run.id).owner is not None  # it is named, and hears nothing of it
    following = asyncio.create_task(run.result())
    os.kill(pid, signal.SIGKILL)
    assert await following != pid
    assert "run.taken" in await kinds(run)


@pytest.mark.slow
async def test_a_run_is_followed_in_the_host_that_takes_it_from_one_that_was_killed(told):
    pid = await (await told.start(telling, [])).result()
    run = await told.start(telling, ["a"])
    await asked(run)
    following = asyncio.create_task(run.result())
    os.kill(pid, signal.SIGKILL)
    await run.answer("a", True)
    assert await following != pid
    # By then there is a link to the next host.
    again = await told.start(telling, [])
    assert await again.result() != pid
    assert "run.taken" not in await kinds(again)


async def test_a_host_that_stopped_is_started_anew(cluster, url, monkeypatch):
    monkeypatch.setattr(hosts, "IDLE_SECONDS", 1.5)
    async with Runtime(url, agents="ray") as runtime:
        _, first, _ = await (await runtime.start(places("again"), "x")).result()
        mine = set(runtime.fleet._hosts)
        assert await gone(lambda name: name in mine)
        while runtime.fleet._hosts:
            await asyncio.sleep(0.05)
        _, second, _ = await (await runtime.start(places("again"), "x")).result()
    assert first != second
