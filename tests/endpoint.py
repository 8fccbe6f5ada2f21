"""An OpenAI-compatible server that counts what was asked, in flight, and repeated."""

import json
import threading
import time
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SENTENCE = "An idle Ray actor uses about 47 MB of memory."
PAGE = f"# Actors\n\n## Memory\n\n{SENTENCE} A hundred of them need about 5 GB.\n"
QUESTION = "How many idle Ray actors of 47 MB fit into 8 GB of memory?"
NUMBER = "170"


class Endpoint:
    """Answers the research team by the schema each agent asks for, after `delay` seconds."""

    def __init__(self, delay: float = 0.3) -> None:
        self.delay = delay
        self.requests: list[str] = []
        self.in_flight = 0
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def __enter__(self) -> "Endpoint":
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/v1"

    @property
    def repeated(self) -> int:
        """How many requests came that had come before."""
        return len(self.requests) - len(set(self.requests))

    def wait_for(self, count: int, seconds: float = 60) -> int:
        """Wait until so many requests came, and return how many are in flight then."""
        deadline = time.monotonic() + seconds
        while len(self.requests) < count:
            assert time.monotonic() < deadline, f"only {len(self.requests)} requests came"
            time.sleep(0.01)
        return self.in_flight

    def answer(self, body: dict) -> tuple[int, dict]:
        with self._lock:
            self.requests.append(json.dumps(body["messages"], sort_keys=True))
            self.in_flight += 1
        try:
            time.sleep(self.delay)
            return self.complete(body)
        finally:
            with self._lock:
                self.in_flight -= 1

    def complete(self, body: dict) -> tuple[int, dict]:
        return 200, _completion(body)


def _completion(body: dict) -> dict:
    message = {"role": "assistant", "content": json.dumps(_reply(body))}
    return {
        "id": "c1",
        "object": "chat.completion",
        "created": 1,
        "model": "counting",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15},
    }


def _reply(body: dict) -> dict:
    properties = body["response_format"]["json_schema"]["schema"]["properties"]
    if "searches" in properties:
        searches = ["memory of an idle Ray actor", "a hundred Ray actors"]
        return {"question": QUESTION, "searches": searches, "calculation": QUESTION}
    if "sentences" in properties:
        return {"sentences": [1]}
    if "code" in properties:
        return {"code": "print(8 * 1000 // 47)", "unit": "actors"}
    return {"claims": []}


def _handler(endpoint: Endpoint) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            self._send(*endpoint.answer(body))

        def do_GET(self) -> None:
            self._send(200, {"object": "list", "data": [{"id": "counting", "object": "model"}]})

        def _send(self, status: int, value: dict) -> None:
            content = json.dumps(value).encode()
            try:
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)
            except (BrokenPipeError, ConnectionResetError):
                self.close_connection = True  # its client was killed

        def log_message(self, *arguments: object) -> None:
            """Nobody reads it."""

    return Handler


class CountingProxy(Endpoint):
    """Counts what goes to another OpenAI-compatible server, and passes it on."""

    def __init__(self, url: str) -> None:
        super().__init__(delay=0.0)
        self._upstream = url

    def complete(self, body: dict) -> tuple[int, dict]:
        request = urllib.request.Request(
            f"{self._upstream}/chat/completions",
            data=json.dumps(body).encode(),
            headers={"Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=120) as response:
                return response.status, json.load(response)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, {"error": {"message": error.read().decode(), "type": "upstream"}}
        except OSError as error:
            return 502, {"error": {"message": str(error), "type": "upstream"}}
