"""The endpoint beside relays without a journal: CPU a token, the first one, and many streams.

An engine that costs next to nothing says words at a given pace (`tests/engine.py`); what stands in
front of it is a process tree of its own, whose CPU is counted. Each answer is checked word by word.

    make bench BENCH=endpoint
"""

import asyncio
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import race

STREAMS, PACE, WORDS = 32, 50.0, 400
FEW = 5
MANY, MANY_PACE, MANY_WORDS = 128, 20.0, 200
PLAIN = ("crew", "bytes", "objects", "LiteLLM")
ON_SERVE = ("crew on Serve", "bytes on Serve")
_TICK = 1.0 / 100


def rows(options: race.Options) -> list[race.Row]:
    names = [*PLAIN, *ON_SERVE]
    cpu: dict[str, list[float]] = {name: [] for name in names}
    first: dict[str, list[float]] = {name: [] for name in (*PLAIN, "engine")}
    rate: dict[str, list[float]] = {name: [] for name in ("crew", "bytes", "LiteLLM")}
    for _ in range(options.rounds):
        for name in names:
            with program(WORDS, PACE) as engine, front(name, engine, options) as (port, pid):
                cpu[name].append(asyncio.run(tokens_cost(port, pid, name)))
        for name in (*PLAIN, "engine"):
            with program(FEW, PACE) as engine, front(name, engine, options) as (port, _):
                first[name].append(asyncio.run(first_token(port, name)))
        for name in rate:
            with (
                program(MANY_WORDS, MANY_PACE) as engine,
                front(name, engine, options) as (port, _),
            ):
                rate[name].append(asyncio.run(offered_rate(port, name)))
    return _shown(cpu, first, rate)


def _shown(cpu, first, rate) -> list[race.Row]:
    floor = statistics.median(cpu["bytes"])
    ratio = statistics.median(cpu["crew"]) / floor
    on_serve = statistics.median(cpu["crew on Serve"]) / statistics.median(cpu["bytes on Serve"])
    added = [
        1e3 * (ours - engine) for ours, engine in zip(first["crew"], first["engine"], strict=True)
    ]
    work = f"CPU a token, {STREAMS} streams"
    return [
        race.times(work, "us", cpu["crew"], "FastAPI, bytes", cpu["bytes"]),
        race.Row(f"{work}, journalled / bytes", [ratio], "x", "", (), "<= 1.5", ratio <= 1.5),
        race.times(work, "us", cpu["crew"], "FastAPI, openai client", cpu["objects"]),
        race.times(work, "us", cpu["crew"], "LiteLLM's proxy", cpu["LiteLLM"]),
        race.times(
            f"{work}, on Serve", "us", cpu["crew on Serve"], "Serve, bytes", cpu["bytes on Serve"]
        ),
        race.Row(f"{work}, on Serve / bare", [on_serve], "x", "", (), "<= 1", on_serve <= 1),
        race.bound("time to the first token, added", "ms", added, 5),
        *(
            race.times(
                "time to the first token",
                "ms",
                [1e3 * seconds for seconds in first["crew"]],
                peer,
                [1e3 * seconds for seconds in first[name]],
            )
            for peer, name in (("FastAPI, bytes", "bytes"), ("LiteLLM's proxy", "LiteLLM"))
        ),
        race.Row(
            f"{MANY} streams of {MANY_PACE:.0f} tokens/s: achieved / offered",
            rate["crew"],
            "x",
            "FastAPI, bytes",
            rate["bytes"],
            ">= 0.95",
            statistics.median(rate["crew"]) >= 0.95,
        ),
        race.Row(
            f"{MANY} streams of {MANY_PACE:.0f} tokens/s: achieved / offered",
            rate["crew"],
            "x",
            "LiteLLM's proxy",
            rate["LiteLLM"],
        ),
    ]


@contextmanager
def program(words: int, pace: float) -> Iterator[int]:
    """Start the engine; give its port."""
    command = [sys.executable, "-m", "tests.engine", "--words", str(words), "--pace", str(pace)]
    with _started(command) as (facts, _):
        yield facts["port"]


