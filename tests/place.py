"""A folder in which commands of one test run, and how its store is looked at from outside."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from crew.config import Settings
from crew.journal.opening import open_store
from crew.run import Runtime
from tests.endpoint import QUESTION, Endpoint

CREW = Path(sys.executable).with_name("crew")


class Place:
    """Where commands of one test run, and how its store is looked at from outside."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = f"sqlite:///{folder}/runs.db"
        self.commands: list[subprocess.Popen] = []

    def crew(self, *words: str, endpoint: Endpoint, **settings: str) -> subprocess.Popen:
        environment = {
            **os.environ,
            "CREW_BASE_URL": endpoint.url,
            "CREW_MODEL": "counting",
            "CREW_STORE": self.store,
            **settings,
        }
        with (self.folder / "stderr.txt").open("a") as errors:
            command = subprocess.Popen(
                [CREW, *words],
                cwd=self.folder,
                env=environment,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
        self.commands.append(command)
        return command

    def ask(self, endpoint: Endpoint, **settings: str) -> subprocess.Popen:
        return self.crew("ask", QUESTION, "--docs", "pages", endpoint=endpoint, **settings)

    def end(self) -> None:
        for command in self.commands:
            if command.poll() is None:
                command.kill()
            command.wait()
            command.stdout.close()

    def errors(self) -> str:
        return (self.folder / "stderr.txt").read_text()

    def events(self) -> list[dict]:
        """The events of the one run, as plain SQL would show them."""
        store = open_store(self.store)
        try:
            (row,) = store.runs()
            return [
                {"kind": event.kind, "path": event.path, "data": json.loads(event.body)}
                for event in store.events(row.number)
            ]
        finally:
            store.close()

    def wait_for_event(self, kind: str, path: str = "", seconds: float = 60) -> dict:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            for event in self.events():
                if event["kind"] == kind and path in event["path"]:
                    return event
            time.sleep(0.05)
        raise AssertionError(f"no {kind} at {path!r}: {self.errors()}")

    def wait_for_end(self, seconds: float = 60) -> dict:
        event = self.wait_for_event("run.completed", seconds=seconds)
        return event["data"]

    async def recorded(self):
        settings = Settings(store=self.store)
        async with Runtime(settings=settings, worker=False) as runtime:
            (run,) = await runtime.runs()
            return await run.recorded()


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
