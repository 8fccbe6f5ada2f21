"""HTTP as uvicorn reads it, with what it lacks: limits of a request's head, and errors as JSON."""

import asyncio
import json

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from serving.http.errors import ApiError

__all__ = ["Protocol"]

HEAD_SECONDS = 10.0
"""How long a request line and its headers may take; a connection that says nothing ends too."""
MOST_HEAD_BYTES = 64 << 10
"""How large they may be."""


class Protocol(HttpToolsProtocol):
    """One connection."""

    _is_in_head = True
    _head_bytes = 0
    _late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # pyrefly: ignore
        super().connection_made(transport)
        self._late = self.loop.call_later(HEAD_SECONDS, self._end_late)

    def connection_lost(self, exc: Exception | None) -> None:
        self._in_time()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        was_in_head = self._is_in_head
        super().data_received(data)
        if not self._is_in_head or self.transport.is_closing():
            return
        if self._late is None:
            self._late = self.loop.call_later(HEAD_SECONDS, self._end_late)
        if was_in_head:
            self._head_bytes += len(data)
        if self._head_bytes > MOST_HEAD_BYTES:
            self._refuse(431, f"the headers are larger than {MOST_HEAD_BYTES} bytes")

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._is_in_head, self._head_bytes = True, 0

    def on_headers_complete(self) -> None:
        self._is_in_head = False
        self._in_time()
        super().on_headers_complete()

    def send_400_response(self, msg: str) -> None:
        self._refuse(400, f"this is not HTTP that is read here: {msg}")

    def _in_time(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def _end_late(self) -> None:
        self._refuse(408, f"the headers did not arrive within {HEAD_SECONDS:g} seconds")

    def _refuse(self, status: int, message: str) -> None:
        if self.transport.is_closing():
            return
        self._in_time()
        error = ApiError(status=status, message=message, code="invalid_http")
        body = json.dumps(error.body).encode()
        head = f"HTTP/1.1 {status} \r\nContent-Type: application/json\r\nConnection: close\r\n"
        self.transport.write(head.encode() + f"Content-Length: {len(body)}\r\n\r\n".encode() + body)
        self.transport.close()
