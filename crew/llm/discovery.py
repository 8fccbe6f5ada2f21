"""Which OpenAI-compatible servers listen on this machine."""

import asyncio
import json
from collections.abc import Sequence
from typing import NamedTuple

from crew.message import Json

__all__ = ["USUAL_PORTS", "LocalEndpoint", "find_local_endpoints"]

USUAL_PORTS = {11434: "Ollama", 8000: "vLLM", 1234: "LM Studio", 8080: "llama.cpp"}

LONGEST_LIST = 1 << 20


class LocalEndpoint(NamedTuple):
    """A server that answered, and the id of the first model it lists."""

    base_url: str
    model: str

    def __str__(self) -> str:
        return f"{self.base_url} ({self.model})"


async def find_local_endpoints(
    timeout: float = 0.3,  # noqa: ASYNC109  (one deadline for all of them, not for the caller)
    *,
    ports: Sequence[int] = tuple(USUAL_PORTS),
) -> list[LocalEndpoint]:
    """Return each that answers, in the order of `ports`.

    Sends one GET /v1/models to each port of 127.0.0.1; never calls a model, sends no key, and
    is over after `timeout` seconds.
    """
    found = await asyncio.gather(*(_first_model(port, timeout) for port in ports))
    return [
        LocalEndpoint(f"http://127.0.0.1:{port}/v1", model)
        for port, model in zip(ports, found, strict=True)
        if model
    ]


async def _first_model(port: int, seconds: float) -> str:
    try:
        async with asyncio.timeout(seconds):
            return _read_first_id(await _get_models(port))
    except (OSError, TimeoutError, ValueError, asyncio.IncompleteReadError):
        # Nobody there, too slow, or something else than what we look for.
        return ""


async def _get_models(port: int) -> bytes:
    """Return the body of the answer. HTTP/1.0, so that it is neither chunked nor kept open."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(f"GET /v1/models HTTP/1.0\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode())
        head = await reader.readuntil(b"\r\n\r\n")
        if b" 200 " not in head.split(b"\r\n")[0]:
            return b""
        return await reader.read(LONGEST_LIST)
    finally:
        writer.close()


def _read_first_id(body: bytes) -> str:
    listed: Json = json.loads(body or b"null")
    models = listed.get("data") if isinstance(listed, dict) else None
    first = models[0] if isinstance(models, list) and models else None
    return str(first.get("id") or "") if isinstance(first, dict) else ""
