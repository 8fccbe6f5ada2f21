"""A reader of streamed answers that costs next to nothing, so that hundreds fit beside a server."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass

from tests.serving.raw import request


@dataclass
class Reading:
    """One answer of the workflow `chat`, as far as it was read; `api` is `chat` or `responses`.

    `last` is the number of the last event, `error` the code of one that ended the stream.
    """

    api: str
    key: str
    text: str = ""
    run: str = ""
    last: int = -1
    error: str = ""
    is_done: bool = False

    async def read(self, port: int) -> None:
        """Ask, and read to the end of the stream."""
        path = "/v1/chat/completions" if self.api == "chat" else "/v1/responses"
        said = [{"role": "user", "content": "count"}]
        asked = {"model": "chat", "stream": True}
        asked |= {"messages": said} if self.api == "chat" else {"input": said}
        body = json.dumps(asked).encode()
        await self._follow(port, request("POST", path, body, Idempotency_Key=self.key))

    async def read_on(self, port: int) -> None:
        """Come back to what broke off: in chat from the beginning, else behind the last event."""
        self.error = ""
        if self.api == "chat" or not self.run:
            self.text = ""
            await self.read(port)
        else:
            path = f"/v1/responses/resp_{self.run}?stream=true&starting_after={self.last}"
            await self._follow(port, request("GET", path))

    async def _follow(self, port: int, asked: bytes) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            writer.write(asked)
            async for told in self._told(reader):
                self._add(told)
        finally:
            writer.close()

    async def _told(self, reader: asyncio.StreamReader) -> AsyncIterator[dict]:
        if not (status := await reader.readline()):
            return  # it died before it answered
        if b" 200 " not in status:
            self.error = json.loads((await reader.read()).partition(b"\r\n\r\n")[2])["error"][
                "code"
            ]
            return
        while (line := await reader.readline()).endswith(b"\n"):
            if line.lower().startswith(b"x-run-id: "):
                self.run = line[10:].strip().decode()
            elif line.startswith(b"data: {"):
                yield json.loads(line[6:])
            elif line.startswith(b"data: [DONE]"):
                self.is_done = True
            if self.is_done or self.error:
                return

    def _add(self, told: dict) -> None:
        if self.api == "chat":
            self.error = told.get("error", {}).get("code", "")
            for choice in told.get("choices", ()):
                self.text += choice["delta"].get("content") or ""
            return
        number, kind = told["sequence_number"], told["type"]
        if kind == "error":
            self.error = told["code"]
            return
        assert number > self.last, f"{self.run}: event {number} behind {self.last}"
        self.last = number
        self.text += told["delta"] if kind == "response.output_text.delta" else ""
        self.is_done = kind == "response.completed"
