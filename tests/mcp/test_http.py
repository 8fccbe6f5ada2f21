"""Servers that are reached over HTTP: the SDK's, which goes away and comes back."""

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import uvicorn
from mcp.server.mcpserver import MCPServer
from starlette.applications import Starlette
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from crew import MCP, RunFailed, Runtime, ToolCall
from tests.core.lives import SECONDS, result
from tests.mcp.flows import desk
from tests.mcp.places import SERVERS, clerk, read


class Till:
    """A server whose tool tells what it was called with."""

    def __init__(self) -> None:
        self.made: list[int] = []

    def app(self, **options) -> Starlette:
        server = MCPServer("till", log_level="ERROR")

        @server.tool()
        async def pay(cents: int) -> str:
            """Pay."""
            self.made.append(cents)
            return f"paid {cents}"

        return server.streamable_http_app(**options)


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


@asynccontextmanager
async def up(app: Starlette, port: int) -> AsyncIterator[str]:
    """A server at a port, which goes away like one that crashes."""
    config = uvicorn.Config(app, port=port, log_config=None, timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve())
    try:
        async with asyncio.timeout(SECONDS):
            while not server.started:
                await asyncio.sleep(0.01)
            yield f"http://127.0.0.1:{port}/mcp"
    finally:
        server.should_exit = server.force_exit = True
        await asyncio.wait({serving})


@pytest.mark.parametrize("options", [{}, {"json_response": True}, {"stateless_http": True}])
async def test_agent_reads_what_a_server_over_http_returns(options):
    async with up(Till().app(**options), free_port()) as url:
        (paid,) = await read(MCP(url), ToolCall("pay", {"cents": 5}))

    assert paid.text == "paid 5"


async def test_server_that_was_restarted_is_connected_anew_and_called_once():
    till, port = Till(), free_port()
    flow = desk([MCP(f"http://127.0.0.1:{port}/mcp")], *(ToolCall("pay", {"cents": 1}),) * 2)
    async with Runtime(":memory:", workflows=[flow]) as runtime:
        for _ in range(2):
            async with up(till.app(), port):
                run = await runtime.start(flow, "hello")
                assert await result(run) == "paid 1 | paid 1"

    assert till.made == [1, 1, 1, 1]


async def test_act_that_the_server_did_not_get_is_an_error_and_not_unknown():
    till, port = Till(), free_port()
    url = f"http://127.0.0.1:{port}/mcp"
    answered: list[str] = []

    def note(call) -> bool:
        answered.append("asked")
        return True

    flow = desk([MCP(url, approve={"pay": note})], ToolCall("pay", {"cents": 1}))
    async with Runtime(":memory:", workflows=[flow]) as runtime:
        async with up(till.app(), port):
            run = await runtime.start(flow, "hello")
            async with asyncio.timeout(SECONDS):
                while not (asked := await run.questions()):
                    await asyncio.sleep(0.01)
        await run.answer(asked[0].path, True)
        said = await result(run)

    assert said.startswith(f"error: MCP server '{url}' (pay): no connection")
    assert till.made == []


async def test_act_that_was_under_way_when_the_server_was_killed_is_unknown(tmp_path):
    port, acts = free_port(), tmp_path / "acts.txt"
    acts.touch()
    words = [sys.executable, str(SERVERS / "shop.py"), str(port)]
    server = subprocess.Popen(words, env={**os.environ, "ACTS": str(acts)})
    flow = desk([MCP(f"http://127.0.0.1:{port}/mcp", include=["hold"])], ToolCall("hold"))
    try:
        async with asyncio.timeout(SECONDS):
            while not await is_open(port):
                await asyncio.sleep(0.05)
            async with Runtime(":memory:", workflows=[flow]) as runtime:
                run = await runtime.start(flow, "hello")
                while "hold" not in acts.read_text():
                    await asyncio.sleep(0.02)
                server.kill()
                with pytest.raises(RunFailed) as failed:
                    await result(run)
    finally:
        server.kill()
        server.wait()

    assert failed.value.cause_type == "EffectUnknown"


async def is_open(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    await writer.wait_closed()
    return True


async def test_headers_are_sent_and_told_to_nobody():
    seen: list[str] = []

    async def refuse(request) -> Response:
        seen.append(request.headers["authorization"])
        return PlainTextResponse(f"not for {request.headers['authorization']}", status_code=401)

    app = Starlette(routes=[Route("/mcp", refuse, methods=["POST"])])
    async with up(app, free_port()) as url:
        agent = clerk(MCP(url, headers={"Authorization": "Bearer sk-12345678"}))
        await agent.run("hello")

    words = agent.model.requests[0].tools[0].description
    assert set(seen) == {"Bearer sk-12345678"}
    assert "HTTP 401 Unauthorized not for ***" in words
    assert "sk-12345678" not in words


async def test_secret_in_a_url_is_told_to_nobody():
    agent = clerk(MCP("http://eva:sk-12345678@127.0.0.1:1/mcp?key=sk-12345678"))
    await agent.run("hello")

    (tool,) = agent.model.requests[0].tools
    assert "http://127.0.0.1:1/mcp" in tool.description
    assert "sk-12345678" not in f"{tool} {agent.servers}"


async def test_answer_that_is_far_too_long_is_an_error():
    async def flood(request) -> Response:
        async def pieces():
            for _ in range(80):
                yield b" " * (1 << 20)

        return StreamingResponse(pieces(), media_type="application/json")

    app = Starlette(routes=[Route("/mcp", flood, methods=["POST"])])
    async with up(app, free_port()) as url:
        agent = clerk(MCP(url))
        await agent.run("hello")

    assert "more than 67108864 bytes" in agent.model.requests[0].tools[0].description


async def test_session_that_the_server_has_forgotten_is_begun_anew_and_the_act_made_once():
    sessions, made = ["s1"], []

    async def answer(request) -> Response:
        message = await request.json()
        match message["method"]:
            case "initialize":
                version = message["params"]["protocolVersion"]
                info = {"name": "old", "version": "1"}
                result = {"protocolVersion": version, "capabilities": {}, "serverInfo": info}
            case _ if request.headers.get("mcp-session-id") != sessions[-1]:
                return PlainTextResponse("no such session", status_code=404)
            case "tools/list":
                result = {"tools": [{"name": "pay", "inputSchema": {"type": "object"}}]}
            case "tools/call":
                made.append(sessions[-1])
                sessions.append(f"s{len(sessions) + 1}")  # and forgets all that it knew
                result = {"content": [{"type": "text", "text": "paid"}]}
            case _:
                return Response(status_code=202)
        said = {"jsonrpc": "2.0", "id": message.get("id"), "result": result}
        return JSONResponse(said, headers={"mcp-session-id": sessions[-1]})

    app = Starlette(routes=[Route("/mcp", answer, methods=["POST"])])
    async with up(app, free_port()) as url:
        paid = await read(MCP(url), ToolCall("pay"), ToolCall("pay"), ToolCall("pay"))

    assert [result.text for result in paid] == ["paid"] * 3
    assert made == ["s1", "s2", "s3"]
