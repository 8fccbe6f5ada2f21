"""A stand-in for an engine: it says numbered words at a given pace, and can go on in mid-sentence.

    python -m tests.engine [--port P] [--words N] [--pace WORDS_A_SECOND] [--owner NAME]

Prints its port as JSON. It costs next to nothing per word, so that what is measured or broken is
what stands in front of it. The text of `words` words is always the same: `w0 w1 w2 …`.
"""

import argparse
import asyncio
import contextlib
import json

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"


def text_of(words: int) -> str:
    return "".join(f"w{number} " for number in range(words))


class Engine:
    """Answers chat completions; a request that ends with a part of an answer is gone on with.

    `words` and `pace` are those of requests that ask for nothing else (`max_tokens`). By `owner` a
    client tells whether it can go on.
    """

    def __init__(self, words: int, pace: float, owner: str = "llamacpp") -> None:
        self.words, self.pace, self.owner = words, pace, owner
        self.requests: list[dict] = []
        self.in_flight = 0
        self._server: asyncio.Server | None = None
        self._clients: set[asyncio.StreamWriter] = set()

    async def serve(self, port: int = 0) -> int:
        """Answer on a port, a free one by default; return it."""
        self._server = await asyncio.start_server(self._answer, "127.0.0.1", port)
        return self._server.sockets[0].getsockname()[1]

    def die(self) -> None:
        """Break every answer off, as a killed engine does."""
        assert self._server is not None
        self._server.close()
        for client in self._clients:
            client.transport.abort()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._clients.add(writer)
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while (request := await _request(reader)) is not None:
                path, body = request
                if path.endswith("/models"):
                    models = [{"id": "numbers", "object": "model", "owned_by": self.owner}]
                    _whole(writer, {"object": "list", "data": models})
                elif body.get("stream"):
                    await self._stream(writer, body)
                    break
                else:
                    _whole(writer, _completion(text_of(self.words), self.words))
                await writer.drain()
        self._clients.discard(writer)
        writer.close()

    async def _stream(self, writer: asyncio.StreamWriter, body: dict) -> None:
        self.requests.append(body)
        self.in_flight += 1
        try:
            await self._say(writer, body)
        finally:
            self.in_flight -= 1

    async def _say(self, writer: asyncio.StreamWriter, body: dict) -> None:
        words = body.get("max_tokens") or self.words
        last = body["messages"][-1]
        begin = last["content"] if last["role"] == "assistant" else ""
        rest = text_of(words)[len(begin) :]
        first = words - rest.count(" ")
        writer.write(HEAD)
        loop = asyncio.get_running_loop()
        began = loop.time()
        for number, word in enumerate(rest.split(" ")[:-1]):
            until = began + number / self.pace
            if (delay := until - loop.time()) > 0:
                await asyncio.sleep(delay)
            writer.write(_chunk({"content": f"{word} "}))
            await writer.drain()
        usage = {"prompt_tokens": 10, "completion_tokens": words - first, "total_tokens": words}
        writer.write(_chunk({}, finish="stop") + _last(usage) + b"data: [DONE]\n\n")
        await writer.drain()


async def _request(reader: asyncio.StreamReader) -> tuple[str, dict] | None:
    line = await reader.readline()
    if not line:
        return None
    path, length = line.split()[1].decode(), 0
    while (header := await reader.readline()).strip():
        name, _, value = header.decode().partition(":")
        if name.lower() == "content-length":
            length = int(value)
    return path, json.loads(await reader.readexactly(length) or b"{}") if length else {}


def _whole(writer: asyncio.StreamWriter, value: dict) -> None:
    body = json.dumps(value).encode()
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    writer.write(f"{head}\r\n\r\n".encode() + body)


def _completion(text: str, words: int) -> dict:
    message = {"role": "assistant", "content": text}
    return {
        "id": "c",
        "object": "chat.completion",
        "created": 1,
        "model": "numbers",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 10, "completion_tokens": words, "total_tokens": 10 + words},
    }


_FACTS = '"id":"c","object":"chat.completion.chunk","created":1,"model":"numbers"'


def _chunk(delta: dict, finish: str | None = None) -> bytes:
    choice = f'{{"index":0,"delta":{json.dumps(delta)},"finish_reason":{json.dumps(finish)}}}'
    return f'data: {{{_FACTS},"choices":[{choice}]}}\n\n'.encode()


def _last(usage: dict) -> bytes:
    return f'data: {{{_FACTS},"choices":[],"usage":{json.dumps(usage)}}}\n\n'.encode()


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--words", type=int, default=200)
    parser.add_argument("--pace", type=float, default=50.0)
    parser.add_argument("--owner", default="llamacpp", help="somebody: it cannot go on")
    options = parser.parse_args()
    port = await Engine(options.words, options.pace, options.owner).serve(options.port)
    print(json.dumps({"port": port}), flush=True)  # noqa: T201  a program, and it prints
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
