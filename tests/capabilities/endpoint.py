"""An OpenAI-like endpoint that counts calls outside the processes, and holds some of them back."""

import json
import threading
import urllib.parse
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, is_dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from pydantic import BaseModel

from crew import ToolCall
from tests.capabilities.capability import Body, Capability, first_text

PIECE_CHARS = 6


class Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 256


class Listening:
    """What is asked over HTTP, on threads of its own, while its block is open.

    Args:
        asked: handles the requests.
    """

    def __init__(self, asked: type[BaseHTTPRequestHandler]) -> None:
        self._over = threading.Event()
        """Set at its end, for those who hold a request back."""
        self._server = Server(("127.0.0.1", 0), asked)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._over.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/v1"


class Endpoint(Listening):
    """Answers for all capabilities; until the strike it holds back the one call of each."""

    def __init__(self, capabilities: Iterable[Capability]) -> None:
        self.capabilities = {each.name: each for each in capabilities}
        models = Counter(model for each in self.capabilities.values() for model in each.says)
        self._owners = {
            model: each
            for each in self.capabilities.values()
            for model in each.says
            if models[model] == 1
        }
        """By their own models, for texts that do not begin with a name."""
        self.calls: dict[str, Counter[str]] = {name: Counter() for name in self.capabilities}
        """How often each call came, by capability."""
        self.held: dict[str, str] = {}
        """Which call of each is held back."""
        self.strange: list[str] = []
        """What nobody was to ask."""
        self._lock = threading.Lock()
        self._is_struck = False
        super().__init__(handler(self))

    def missing(self) -> set[str]:
        """Return the capabilities that have not come to where they are struck."""
        asking = {each.name for each in self.capabilities.values() if each.struck == "ask"}
        return set(self.capabilities) - set(self.held) - asking

    def answer(self, body: Body) -> tuple[int, Body]:
        """Answer a model's request, or hold it back for good."""
        turn = sum(message["role"] == "assistant" for message in body["messages"])
        name = body["model"]
        owner = self._named(first_text(body)) or self._owners.get(name)
        if owner is None:
            return self._refused(f"{name} {turn}: {_last_text(body)}")
        self._count(owner, f"{name} {turn}: {_last_text(body)}", _digest(body))
        script = owner.says.get(name, _echo)
        said = script if callable(script) else _scripted(script, turn)
        said = said(body) if callable(said) else said
        if said is None:
            return self._refused(f"{owner.name} has no words: {name} {turn}: {_last_text(body)}")
        if isinstance(said, int):
            return said, {"error": {"message": f"{name} fails", "type": "fails"}}
        return 200, completion(body, said)

    def fetch(self, name: str) -> tuple[int, str]:
        """Answer with a page, or hold it back for good."""
        owner = self._named(name)
        if owner is None:
            return self._refused(f"page {name}")[0], ""
        self._count(owner, "page", f"page {name}")
        return 200, f"the page {name}"

    def _named(self, text: str) -> Capability | None:
        return self.capabilities.get(text.partition(":")[0])

    def _refused(self, what: str) -> tuple[int, Body]:
        self.strange.append(what)
        return 400, {"error": {"message": f"nobody asks this: {what}", "type": "strange"}}

    def _count(self, owner: Capability, label: str, call: str) -> None:
        with self._lock:
            self.calls[owner.name][call] += 1
            if self._is_struck or not label.startswith(owner.struck):
                return
            self.held[owner.name] = call
        self._over.wait()

    def strike(self) -> None:
        """Hold nothing back from now on; what is held has no answer."""
        self._is_struck = True

    def count(self, name: str) -> tuple[int, dict[str, int]]:
        """Return how many calls a capability made, and which of them more than once."""
        calls = self.calls[name]
        return len(calls), {call: times for call, times in calls.items() if times > 1}


def _digest(body: Body) -> str:
    return json.dumps([body["model"], body["messages"]], sort_keys=True)


def _echo(body: Body) -> str:
    return _last_text(body).rpartition(": ")[2] + "!"


def _scripted(script: Any, turn: int) -> Any:
    if isinstance(script, Mapping):
        return script.get(turn)
    return script[turn] if turn < len(script) else None


def _text(content: Any) -> str:
    if isinstance(content, list):
        return " ".join(part.get("text", f"<{part['type']}>") for part in content)
    return content or ""


def _last_text(body: Body) -> str:
    return _text(body["messages"][-1]["content"])


def completion(body: Body, said: Any) -> Body:
    turn = len(body["messages"])
    wished = said if isinstance(said, list) else [said]
    calls = [
        {
            "id": f"call_{turn}_{place}",
            "type": "function",
            "function": {"name": each.name, "arguments": json.dumps(each.arguments)},
        }
        for place, each in enumerate(wished)
        if isinstance(each, ToolCall)
    ]
    message: Body = {"role": "assistant", "content": None if calls else _words(said)}
    if calls:
        message["tool_calls"] = calls
    reason = "tool_calls" if calls else "stop"
    return {
        "id": "c1",
        "object": "chat.completion",
        "created": 1,
        "model": body["model"],
        "choices": [{"index": 0, "message": message, "finish_reason": reason}],
        "usage": {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15},
    }


def _words(said: Any) -> str:
    if isinstance(said, BaseModel):
        return said.model_dump_json()
    if is_dataclass(said) and not isinstance(said, type):
        return json.dumps(asdict(said))
    return said if isinstance(said, str) else json.dumps(said)


def _chunks(whole: Body) -> Iterator[Body]:
    choice, facts = whole["choices"][0], {**whole, "object": "chat.completion.chunk"}
    message, usage = choice["message"], facts.pop("usage")
    text = message["content"] or ""
    deltas: list[Body] = [
        {"content": text[start : start + PIECE_CHARS]} for start in range(0, len(text), PIECE_CHARS)
    ]
    for place, call in enumerate(message.get("tool_calls", ())):
        deltas.append({"tool_calls": [{"index": place, **call}]})
    for delta in deltas:
        yield {**facts, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]}
    end = {"index": 0, "delta": {}, "finish_reason": choice["finish_reason"]}
    yield {**facts, "choices": [end], "usage": usage}


def handler(endpoint: Endpoint) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            status, value = endpoint.answer(body)
            if status == 200 and body.get("stream"):
                events = [json.dumps(chunk) for chunk in _chunks(value)]
                text = "".join(f"data: {event}\n\n" for event in [*events, "[DONE]"])
                self._send(status, text, "text/event-stream")
            else:
                self._send(status, json.dumps(value), "application/json")

        def do_GET(self) -> None:
            _, found, name = self.path.partition("/pages/")
            if found:
                self._send(*endpoint.fetch(urllib.parse.unquote(name)), "text/plain")
            else:
                listed = {"object": "list", "data": [{"id": "all", "object": "model"}]}
                self._send(200, json.dumps(listed), "application/json")

        def _send(self, status: int, text: str, kind: str) -> None:
            content = text.encode()
            try:
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)
            except (BrokenPipeError, ConnectionResetError):
                self.close_connection = True  # its client was killed

        def log_message(self, *arguments: object) -> None:
            """Nobody reads it."""

    return Handler
