"""`crew serve` with workers, with files that change, and on Ray Serve, in processes of its own."""

import asyncio
import json
import os
import signal
import sys
import time
from asyncio.subprocess import PIPE
from contextlib import asynccontextmanager
from pathlib import Path

import openai
import pytest

from crew.run import Runtime
from serving.commands import beacon
from tests.serving.raw import request, send

FLOW = """
import asyncio, os, pathlib
from crew.call.context import Context
from crew.run import workflow
from words import GREETING

@workflow
async def patient(ctx: Context, text: str) -> str:
    await ctx.run(named, text, key="named")
    while not await ctx.run(is_open, text):
        await asyncio.sleep(0.02)
    return f"{GREETING} {os.getpid()}"

async def named(file: str) -> str:
    return pathlib.Path(file).name

async def is_open(file: str) -> bool:
    return pathlib.Path(file).exists()
"""


@pytest.fixture
def place(tmp_path):
    (tmp_path / "flow.py").write_text(FLOW)
    (tmp_path / "words.py").write_text("GREETING = 'hello from'\n")
    (tmp_path / "open").touch()
    return tmp_path


class Server:
    """A `crew serve`: its process, what it told, and a client that never retries."""

    def __init__(self, process, told, client, place) -> None:
        self.process, self.told, self.client, self.place = process, told, client, place

    async def ask(self, file: str = "open") -> str:
        said = [{"role": "user", "content": f"{self.place}/{file}"}]
        reply = await self.client.chat.completions.create(model="patient", messages=said)
        return reply.choices[0].message.content

    async def told_again(self) -> dict:
        return json.loads(await self.process.stdout.readuntil(b"\n}\n"))

    async def stop(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        async with asyncio.timeout(30):
            return await self.process.wait()


@asynccontextmanager
async def serving(place, *words: str, store: str = "", seconds: float = 30):
    """Serve on a free port until the block ends."""
    command = ["-m", "serving.cli", "serve", "flow.py", "--port", "0", "--json", *words]
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *command,
        "--store",
        store or f"sqlite:///{place}/runs.db",
        cwd=place,
        env=os.environ | {"CREW_BASE_URL": "http://127.0.0.1:9/v1", "PYTHONUNBUFFERED": "1"},
        stdout=PIPE,
        stderr=PIPE,
    )
    try:
        async with asyncio.timeout(seconds):
            told = json.loads(await process.stdout.readuntil(b"\n}\n"))
        async with openai.AsyncOpenAI(base_url=told["url"], api_key="k1", max_retries=0) as client:
            yield Server(process, told, client, place)
    finally:
        if process.returncode is None:
            process.terminate()
        await process.communicate()


async def until(check, seconds: float = 20.0):
    """Wait until `check` gives something, and return it."""
    async with asyncio.timeout(seconds):
        while not (found := await check()):
            await asyncio.sleep(0.05)
        return found


def lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize("store", ["sqlite", "postgres"])
async def test_workers_share_a_port_and_a_store(place, store, request):
    url = request.getfixturevalue("postgres_url") if store == "postgres" else ""
    async with serving(place, "--workers", "2", store=url) as server:
        said = await asyncio.gather(*(server.ask() for _ in range(12)))

        assert {int(text.split()[-1]) for text in said} <= set(server.told["workers"])
        assert len(server.told["workers"]) == 2
        listed = await server.client.get("/runs", cast_to=object)
        assert len(listed["data"]) == 12


@pytest.mark.parametrize("words", [(), ("--workers", "2")], ids=["alone", "workers"])
async def test_what_serves_runs_on_uvloop(place, words):
    async with serving(place, *words) as server:
        for pid in server.told.get("workers", [server.told["pid"]]):
            assert "/uvloop/" in Path(f"/proc/{pid}/maps").read_text()


async def test_run_of_a_worker_that_is_killed_goes_on_and_the_worker_is_replaced(place):
    async with serving(place, "--workers", "2") as server:
        body = {"workflow": "patient", "input": f"{place}/later"}
        run = (await server.client.post("/runs", body=body, cast_to=object))["id"]
        for worker in server.told["workers"]:
            os.kill(worker, signal.SIGKILL)
        (place / "later").touch()

        async def done() -> str:
            try:
                shown = await server.client.get(f"/runs/{run}", cast_to=object)
            except openai.APIError:
                return ""
            return shown["status"] == "completed" and shown["output"]

        pid = int((await until(done)).split()[-1])
        assert pid not in server.told["workers"]
        assert lives(server.process.pid)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_one_signal_ends_all_workers_and_leaves_their_runs(place, number):
    async with serving(place, "--workers", "2") as server:
        stream = await server.client.chat.completions.create(
            model="patient",
            messages=[{"role": "user", "content": f"{place}/never"}],
            stream=True,
        )
        server.process.send_signal(number)
        with pytest.raises(openai.APIError, match=r"crew resume r"):
            _ = [chunk async for chunk in stream]
        async with asyncio.timeout(10):
            assert await server.process.wait() == 0

        assert not any(lives(pid) for pid in server.told["workers"])
    async with Runtime(f"sqlite:///{place}/runs.db", worker=False) as runtime:
        [run] = await runtime.runs()
        assert await run.status() == "running"


