"""`crew serve` on a free port, ended by a signal while it works."""

import asyncio
import json
import os
import signal
import sys
import time
from asyncio.subprocess import PIPE
from contextlib import asynccontextmanager

import openai
import pytest

from crew.run import Runtime
from serving.gallery import load_workflows
from serving.listening import DRAIN_SECONDS, GRACE_SECONDS
from tests.serving.raw import request, send

FLOW = """
import asyncio, pathlib
from crew.call.context import Context
from crew.run import workflow

@workflow
async def patient(ctx: Context, text: str) -> str:
    ctx.emit("begun ")
    while not await ctx.run(is_open, text):
        await asyncio.sleep(0.02)
    return f"done {text}"

async def is_open(file: str) -> bool:
    return pathlib.Path(file).exists()
"""


@pytest.fixture
def place(tmp_path):
    (tmp_path / "flow.py").write_text(FLOW)
    return tmp_path


@asynccontextmanager
async def serving(place, *words: str):
    """A server in a process of its own: the process, its URL, and a client that never retries."""
    command = ["-m", "serving.cli", "serve", "flow.py", "--port", "0", "--json", *words]
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *command,
        "--store",
        f"sqlite:///{place}/runs.db",
        cwd=place,
        env=os.environ | {"CREW_BASE_URL": "http://127.0.0.1:9/v1"},
        stdout=PIPE,
    )
    try:
        async with asyncio.timeout(30):
            url = json.loads(await process.stdout.readuntil(b"}"))["url"]
        async with openai.AsyncOpenAI(base_url=url, api_key="k1", max_retries=0) as client:
            yield process, url, client
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def begun(client, place):
    """A stream of a run that waits until the file `open` is there."""
    stream = await client.chat.completions.create(**asked(place), stream=True)
    chunks = aiter(stream)
    while (await anext(chunks)).choices[0].delta.content != "begun ":
        pass
    return chunks


def asked(place) -> dict:
    return {"model": "patient", "messages": [{"role": "user", "content": f"{place}/open"}]}


async def test_sigterm_turns_readiness_off_and_starts_nothing_more(place):
    async with serving(place) as (process, url, client):
        assert (await send(url, request("GET", "/readyz"))).status == 200
        process.send_signal(signal.SIGTERM)
        await asyncio.sleep(0.1)

        ready = await send(url, request("GET", "/readyz"))
        assert (ready.status, ready.error["code"]) == (503, "server_stopping")
        assert (await send(url, request("GET", "/healthz"))).status == 200
        with pytest.raises(openai.InternalServerError) as caught:
            await client.chat.completions.create(**asked(place))
        assert (caught.value.status_code, caught.value.code) == (503, "server_stopping")
        assert caught.value.response.headers["retry-after"] == "1"
    async with Runtime(f"sqlite:///{place}/runs.db", worker=False) as runtime:
        assert await runtime.runs() == []


@pytest.mark.parametrize(
    ("number", "seconds"), [(signal.SIGTERM, DRAIN_SECONDS + GRACE_SECONDS), (signal.SIGINT, 1.5)]
)
async def test_signal_ends_streams_and_the_process_soon(place, number, seconds):
    async with serving(place) as (process, _, client):
        chunks = await begun(client, place)
        began = time.monotonic()
        process.send_signal(number)
        with pytest.raises(openai.APIError, match=r"the run is kept.* crew resume r") as caught:
            _ = [chunk async for chunk in chunks]

        assert caught.value.code == "server_stopping"
        assert time.monotonic() - began < 1
        async with asyncio.timeout(seconds):
            assert await process.wait() == 0


async def test_run_under_way_goes_on_at_the_next_worker_at_once(place):
    async with serving(place) as (process, _, client):
        await begun(client, place)
        process.send_signal(signal.SIGTERM)
        await process.wait()
    (place / "open").touch()

    flows = load_workflows(str(place / "flow.py"))
    async with Runtime(f"sqlite:///{place}/runs.db", workflows=flows) as runtime:
        [run] = await runtime.runs()
        async with asyncio.timeout(3):
            assert await run.result() == f"done {place}/open"


async def test_second_signal_ends_the_drain(place):
    async with serving(place) as (process, _, client):
        await begun(client, place)
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        await asyncio.sleep(0.1)
        process.send_signal(signal.SIGTERM)
        assert await process.wait() == 0

    assert time.monotonic() - began < DRAIN_SECONDS


async def test_client_that_retries_is_served_by_the_next_server(place):
    (place / "open").touch()
    async with serving(place) as (process, url, client):
        process.send_signal(signal.SIGTERM)
        await asyncio.sleep(0.1)
        patient = client.with_options(max_retries=9).chat.completions.create(**asked(place))
        reply = asyncio.create_task(patient)
        await process.wait()
        port = url.split("/")[2].split(":")[1]
        async with serving(place, "--port", port):
            assert (await reply).choices[0].message.content == f"done {place}/open"


async def test_server_with_keys_says_so_and_serves_their_tenants(place):
    from serving.access.keys import new_key

    _, secret = new_key(place / "keys.toml", tenant="acme")
    (place / "open").touch()
    async with serving(place, "--keys", "keys.toml") as (_, _, client):
        with pytest.raises(openai.AuthenticationError):
            await client.models.list()
        await client.with_options(api_key=secret).chat.completions.create(**asked(place))
    async with Runtime(f"sqlite:///{place}/runs.db", worker=False) as runtime:
        assert len(await runtime.of("acme").runs()) == 1
        assert await runtime.runs() == []
