"""llama.cpp in this process: OpenAI-shaped bodies in, completions and chunks out."""

import asyncio
import json
import os
import secrets
import threading
import time
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from crew.errors import ExtraMissing, ModelError
from crew.llm.assembly import Assembly
from crew.llm.prefix_gate import PrefixGate, Ticket
from crew.llm.wire import prompt_text
from crew.message import Json

__all__ = ["Engine", "require_engine", "usable_cores"]

# A prompt is read in pieces of this many tokens, and a request can only be stopped between two:
# a quarter of a second on slow cores. Reading in larger pieces was not faster on a CPU.
READ_TOKENS = 64
CONTEXT_TOKENS = 4096
"""Those of one request and its answer, where nobody says more."""

# Chat templates put a system prompt of their own in where there is none, and the small default
# model raves under its template's one.
SYSTEM: dict[str, Json] = {
    "role": "system",
    "content": "You are a helpful assistant. Answer briefly.",
}


class Engine:
    """One loaded model with `slots` requests at once, each of up to `context_tokens` tokens.

    A conversation without a system message gets a short plain one. Making an engine does nothing;
    the first request loads the file (0.5 to 2 s for a small model).
    May be used from several event loops and threads at once.

    Args:
        path: a GGUF file.
        name: the model id that replies carry; default: the file's stem.
        slots: requests computed at the same time; more wait, oldest first.
        context_tokens: prompt and answer of one request together.
        threads: default: one less than the cores, since a spinning engine on every core starves
            the event loop that feeds it.
    """

    def __init__(
        self,
        path: Path,
        *,
        name: str = "",
        slots: int = 4,
        context_tokens: int = CONTEXT_TOKENS,
        threads: int = 0,
    ) -> None:
        self.path = path
        self.name = name or path.stem
        self.slots = slots
        self.context_tokens = context_tokens
        self.threads = threads or max(1, usable_cores() - 1)
        self._gate = PrefixGate(slots)
        self._pool = ThreadPoolExecutor(slots, thread_name_prefix="llamacpp")
        self._loading = threading.Lock()
        self._server: Any = None
        self._closed = threading.Event()

    async def load(self) -> None:
        """Load the file now rather than at the first request.

        Raises:
            ExtraMissing: xllamacpp is not installed.
            ModelError: the file cannot be loaded, or the engine was closed.
        """
        self._check_open()
        if self._server is None:
            await asyncio.to_thread(self._load)

    async def chat(self, body: dict[str, Json]) -> dict[str, Json]:
        """Answer the body of a POST /chat/completions with a whole completion.

        Cancelling the awaiting task stops the computation within about one piece of the prompt
        or one token.

        Raises:
            ModelError: as `stream`.
        """
        assembly = Assembly()
        options = {"stream": True, "stream_options": {"include_usage": True}}
        async with aclosing(self.stream({**body, **options})) as chunks:
            async for chunk in chunks:
                assembly.add(chunk)
        return assembly.completion()

    async def stream(self, body: dict[str, Json]) -> AsyncGenerator[dict[str, Json]]:
        """Answer the same with its chunks as they are computed.

        The chunk with the usage (its `choices` are empty) comes last, if
        `stream_options.include_usage` asks for it. Closing the generator stops the computation.

        Raises:
            ModelError: the request does not fit the context, its schema or its messages cannot
                be used (status 400; nothing was yielded then), or the engine failed or was closed
                (500).
        """
        await self.load()
        body = _with_system(body)
        ticket = await self._enter(prompt_text(body))
        flight = _Flight(asyncio.get_running_loop())
        self._start(body, ticket, flight)
        wants_usage = bool((body.get("stream_options") or {}).get("include_usage"))
        try:
            while (chunk := await flight.arrived.get()) is not None:
                if "error" in chunk:
                    raise self._error(chunk["error"])
                if chunk.get("choices") or wants_usage:
                    yield chunk
        finally:
            flight.stopped.set()

    async def close(self) -> None:
        """Stop what is computed and free the model. Safe to call twice."""
        self._closed.set()
        await asyncio.to_thread(self._pool.shutdown, wait=True)
        self._server = None

    def _check_open(self) -> None:
        if self._closed.is_set():
            raise ModelError(message=f"the engine for {self.path.name} was closed; make a new one")

    def _load(self) -> None:
        with self._loading:
            if self._server is None:
                self._server = _load_server(self)

    async def _enter(self, text: str) -> Ticket:
        loop, woken = asyncio.get_running_loop(), asyncio.Event()
        ticket = self._gate.ask(
            text, now=time.monotonic(), wake=lambda: _call_soon(loop, woken.set)
        )
        try:
            while ticket.slot < 0:
                woken.clear()
                await _wait(woken, until=self._gate.deadline(ticket))
                self._gate.admit(now=time.monotonic())
        except asyncio.CancelledError:
            self._gate.leave(ticket, now=time.monotonic())
            raise
        return ticket

    def _start(self, body: dict[str, Json], ticket: Ticket, flight: "_Flight") -> None:
        """Begin computing in a thread, which gives the ticket back however it ends."""
        request = {
            **body,
            "id_slot": ticket.slot,
            "cache_prompt": True,
            "stream": True,
            "stream_options": {"include_usage": True},
            "return_progress": True,
        }
        try:
            self._pool.submit(self._compute, json.dumps(request), ticket, flight)
        except RuntimeError:
            self._gate.leave(ticket, now=time.monotonic())
            self._check_open()
            raise

    def _compute(self, request: str, ticket: Ticket, flight: "_Flight") -> None:
        def take(text: str) -> bool:
            if self._closed.is_set() or flight.stopped.is_set():
                return True
            chunk = json.loads(text)
            if "prompt_progress" not in chunk:
                self._gate.answering(ticket, now=time.monotonic())
                return not flight.put(chunk)
            return False

        try:
            self._server.handle_chat_completions(request, take)
        except (ValueError, RuntimeError) as error:
            status = 400 if isinstance(error, ValueError) else 500
            flight.put({"error": {"code": status, "message": str(error)}})
        finally:
            self._gate.leave(ticket, now=time.monotonic())
            if self._closed.is_set():
                flight.put({"error": {"code": 500, "message": "the engine was closed"}})
            flight.put(None)

    def _error(self, error: dict[str, Json]) -> ModelError:
        cause = str(error.get("message"))
        if error.get("type") == "exceed_context_size_error":
            cause = (
                f"the request is {error.get('n_prompt_tokens')} tokens long and one request may "
                f"have {error.get('n_ctx')} here; shorten the thread, the documents or the "
                "instructions, or set CREW_BASE_URL to a model with a longer context"
            )
        elif "schema" in cause.lower():
            cause = f"the output's JSON schema cannot be used as a grammar: {_last_line(cause)}"
        return ModelError(
            message=f"{self.name}: {cause}", endpoint="embedded", status=error.get("code")
        )