async def test_workers_end_when_their_parent_is_killed(place):
    async with serving(place, "--workers", "2") as server:
        await server.stop(signal.SIGKILL)

        async def gone() -> bool:
            return not any(lives(pid) for pid in server.told["workers"])

        assert await until(gone)


async def test_commands_find_the_parent_of_workers(place):
    async with serving(place, "--workers", "2") as server:
        found = beacon.find(f"sqlite:///{place}/runs.db")

        assert found.pid == server.process.pid
        assert found.url == server.told["url"]
        assert list(found.workflows) == ["patient"]


async def test_changed_file_is_served_anew_on_the_same_port(place):
    async with serving(place, "--reload") as server:
        assert (await server.ask()).startswith("hello from")
        (place / "words.py").write_text("GREETING = 'good morning from'\n")
        told = await server.told_again()

        assert told["url"] == server.told["url"]
        assert told["workers"] != server.told["workers"]
        assert (await server.ask()).startswith("good morning from")


async def test_file_that_does_not_load_is_waited_for_until_it_does(place):
    async with serving(place, "--reload") as server:
        (place / "words.py").write_text("GREETING = \n")

        async def complaint() -> bytes:
            return await server.process.stderr.readline()

        assert b"SyntaxError" in await until(complaint)
        (place / "words.py").write_text("GREETING = 'back at'\n")
        await server.told_again()
        assert (await server.ask()).startswith("back at")


async def test_run_under_way_goes_on_in_the_changed_code_where_it_fits(place):
    async with serving(place, "--reload") as server:
        body = {"workflow": "patient", "input": f"{place}/later"}
        run = (await server.client.post("/runs", body=body, cast_to=object))["id"]
        (place / "words.py").write_text("GREETING = 'new'\n")
        await server.told_again()
        (place / "later").touch()

        async def output() -> str:
            return (await server.client.get(f"/runs/{run}", cast_to=object)).get("output", "")

        assert (await until(output)).startswith("new")


async def test_run_that_the_changed_code_does_not_fit_is_parked(place):
    async with serving(place, "--reload") as server:
        body = {"workflow": "patient", "input": f"{place}/later"}
        run = (await server.client.post("/runs", body=body, cast_to=object))["id"]

        async def has(events: int) -> bool:
            page = await server.client.get(f"/runs/{run}/events?stream=false", cast_to=object)
            return len(page["data"]) >= events

        async def waits() -> bool:
            shown = await server.client.get(f"/runs/{run}", cast_to=object)
            return shown["status"] == "waiting" and not shown["questions"]

        await until(lambda: has(6))
        (place / "flow.py").write_text(FLOW.replace("ctx.run(named", "ctx.run(is_open"))
        await server.told_again()
        assert await until(waits)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["research", "--reload"], "name one: crew serve flow.py"),
        (["flow.py", "--reload", "--workers", "2"], "leave --workers out"),
        (["flow.py", "--workers", "2", "--store", ":memory:"], "cannot be shared by processes"),
        (["flow.py", "--workers", "2", "--agents", "ray"], "set CREW_RAY_ADDRESS"),
        (["flow.py", "--ray", "--reload"], "leave --ray out"),
        (["flow.py", "--ray", "--store", ":memory:"], "cannot be shared by replicas"),
        (["nosuch.py", "--workers", "2"], "cannot read the workflow file nosuch.py"),
    ],
)
async def test_what_cannot_be_served_so_is_refused_in_a_line(place, words, message):
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "serving.cli", "serve", "--port", "0", *words),
        cwd=place,
        env=os.environ | {"CREW_RAY_ADDRESS": "", "CREW_BASE_URL": "http://127.0.0.1:9/v1"},
        stderr=PIPE,
    )
    _, errors = await process.communicate()

    assert process.returncode == 2
    assert message in errors.decode()
    assert "Traceback" not in errors.decode()


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.xdist_group("ray")
async def test_endpoint_is_served_by_replicas_on_ray_serve(place):
    async with serving(place, "--ray", "--workers", "2", seconds=110) as server:
        said = await asyncio.gather(*(server.ask() for _ in range(6)))
        assert all(text.startswith("hello from") for text in said)
        assert str(server.process.pid) not in {text.split()[-1] for text in said}
        assert (await send(server.told["url"], request("GET", "/readyz"))).status == 200

        began = time.monotonic()
        assert await server.stop() == 0
        assert time.monotonic() - began < 25
