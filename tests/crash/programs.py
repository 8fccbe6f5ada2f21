"""An engine and an endpoint in front of it, each a process that is killed and comes back."""

import asyncio
import json
import os
import socket
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Self

ROOT = Path(__file__).parents[2]


class Program:
    """A program on one port, which it says as JSON; started again, it is there again."""

    def __init__(self, folder: Path, *command: str, **settings: str) -> None:
        self.port = free_port()
        self._command = [sys.executable, "-m", *command, "--port", str(self.port)]
        self._settings = settings
        self._errors = folder / "errors.txt"
        self._process: Process | None = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.kill()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def errors(self) -> str:
        return self._errors.read_text()

    async def start(self) -> None:
        with self._errors.open("a") as errors:
            self._process = await asyncio.create_subprocess_exec(
                *self._command,
                cwd=ROOT,
                env=os.environ | self._settings,
                stdout=PIPE,
                stderr=errors,
            )
        assert self._process.stdout is not None
        async with asyncio.timeout(60):
            json.loads(await self._process.stdout.readuntil(b"}"))

    async def kill(self) -> None:
        """End it as `kill -9` does."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.communicate()

    async def stop(self, seconds: float) -> int:
        """End it as SIGTERM does; return its exit code."""
        assert self._process is not None
        self._process.terminate()
        async with asyncio.timeout(seconds):
            return await self._process.wait()


@asynccontextmanager
async def serving(
    folder: Path, store: str, *engine_words: str, **settings: str
) -> AsyncIterator[tuple[Program, Program]]:
    """An engine, and `crew serve chat` in front of it."""
    engine = Program(folder, "tests.engine", *engine_words)
    async with engine, endpoint(folder, store, engine, **settings) as server:
        yield engine, server


def endpoint(folder: Path, store: str, engine: Program, **settings: str) -> Program:
    """`crew serve chat` in front of an engine, not started yet."""
    facts = {"CREW_BASE_URL": engine.url, "CREW_MODEL": "numbers", "CREW_LEASE": "1"}
    command = ("serving.cli", "serve", "chat", "--json", "--store", store)
    return Program(folder, *command, **(facts | settings))


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]
