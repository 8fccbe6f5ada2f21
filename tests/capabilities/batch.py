"""All capabilities at once, struck together: begun by one process, gone on with by the next."""

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crew.hosts.cluster import quiet_cluster
from crew.journal import Store
from crew.journal.opening import open_store
from tests.capabilities.all import ALL
from tests.capabilities.capability import BEGAN, capabilities
from tests.capabilities.endpoint import Endpoint
from tests.capabilities.models import TOML
from tests.hosts.journal import Calls
from tests.hosts.victims import Victim, end_all, hosts

SECONDS = 240.0
"""What a slow machine may take until all are at their calls, and then for their ends."""
ROOT = Path(__file__).parents[2]
_OUTSIDE = ("model", "tool", "effect", "function")
"""What calls are that reach outside a run."""


@dataclass(frozen=True)
class Batch:
    """What came of all capabilities in one configuration."""

    outcomes: dict[str, Any]
    endpoint: Endpoint
    acts: Counter[str]
    begun: Counter[str]
    """The texts of the runs that have begun to act."""
    is_on_ray: bool

    def beginnings(self, name: str) -> dict[str, int]:
        """Return how often each run of a capability has begun to act."""
        begun = self.begun.items()
        return {text: times for text, times in begun if text.partition(":")[0] == name}


def struck(folder: Path, store: str, agents: Sequence[str] = (), **settings: str) -> Batch:
    """Begin all, kill what drives them once each is at its call, and go on to the end.

    Args:
        folder: of their own.
        store: where the runs are.
        agents: whose hosts are killed, too, on Ray.
        settings: of the processes, `CREW_…`.
    """
    with Endpoint(ALL.values()) as endpoint:
        place = Place(folder, store, endpoint, settings)
        place.begin_and_strike(agents)
        return place.finish()


def on_ray(folder: Path, store: str, agents: Sequence[str] = ()) -> Batch:
    """Do the same on a cluster of its own, where hosts drive the runs, and hold the agents."""
    with quiet_cluster() as address:
        try:
            return struck(folder, store, agents, CREW_AGENTS="ray", CREW_RAY_ADDRESS=address)
        finally:
            end_all()


class Place:
    """Where the processes of one configuration work."""

    def __init__(
        self, folder: Path, store: str, endpoint: Endpoint, settings: dict[str, str]
    ) -> None:
        self._folder, self._store, self._endpoint = folder, store, endpoint
        self._is_on_ray = "CREW_RAY_ADDRESS" in settings
        self._outcomes, self._acts = folder / "outcomes.json", folder / "acts"
        self._acts.touch()
        (folder / "crew.toml").write_text(TOML.format(url=endpoint.url), encoding="utf-8")
        self._settings = settings | {
            "CAPABILITIES_URL": endpoint.url,
            "CAPABILITIES_FOLDER": str(folder),
            "CREW_BASE_URL": endpoint.url,
            "CREW_MODEL": "echo",
            "PYTHONPATH": str(ROOT),
        }

    def _drive(self, **settings: str) -> "subprocess.Popen[bytes]":
        command = [sys.executable, "-m", "tests.capabilities.driving"]
        with (self._folder / "errors").open("a") as errors:
            return subprocess.Popen(
                [*command, self._store, str(self._outcomes)],
                cwd=self._folder,
                env=os.environ | self._settings | settings,
                stderr=errors,
            )

    def begin_and_strike(self, agents: Sequence[str]) -> None:
        """Kill the processes once each capability is at its call, and nothing else under way."""
        process = self._drive(CAPABILITIES_UNANSWERED="1")
        try:
            self._wait(process, lambda: not self._endpoint.missing(), self._endpoint.missing)
            wanted = dict.fromkeys(ALL, 1)
            self._wait(process, lambda: self.under_way() == wanted, self.under_way)
            self._endpoint.strike()
            for victim in self._victims(agents) if self._is_on_ray else ():
                victim.kill()
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()

    def _victims(self, agents: Sequence[str]) -> list[Victim]:
        of_agents = [hosts("agent", f"{capabilities.name}@1:{agent}:") for agent in agents]
        return [*hosts("run"), *itertools.chain(*of_agents)]

    def _wait(
        self, process: "subprocess.Popen[bytes]", is_so: Callable[[], bool], tell: Callable[[], Any]
    ) -> None:
        until = time.monotonic() + SECONDS
        while not is_so():
            assert process.poll() is None, self.errors()
            assert time.monotonic() < until, f"{tell()}\n{self._endpoint.strange}\n{self.errors()}"
            time.sleep(0.1)

    def under_way(self) -> dict[str, int]:
        """Return how many calls of each capability have begun that have no end, by the journals."""
        store = open_store(self._store)
        try:
            return under_way(store)
        finally:
            store.close()

    def finish(self) -> Batch:
        """Have another process go on with everything."""
        process = self._drive()
        try:
            process.wait(SECONDS)
        finally:
            process.kill()
            process.wait()
        assert self._outcomes.exists(), self.errors()
        outcomes = json.loads(self._outcomes.read_text("utf-8"))
        lines = self._acts.read_text("utf-8").splitlines()
        acts = Counter(line for line in lines if not line.startswith(BEGAN))
        begun = Counter(line.removeprefix(BEGAN) for line in lines if line.startswith(BEGAN))
        return Batch(outcomes, self._endpoint, acts, begun, self._is_on_ray)

    def errors(self) -> str:
        return (self._folder / "errors").read_text()[-4000:]


def under_way(store: Store) -> dict[str, int]:
    """Return how many calls each run, with its children, has under way that reach outside.

    Of a run that is struck while it asks it is the open questions.
    """
    rows = {row.id: row for row in store.runs(limit=1000)}
    found = Counter[str]()
    for row in rows.values():
        calls = Calls(store, row.id)
        calls.read()
        begun = [path for paths in calls.open.values() for path in paths]
        root = row
        while root.parent is not None:
            root = rows[root.parent]
        name = (root.key or "").partition(":")[0]
        found[name] += sum(
            not any(other.startswith(f"{path}/") for other in begun)
            for kind in (["ask"] if ALL[name].struck == "ask" else _OUTSIDE)
            for path in calls.open.get(kind, ())
        )
    return {name: count for name, count in found.items() if count}