@contextmanager
def front(name: str, engine: int, options: race.Options) -> Iterator[tuple[int, int]]:
    """Start what stands in front of the engine; give its port and its process."""
    if name == "engine":
        yield engine, os.getpid()
        return
    url = f"http://127.0.0.1:{engine}/v1"
    with tempfile.TemporaryDirectory() as folder:
        place = race.FOLDER / "endpoints"
        commands = {
            "bytes": [sys.executable, str(place / "relay.py"), "bytes", url],
            "objects": [sys.executable, str(place / "relay.py"), "objects", url],
            "bytes on Serve": [sys.executable, str(place / "on_serve.py"), "bare", url, folder],
            "crew on Serve": [sys.executable, str(place / "on_serve.py"), "crew", url, folder],
            "LiteLLM": [options.peer_python, str(place / "litellm_proxy.py"), url, folder],
            "crew": [
                *(sys.executable, "-m", "serving.cli", "serve", "chat", "--port", "0", "--json"),
                *("--store", f"sqlite:///{folder}/runs.db"),
            ],
        }
        with _started(commands[name], CREW_BASE_URL=url, CREW_MODEL="numbers") as (facts, pid):
            port = facts.get("port") or int(facts["url"].rsplit(":", 1)[1].split("/")[0])
            yield port, pid


@contextmanager
def _started(command: list[str], **more: str) -> Iterator[tuple[dict, int]]:
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=race.environment() | more,
        cwd=race.FOLDER.parent,
    ) as process:
        try:
            assert process.stdout is not None
            yield _first_json(process.stdout), process.pid
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()


def _first_json(lines) -> dict:
    """Return the first JSON object that a program prints; Ray prints other lines before."""
    text = ""
    for line in lines:
        text += line if text or line.startswith("{") else ""
        with contextlib.suppress(ValueError):
            return json.loads(text)
    raise RuntimeError("the program ended before it said where it listens")


async def tokens_cost(port: int, pid: int, name: str) -> float:
    """Return the microseconds of CPU that a token costs, at 32 streams."""
    await stream(port, name, WORDS)  # imports, connections
    before = cpu_seconds(pid)
    await asyncio.gather(*(stream(port, name, WORDS) for _ in range(STREAMS)))
    return 1e6 * (cpu_seconds(pid) - before) / (STREAMS * WORDS)


async def first_token(port: int, name: str) -> float:
    """Return the median seconds to the first word, one stream at a time."""
    await stream(port, name, FEW)
    return statistics.median([(await stream(port, name, FEW))[0] for _ in range(30)])


async def offered_rate(port: int, name: str) -> float:
    await stream(port, name, MANY_WORDS)
    began = time.monotonic()
    await asyncio.gather(*(stream(port, name, MANY_WORDS) for _ in range(MANY)))
    return (MANY_WORDS / MANY_PACE) / (time.monotonic() - began)


async def stream(port: int, name: str, words: int) -> tuple[float, int]:
    """Read one answer; return the seconds to its first word, and how many words came.

    Raises:
        RuntimeError: a word is missing, or came twice.
    """
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    model = "chat" if "crew" in name else "numbers"
    asked = {"model": model, "stream": True, "messages": [{"role": "user", "content": "count"}]}
    body = json.dumps(asked).encode()
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    began, first, text = time.perf_counter(), 0.0, ""
    writer.write(head.encode() + body)
    while (line := await reader.readline()) and line != b"data: [DONE]\n":
        if not line.startswith(b"data: {"):
            continue
        choices = json.loads(line[6:])["choices"]
        if choices and (piece := choices[0]["delta"].get("content")):
            first = first or time.perf_counter() - began
            text += piece
    writer.close()
    expected = "".join(f"w{number} " for number in range(words))
    if text != expected:
        raise RuntimeError(f"{name}: {len(text)} of {len(expected)} characters came, or others")
    return first, text.count(" ")


def cpu_seconds(pid: int) -> float:
    """Return the CPU that a process and everything it started used so far."""
    parents: dict[int, list[int]] = {}
    used: dict[int, float] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            text = stat.read_text()
        except OSError:
            continue
        values = text.rpartition(")")[2].split()
        number = int(stat.parent.name)
        parents.setdefault(int(values[1]), []).append(number)
        used[number] = (int(values[11]) + int(values[12])) * _TICK
    family, left = set[int](), [pid]
    while left:
        family.add(member := left.pop())
        left += parents.get(member, [])
    return sum(used.get(member, 0.0) for member in family)


if __name__ == "__main__":
    race.main(__doc__ or "", rows)
