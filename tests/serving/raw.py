"""Requests as bytes, so that what no client would send can be sent."""

import asyncio
import json
from dataclasses import dataclass, field

SECONDS = 2.0
"""Within which each request must be answered."""


@dataclass(frozen=True)
class Reply:
    status: int
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""

    @property
    def error(self) -> dict:
        return json.loads(self.body)["error"]


async def send(url: str, raw: bytes) -> Reply:
    """Send bytes and read one reply, to the end of its body or of the connection."""
    host, port = url.split("/")[2].split(":")
    async with asyncio.timeout(SECONDS):
        reader, writer = await asyncio.open_connection(host, int(port))
        try:
            writer.write(raw)
            return await _reply(reader, has_body=not raw.startswith(b"HEAD"))
        finally:
            writer.close()


def request(method: str, path: str, body: bytes = b"", **headers: str) -> bytes:
    """Write a request; a header given as "" is left out, `_` in its name is a hyphen."""
    told = {"Host": "127.0.0.1", "Content-Type": "application/json", "Connection": "close"}
    if body or method in ("POST", "PUT", "PATCH"):
        told["Content-Length"] = str(len(body))
    told |= {name.replace("_", "-"): value for name, value in headers.items()}
    lines = [f"{name}: {value}\r\n" for name, value in told.items() if value]
    head = f"{method} {path} HTTP/1.1\r\n{''.join(lines)}\r\n"
    return head.encode("utf-8", "surrogateescape") + body


async def _reply(reader: asyncio.StreamReader, *, has_body: bool) -> Reply:
    status = int((await reader.readline()).split()[1])
    headers: dict[str, str] = {}
    while line := (await reader.readline()).strip():
        name, _, value = line.decode("latin-1").partition(":")
        headers[name.lower()] = value.strip()
    length = headers.get("content-length") if has_body else None
    body = await (reader.read() if length is None else reader.readexactly(int(length)))
    return Reply(status, headers, body)
