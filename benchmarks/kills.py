"""What kills cost: tokens that are billed again, and work that is done later.

    make bench BENCH=kills

Fifty research-shaped runs (ten model calls each) against a counting endpoint, by processes of which
five are killed with SIGKILL at random moments: requests over those of an undisturbed pass. Then
sixty-four runs at once, whose process is killed every thirty seconds: calls a second over those of
an undisturbed pass of the same length.
"""

import json
import random
import subprocess
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import race

RUNS, CALLS_A_RUN, KILLS = 50, 10, 5
SECONDS = 0.04
MANY, EVERY, LENGTH = 64, 30.0, 62.0
REPLY = "An answer of about ten tokens, the same every time."


class Server(ThreadingHTTPServer):
    request_queue_size = 256

    def handle_error(self, request, client_address) -> None:
        """Say nothing: whoever asked was killed."""


class Endpoint:
    """Answers every request the same after a moment, and counts them."""

    def __init__(self, seconds: float) -> None:
        self.count = self.in_flight = 0
        lock = threading.Lock()
        endpoint = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                with lock:
                    endpoint.count += 1
                    endpoint.in_flight += 1
                time.sleep(seconds)
                with lock:
                    endpoint.in_flight -= 1
                message = {"role": "assistant", "content": REPLY}
                usage = {"prompt_tokens": 20, "completion_tokens": 10, "total_tokens": 30}
                choice = {"index": 0, "message": message, "finish_reason": "stop"}
                body = json.dumps(
                    {"id": "c", "object": "chat.completion", "created": 1, "model": "m"}
                    | {"choices": [choice], "usage": usage}
                ).encode()
                try:
                    self.send_response(200)
                    self.send_header("Content-Type", "application/json")
                    self.send_header("Content-Length", str(len(body)))
                    self.end_headers()
                    self.wfile.write(body)
                except OSError:
                    self.close_connection = True  # whoever asked was killed

            def log_message(self, *arguments: object) -> None:
                """Say nothing."""

        self._server = Server(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def start(file: str, options: race.Options, *arguments: object) -> subprocess.Popen[str]:
    folder, *rest = map(str, arguments)
    command = race.Program(file, tuple(rest)).command(options, folder)
    return subprocess.Popen(
        command,
        env=race.environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def billed(file: str, options: race.Options, seed: int) -> dict[str, float]:
    """Kill processes at random moments of fifty runs; return the requests over those needed."""
    chance, endpoint = random.Random(seed), Endpoint(SECONDS)
    places = sorted(chance.sample(range(5, RUNS * CALLS_A_RUN), KILLS))
    with tempfile.TemporaryDirectory() as folder:
        process = start(file, options, folder, endpoint.url, RUNS, 1)
        for place in places:
            while endpoint.count < place and process.poll() is None:
                time.sleep(0.002)
            time.sleep(chance.uniform(0, 2 * SECONDS))
            process.kill()
            process.wait()
            process = start(file, options, folder, endpoint.url, RUNS, 1)
        _, errors = process.communicate(timeout=300)
        if process.returncode:
            raise RuntimeError(f"{file} failed:\n{errors[-2000:]}")
    endpoint.close()
    return {
        "ratio": endpoint.count / (RUNS * CALLS_A_RUN),
        "extra": endpoint.count - RUNS * CALLS_A_RUN,
    }


def pace(options: race.Options, *, kills: bool) -> float:
    """Return the model calls a second of 64 runs at once, for about a minute."""
    endpoint = Endpoint(0.5)
    with tempfile.TemporaryDirectory() as folder:
        arguments = (folder, endpoint.url, 100_000, MANY)
        process = start("ours/research_kills.py", options, *arguments)
        while endpoint.count < MANY:
            time.sleep(0.01)
        began, first, killed = time.monotonic(), endpoint.count, time.monotonic()
        again = 0
        while time.monotonic() - began < LENGTH:
            time.sleep(0.05)
            if kills and time.monotonic() - killed > EVERY:
                killed = time.monotonic()
                again += endpoint.in_flight
                process.kill()
                process.wait()
                process = start("ours/research_kills.py", options, *arguments)
        # What is asked twice is no progress: the calls in flight at each kill.
        rate = (endpoint.count - first - again) / (time.monotonic() - began)
        process.kill()
        process.wait()
    endpoint.close()
    return rate


def rows(options: race.Options) -> list[race.Row]:
    ours = [billed("ours/research_kills.py", options, seed) for seed in range(options.rounds)]
    theirs = [billed("peers/langgraph_kills.py", options, seed) for seed in range(options.rounds)]
    ratios = [figure["ratio"] for figure in ours]
    again = [figure["extra"] for figure in ours]
    undisturbed, disturbed = pace(options, kills=False), pace(options, kills=True)
    return [
        race.bound("tokens billed, 50 runs with 5 kills / undisturbed", "x", ratios, 1.02),
        race.times(
            "tokens billed, 50 runs with 5 kills / undisturbed",
            "x",
            ratios,
            "LangGraph sync",
            [figure["ratio"] for figure in theirs],
        ),
        # Two are in flight at most; one that was answered and not yet recorded is in flight too.
        race.bound("calls billed again, by 5 kills", "calls", again, 2 * KILLS),
        race.Row(
            "goodput, 64 runs, killed every 30 s / undisturbed",
            [disturbed / undisturbed],
            "x",
            wanted=">= 0.9",
            reached=disturbed / undisturbed >= 0.9,
        ),
    ]


if __name__ == "__main__":
    race.main(__doc__ or "", rows)
