"""The models that the examples ask: scripted by agent, counted, and held back where a test says."""

import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler
from typing import Any

from tests.capabilities.endpoint import Listening, completion, handler

Body = dict[str, Any]
Says = Callable[[Body], Any]
SECONDS = 100
"""For how long a test waits: for machines that are slow."""


class Models(Listening):
    """An OpenAI-compatible endpoint; each agent is known by how its instructions begin.

    What an agent says is a text, a value as JSON, a `ToolCall` or several, or the status of a
    failure.
    """

    def __init__(self, says: Mapping[str, Says]) -> None:
        self.calls: Counter[str] = Counter()
        """How often each call came, by its model and messages."""
        self.asked: list[str] = []
        """Who was asked, in order."""
        self.bodies: list[Body] = []
        self._says = says
        self._lock = threading.Lock()
        self._held_at = 0
        self._held = threading.Event()
        super().__init__(_in_pieces(handler(self), self))
        self.stops = False
        """Whether streams stop in their middle."""

    @property
    def repeated(self) -> list[int]:
        """How often those calls came that came more than once."""
        return [times for times in self.calls.values() if times > 1]

    def hold(self, call: int) -> None:
        """Hold back the call of this number, from 1, not counting repeats, and what comes after."""
        self._held_at = call
        self._held.clear()
        self._over.clear()

    def stop_streams(self) -> None:
        """Let each stream stop behind its second piece."""
        self.stops = True
        self._over.clear()

    def wait_until_held(self) -> None:
        assert self._held.wait(SECONDS), f"only {len(self.calls)} calls came: {self.asked}"

    def let_go(self) -> None:
        """Answer again; what was held has lost its client."""
        self._held_at, self.stops = 0, False
        self._over.set()

    def wait(self) -> None:
        self._held.set()
        self._over.wait()

    def answer(self, body: Body) -> tuple[int, Body]:
        name = next((name for name in self._says if _instructions(body).startswith(name)), None)
        if name is None:
            return 400, {"error": {"message": f"who is this? {_instructions(body)}"}}
        with self._lock:
            self.asked.append(name)
            self.bodies.append(body)
            self.calls[json.dumps([body["model"], body["messages"]], sort_keys=True)] += 1
            is_held = self._held_at and len(self.calls) >= self._held_at
        if is_held:
            self.wait()
        said = self._says[name](body)
        if isinstance(said, int):
            return said, {"error": {"message": "this model fails", "type": "fails"}}
        return 200, completion(body, said)


def last(body: Body) -> str:
    """Return the text of what was said last."""
    content = body["messages"][-1]["content"]
    return content if isinstance(content, str) else json.dumps(content)


def eventually(look: Callable[[], Any]) -> Any:
    """Return what is found once something is."""
    deadline = time.monotonic() + SECONDS
    while not (found := look()):
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.02)
    return found


def _instructions(body: Body) -> str:
    first = body["messages"][0]
    return first["content"] if first["role"] == "system" else ""


def _in_pieces(base: type[BaseHTTPRequestHandler], models: Models) -> type[BaseHTTPRequestHandler]:
    """Stop in mid-stream where the models say."""

    class Handler(base):
        protocol_version = "HTTP/1.1"  # one connection for many calls

        def _send(self, status: int, text: str, kind: str) -> None:
            if not models.stops or kind != "text/event-stream":
                super()._send(status, text, kind)
                return
            self.close_connection = True
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Connection", "close")
            self.end_headers()
            try:
                first, second, rest = text.split("\n\n", 2)
                self.wfile.write(f"{first}\n\n{second}\n\n".encode())
                models.wait()
                self.wfile.write(rest.encode())
            except OSError:
                return  # its client has left

    return Handler
