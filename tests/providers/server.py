"""The part that all the fakes share: HTTP on loopback, and requests as they were sent."""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from tests.providers import mind
from tests.providers.mind import Said

Body = dict[str, Any]
NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")


@dataclass
class Refused(Exception):
    """The endpoint takes a request for invalid."""

    message: str
    status: int = 400
    param: str | None = None
    code: str | None = None


class Provider:
    """One endpoint. A dialect says what it refuses, and how it words answers and refusals."""

    name = ""
    owner = ""
    sees = True

    def __init__(self) -> None:
        self.requests: list[Body] = []
        self.url = ""

    def check(self, body: Body) -> None:
        """Refuse what the real one refuses.

        Raises:
            Refused: it does.
        """

    def adapted(self, body: Body, said: Said) -> Said:
        """Return what the model says under this engine's constraints."""
        return said

    def whole(self, said: Said, body: Body) -> Body:
        raise NotImplementedError

    def chunks(self, said: Said, body: Body) -> Iterator[Body]:
        raise NotImplementedError

    def error(self, refused: Refused) -> Any:
        kind = "invalid_request_error"
        named = {"param": refused.param, "code": refused.code}
        return {"error": {"message": refused.message, "type": kind, **named}}

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Provider"]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
        try:
            yield self
        finally:
            server.close()
            await server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            found = re.search(r"content-length: (\d+)", head, re.IGNORECASE)
            body = await reader.readexactly(int(found[1]) if found else 0)
            if head.startswith("GET"):
                model = {"id": "m", "object": "model", "created": 1, "owned_by": self.owner}
                _send(writer, 200, {"object": "list", "data": [model]})
            else:
                self._answer(writer, json.loads(body))
            await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the client has gone
        finally:
            writer.close()

    def _answer(self, writer: asyncio.StreamWriter, body: Body) -> None:
        self.requests.append(body)
        try:
            self.check(body)
        except Refused as refused:
            _send(writer, refused.status, self.error(refused))
            return
        said = self.adapted(body, mind.answer(body))
        if not body.get("stream"):
            _send(writer, 200, self.whole(said, body), is_cut=said.is_broken)
            return
        sent = "".join(self._event(chunk) for chunk in self.chunks(said, body))
        if said.is_broken:
            sent = sent[: len(sent) // 2]
            sent = sent[: sent.rindex("\n\n") + 2]
        else:
            sent += self._event("[DONE]")
        _send(writer, 200, sent, "text/event-stream; charset=utf-8")

    def _event(self, data: Any) -> str:
        return f"data: {data if isinstance(data, str) else json.dumps(data)}\n\n"


def _send(
    writer: asyncio.StreamWriter,
    status: int,
    body: Any,
    kind: str = "application/json",
    *,
    is_cut: bool = False,
) -> None:
    data = (body if isinstance(body, str) else json.dumps(body)).encode()
    length = "" if kind.startswith("text/event") else f"Content-Length: {len(data)}\r\n"
    head = f"HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\n{length}Connection: close\r\n\r\n"
    writer.write(head.encode() + (data[: len(data) // 2] if is_cut else data))


def pieces(text: str, size: int = 5) -> list[str]:
    """Cut a text as tokens do."""
    return [text[first : first + size] for first in range(0, len(text), size)]


def check_calls(messages: list[Body], unanswered: str, orphan: str) -> None:
    """Refuse calls without results, and results without their call.

    Raises:
        Refused: with the words of the provider; `{}` is the ids.
    """
    waiting: list[str] = []
    for place, message in enumerate(messages):
        if message["role"] == "tool":
            if message.get("tool_call_id") not in waiting:
                raise Refused(orphan, param=f"messages.[{place}].role")
            waiting.remove(message["tool_call_id"])
            continue
        if waiting:
            raise Refused(unanswered.format(", ".join(waiting)), param=f"messages.[{place}].role")
        waiting = [call["id"] for call in message.get("tool_calls") or ()]
        if not all(waiting) or len(set(waiting)) < len(waiting):
            raise Refused("Duplicate or empty ids of tool calls.", param=f"messages.[{place}]")
    if waiting:
        raise Refused(unanswered.format(", ".join(waiting)))
