"""A wire between a client and an endpoint that keeps what the client posts."""

import asyncio
import json
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import urlsplit


@dataclass(frozen=True)
class Posted:
    headers: dict[str, str]
    body: dict[str, Any]


class Recorder:
    """Passes bytes on as they come, both ways."""

    def __init__(self, url: str) -> None:
        self._upstream = urlsplit(url)
        self._received: list[bytearray] = []
        self._open: list[asyncio.StreamWriter] = []

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._server.close()
        for writer in self._open:
            writer.close()
        await asyncio.gather(*(writer.wait_closed() for writer in self._open))

    @property
    def url(self) -> str:
        port = self._server.sockets[0].getsockname()[1]
        return f"http://127.0.0.1:{port}{self._upstream.path}"

    @property
    def posted(self) -> list[Posted]:
        return [request for raw in self._received for request in _requests(bytes(raw))]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        received = bytearray()
        self._received.append(received)
        host, port = self._upstream.hostname, self._upstream.port
        answers, asked = await asyncio.open_connection(host, port)
        self._open += [asked, writer]
        await asyncio.gather(_pass(reader, asked, received), _pass(answers, writer, bytearray()))


async def _pass(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, kept: bytearray
) -> None:
    while piece := await reader.read(1 << 16):
        kept += piece
        writer.write(piece)
    writer.close()


def _requests(raw: bytes) -> list[Posted]:
    """Read the POSTs of one connection."""
    found = []
    while raw:
        head, _, rest = raw.partition(b"\r\n\r\n")
        lines = head.decode().split("\r\n")
        headers = {k.lower(): v for k, _, v in (line.partition(": ") for line in lines[1:])}
        length = int(headers.get("content-length", 0))
        if lines[0].startswith("POST"):
            found.append(Posted(headers, json.loads(rest[:length])))
        raw = rest[length:]
    return found
