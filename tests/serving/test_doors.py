import asyncio
import json
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from asyncio.subprocess import PIPE

import openai
import pytest

from crew.config import Settings
from crew.errors import InputInvalid, SettingsInvalid
from crew.run import Graph, Runtime
from serving.app import create_app, serve_http


def _get(url: str, **headers: str) -> tuple[int, dict]:
    try:
        request = urllib.request.Request(url, headers=headers)
        with urllib.request.urlopen(request, timeout=10) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


async def test_health_and_readiness_are_answered(endpoint):
    root = endpoint.url.removesuffix("/v1")

    assert await asyncio.to_thread(_get, f"{root}/healthz") == (200, {"status": "ok"})
    status, body = await asyncio.to_thread(_get, f"{root}/readyz")
    assert (status, body["status"]) == (200, "ready")


async def test_key_is_needed_where_keys_are_set(opening, tmp_path):
    async with opening(f"sqlite:///{tmp_path}/runs.db", api_keys=["k1"]) as endpoint:
        assert (await endpoint.ask("echo", "hi")).choices
        with pytest.raises(openai.AuthenticationError) as caught:
            await endpoint.client.with_options(api_key="other").models.list()

    assert caught.value.code == "invalid_api_key"


async def test_page_under_a_foreign_name_may_not_call(endpoint):
    status, body = await asyncio.to_thread(_get, f"{endpoint.url}/models", Host="evil.example")

    assert status == 403
    assert body["error"]["code"] == "host_not_allowed"


async def test_port_in_use_is_named_with_the_option_that_helps():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        async with Runtime(":memory:") as runtime:
            app = create_app(runtime, [], settings=Settings())
            with pytest.raises(SettingsInvalid, match=rf"port {port} .* in use.* --port"):
                await serve_http(app, "127.0.0.1", port)


async def test_other_machines_are_not_served_without_a_key():
    async with Runtime(":memory:") as runtime:
        app = create_app(runtime, [], settings=Settings())
        with pytest.raises(SettingsInvalid, match="needs a key"):
            await serve_http(app, "0.0.0.0", 0)


async def test_two_workflows_of_one_name_are_refused():
    flows = [Graph("same", input=str, output=str), Graph("same", input=str, output=str)]
    async with Runtime(":memory:") as runtime:
        with pytest.raises(InputInvalid, match="two workflows are called 'same'"):
            create_app(runtime, flows, settings=Settings())


async def test_run_that_was_under_way_at_the_end_goes_on_after_the_next_start(
    opening, tmp_path, gate, request
):
    store, text = f"sqlite:///{tmp_path}/runs.db", request.node.name
    async with opening(store) as endpoint:
        stream = await endpoint.ask("echo", text, stream=True)
        run_id = (await endpoint.run_of(text)).id
        await stream.close()
    gate.set()

    async with opening(store) as endpoint, asyncio.timeout(5):
        run = await endpoint.runtime.get(run_id)
        assert (await run.result()).text.startswith(text)


SERVER = """
import asyncio, sys
from crew.config import Settings
from crew.run import Runtime, workflow
from crew.call.context import Context
from serving.app import create_app, serve_http

@workflow
async def slow(ctx: Context, text: str) -> str:
    await ctx.sleep(600)
    return text

async def main():
    settings = Settings(store=sys.argv[1])
    async with Runtime(workflows=[slow], settings=settings) as runtime:
        app = create_app(runtime, [slow], settings=settings)
        await serve_http(app, port=0, on_ready=lambda url: print(url, flush=True))
    print("closed", flush=True)

asyncio.run(main())
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_signal_ends_the_server_cleanly_and_its_runs_stay(tmp_path, number):
    store = f"sqlite:///{tmp_path}/runs.db"
    server = await asyncio.create_subprocess_exec(
        sys.executable, "-c", SERVER, store, stdout=PIPE, stderr=PIPE
    )
    url = (await server.stdout.readline()).decode().strip()
    async with openai.AsyncOpenAI(base_url=url, api_key="k", max_retries=0) as client:
        stream = await client.chat.completions.create(
            model="slow", messages=[{"role": "user", "content": "hi"}], stream=True
        )
        await anext(aiter(stream))
        server.send_signal(number)
        with pytest.raises(openai.APIError, match="the server stops"):
            _ = [chunk async for chunk in stream]
    async with asyncio.timeout(8):
        out, err = await server.communicate()

    assert (server.returncode, out, err) == (0, b"closed\n", b"")
    async with Runtime(store, worker=False) as runtime:
        [run] = await runtime.runs()
        assert await run.status() in ("running", "waiting")


@pytest.mark.parametrize("module", ["serving.app", "serving.gallery", "serving.llm"])
def test_import_is_light(module):
    code = f"import {module}, sys; print(*sys.modules, sep='\\n')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy = {"ray", "openai", "fastapi", "starlette", "uvicorn", "xllamacpp", "numpy"}

    assert not heavy & set(done.stdout.split())