def require_engine() -> Any:
    """Import the compiled engine, which has no types.

    Raises:
        ExtraMissing: it is not installed.
    """
    try:
        import xllamacpp
    except ImportError as error:
        raise ExtraMissing(message="the embedded model", extra="embedded") from error
    return xllamacpp


def usable_cores(quota: Path = Path("/sys/fs/cgroup/cpu.max")) -> int:
    """Count the cores this process may use, also where a container may use few of many.

    Source: `cpu.max` holds microseconds per period, or "max"; kernel, "Control Group v2".
    """
    cores = os.cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    if quota.is_file():
        allowed, period = quota.read_text(encoding="ascii").split()
        cores = cores if allowed == "max" else min(cores, -(-int(allowed) // int(period)))
    return cores


@dataclass(eq=False, slots=True)
class _Flight:
    """The way of one request's chunks from the engine's thread to the loop that waits."""

    loop: asyncio.AbstractEventLoop
    arrived: asyncio.Queue[dict[str, Json] | None] = field(default_factory=asyncio.Queue)
    stopped: threading.Event = field(default_factory=threading.Event)

    def put(self, chunk: dict[str, Json] | None) -> bool:
        """Pass a chunk on; False when nobody is there any more."""
        return _call_soon(self.loop, self.arrived.put_nowait, chunk)


def _call_soon(loop: asyncio.AbstractEventLoop, act: Callable[..., None], *values: Any) -> bool:
    """Run `act` soon in another thread's loop; False when that loop was closed."""
    try:
        loop.call_soon_threadsafe(act, *values)
    except RuntimeError:
        return False
    return True


def _with_system(body: dict[str, Json]) -> dict[str, Json]:
    messages = body.get("messages")
    if not isinstance(messages, list) or any(_role(m) == "system" for m in messages):
        return body
    return {**body, "messages": [SYSTEM, *messages]}


def _role(message: Json) -> Json:
    return message.get("role") if isinstance(message, dict) else None


async def _wait(event: asyncio.Event, *, until: float | None) -> None:
    """Wait for the event, or until `time.monotonic()` says so."""
    try:
        async with asyncio.timeout(None if until is None else until - time.monotonic()):
            await event.wait()
    except TimeoutError:
        return


def _last_line(text: str) -> str:
    return text.strip().rsplit("Automatic parser generation failed: ", 1)[-1].splitlines()[-1]


def _load_server(engine: Engine) -> Any:
    xllamacpp = require_engine()
    params = xllamacpp.CommonParams()
    params.model.path = str(engine.path)
    params.model_alias = {engine.name}
    params.n_parallel, params.n_ctx = engine.slots, engine.slots * engine.context_tokens
    params.n_batch = params.n_ubatch = READ_TOKENS
    for cores in (params.cpuparams, params.cpuparams_batch):
        cores.n_threads, cores.poll = engine.threads, 0
    params.warmup, params.verbosity, params.ui, params.endpoint_slots = False, 0, False, False
    # The gate says which slot holds what; a second cache in memory would only grow.
    params.cache_ram_mib, params.cache_idle_slots = 0, False
    # The library always listens on a port of this machine. Nobody gets a key for it.
    params.api_keys = [secrets.token_urlsafe(32)]
    try:
        return xllamacpp.Server(params)
    except (RuntimeError, ValueError) as error:
        raise ModelError(
            message=f"llama.cpp cannot load {engine.path}: {error}; is it a whole GGUF file of a "
            "kind this version knows? Delete it to have a default fetched again",
            endpoint="embedded",
        ) from error
