"""Requests to a server over HTTP: one that fails is answered with an error of its own.

To the SDK an error of the network is the end of a connection, and of all calls on it, of which
nobody knows then whether they acted. Here it is one answer, that says whether it was sent at all.
"""

from collections.abc import AsyncIterator, Mapping
from typing import Any

import httpx2

__all__ = ["CUT_OFF", "NOT_SENT", "client"]

NOT_SENT, CUT_OFF = 90_001, 90_002
"""The codes of errors that say that the server has not got a request, and that its answer is lost.

None of JSON-RPC's, nor of a range that servers use.
"""

_NOT_CONNECTED = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout)
MOST_BYTES = 64 << 20
"""Of an answer."""
MOST_ERROR_BYTES = 64 << 10
_SESSION = "mcp-session-id"


def client(headers: Mapping[str, str], seconds: float) -> httpx2.AsyncClient:
    """Return what sends requests with these headers, and waits so long for a connection."""
    # An answer may take as long as the call's own timeout.
    timeout = httpx2.Timeout(seconds, read=None)
    return _Answering(headers=dict(headers), timeout=timeout)


class _Answering(httpx2.AsyncClient):
    """Answers a request itself where the server gives no answer that the SDK reads."""

    async def send(self, request: httpx2.Request, **options: Any) -> httpx2.Response:
        if request.method != "POST":
            return await super().send(request, **options)
        try:
            response = await super().send(request, **options)
        except _NOT_CONNECTED as error:
            return _error(request, NOT_SENT, f"no connection: {error or type(error).__name__}")
        except httpx2.TransportError as error:
            return _error(
                request, CUT_OFF, f"the connection broke: {error or type(error).__name__}"
            )
        if response.status_code == httpx2.codes.NOT_FOUND and _SESSION in request.headers:
            await response.aclose()
            return _error(request, NOT_SENT, "the server has forgotten the session")
        if response.is_error:
            return await _refusal(request, response)
        if "json" in response.headers.get("content-type", ""):
            response.stream = _Bounded(response.stream)
        return response


class _Bounded(httpx2.AsyncByteStream):
    """A body, up to what a sound answer holds."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    async def __aiter__(self) -> AsyncIterator[bytes]:
        left = MOST_BYTES
        async for chunk in self._stream:
            left -= len(chunk)
            if left < 0:
                raise httpx2.ReadError(f"the answer has more than {MOST_BYTES} bytes")
            yield chunk

    async def aclose(self) -> None:
        await self._stream.aclose()


async def _refusal(request: httpx2.Request, response: httpx2.Response) -> httpx2.Response:
    """Return an answer that is an error as one that the SDK reads: MCP's own, or its status."""
    body = b""
    async for chunk in response.aiter_bytes():
        body += chunk
        if len(body) > MOST_ERROR_BYTES:
            break
    await response.aclose()
    if b'"jsonrpc"' in body:
        kind = {"content-type": "application/json"}
        return httpx2.Response(response.status_code, headers=kind, content=body, request=request)
    said = body[:500].decode(errors="replace")
    return _error(request, -32603, f"HTTP {response.status_code} {response.reason_phrase} {said}")


def _error(request: httpx2.Request, code: int, message: str) -> httpx2.Response:
    said = {"jsonrpc": "2.0", "id": None, "error": {"code": code, "message": message}}
    return httpx2.Response(502, json=said, request=request)
