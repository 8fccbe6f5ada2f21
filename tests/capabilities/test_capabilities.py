"""Each capability, killed once in the midst of a call: on both stores, locally and on Ray."""

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from crew.journal import Store
from crew.journal.opening import open_store
from tests.capabilities.all import ALL
from tests.capabilities.endpoint import Endpoint, wait_until
from tests.hosts.journal import Calls

SECONDS = 240.0
"""What a slow machine may take until all are there, and for their ends."""
ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Batch:
    """What came of all capabilities in one configuration."""

    outcomes: dict[str, Any]
    endpoint: Endpoint
    acts: Counter[str]


class Place:
    """Where the capabilities of one configuration run."""

    def __init__(self, folder: Path, store: str, agents: str, endpoint: Endpoint) -> None:
        self._folder, self._store, self._agents = folder, store, agents
        self._outcomes = folder / "outcomes.json"
        self._endpoint = endpoint
        (folder / "acts").touch()

    def drive(self) -> subprocess.Popen[bytes]:
        facts = {
            "CAPABILITIES_URL": self._endpoint.url,
            "CAPABILITIES_FOLDER": str(self._folder),
            "CREW_BASE_URL": self._endpoint.url,
            "CREW_MODEL": "echo",
            "PYTHONPATH": str(ROOT),
        }
        command = [sys.executable, "-m", "tests.capabilities.driving"]
        with (self._folder / "errors").open("a") as errors:
            return subprocess.Popen(
                [*command, self._store, self._agents, str(self._outcomes)],
                cwd=self._folder,
                env=os.environ | facts,
                stderr=errors,
            )

    def told(self) -> str:
        return (self._folder / "errors").read_text()[-4000:]

    def strike(self) -> None:
        """Kill the process once each capability is at its call, and nothing else is under way."""
        process = self.drive()
        try:
            wait_until(SECONDS, lambda: not self._endpoint.missing(), lambda: f"never came: {self._endpoint.missing()} strange: {self._endpoint.strange} {self.told()}")
            wait_until(SECONDS, lambda: self.under_way() == dict.fromkeys(ALL, 1), self.under_way)
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()

    def under_way(self) -> dict[str, int]:
        """Return how many calls each capability has begun, by its journals, that have no end."""
        store = open_store(self._store)
        try:
            return under_way(store)
        finally:
            store.close()

    def finish(self) -> Batch:
        process = self.drive()
        try:
            process.wait(SECONDS)
        finally:
            process.kill()
            process.wait()
        assert self._outcomes.exists(), self.told()
        acts = (self._folder / "acts").read_text().splitlines()
        return Batch(json.loads(self._outcomes.read_text()), self._endpoint, Counter(acts))


def under_way(store: Store) -> dict[str, int]:
    found = Counter[str]()
    rows = {row.id: row for row in store.runs(limit=1000)}
    for row in rows.values():
        root = row
        while root.parent is not None:
            root = rows[root.parent]
        calls = Calls(store, row.id)
        calls.read()
        begun = [path for paths in calls.open.values() for path in paths]
        for kind in ("model", "tool", "effect", "function"):
            for path in calls.open.get(kind, {}):
                is_leaf = not any(other.startswith(f"{path}/") for other in begun)
                found[root.key or ""] += is_leaf
    return dict(found)


class Batches:
    def __init__(self, stack: ExitStack, factory: pytest.TempPathFactory, server: Any) -> None:
        self._stack, self._factory, self._server = stack, factory, server
        self._made: dict[str, Batch] = {}

    def of(self, where: str) -> Batch:
        if where not in self._made:
            self._made[where] = self._make(where)
        return self._made[where]

    def _make(self, where: str) -> Batch:
        agents, _, kind = where.partition(" ")
        folder = self._factory.mktemp("n")
        store = f"sqlite:///{folder}/runs.db" if kind == "sqlite" else self._server().new_database()
        with Endpoint(ALL.values()) as endpoint:
            place = Place(folder, store, agents, endpoint)
            place.strike()
            return place.finish()


@pytest.fixture(scope="session")
def batches(tmp_path_factory, request):
    with ExitStack() as stack:
        yield Batches(stack, tmp_path_factory, lambda: request.getfixturevalue("postgres_server"))


@pytest.mark.parametrize("where", ["local sqlite", "local postgres"])
@pytest.mark.parametrize("name", list(ALL))
def test_capability(batches, name, where):
    batch = batches.of(where)
    wanted = ALL[name]
    assert batch.outcomes[name] == wanted.outcome
    calls, again = batch.endpoint.count(name)
    held = batch.endpoint.held[name]
    assert again == ({held: 2} if wanted.again else {})
    assert calls == wanted.calls
    for line in wanted.acts:
        assert batch.acts[line] == Counter(wanted.acts)[line]
