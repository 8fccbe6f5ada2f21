"""Ray clusters of a test's own, whose processes end with it, and programs that join them."""

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
START_SECONDS = 90.0
MOST_SERVERS = 3
MOST_SECONDS = 200.0
RAY = Path(sys.executable).with_name("ray")
UNAUTHENTICATED = {"RAY_AUTH_MODE": "disabled"}


@dataclass(frozen=True, slots=True)
class Cluster:
    """Where a cluster listens on this machine."""

    port: int
    client_port: int

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def client_address(self) -> str:
        return f"ray://127.0.0.1:{self.client_port}"


@contextmanager
def started(environment: Mapping[str, str] = UNAUTHENTICATED) -> Iterator[Cluster]:
    """Start a cluster of one node, with variables such as those of its token."""
    with ExitStack() as stack:
        # In /tmp: the names of its sockets must be short.
        folder = Path(tempfile.mkdtemp(prefix="r-"))  # short: Ray puts sockets beneath
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        cluster = Cluster(*_free_ports())
        log = stack.enter_context((folder / "log").open("w"))
        head = subprocess.Popen(
            [RAY, "start", "--head", "--block", *_options(cluster, folder)],
            env={**os.environ, **environment},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        stack.callback(_end, head)
        _wait_for(cluster, head, folder / "log")
        yield cluster


def _options(cluster: Cluster, folder: Path) -> list[str]:
    return [
        f"--port={cluster.port}",
        f"--ray-client-server-port={cluster.client_port}",
        f"--temp-dir={folder}/ray",
        "--num-cpus=8",
        f"--object-store-memory={128 << 20}",
        "--include-dashboard=false",
        "--min-worker-port=0",  # with the default range two clusters would meet
        "--max-worker-port=0",
        "--disable-usage-stats",
    ]


def _free_ports() -> tuple[int, int]:
    with socket.socket() as one, socket.socket() as other:
        one.bind(("127.0.0.1", 0))
        other.bind(("127.0.0.1", 0))
        return one.getsockname()[1], other.getsockname()[1]


def _wait_for(cluster: Cluster, head: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    for port in (cluster.port, cluster.client_port):
        while not _listens(port):
            assert head.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _end(head: subprocess.Popen[bytes]) -> None:
    head.kill()  # its processes end with it
    head.wait()


def join(
    folder: Path,
    address: str,
    environment: Mapping[str, str] = UNAUTHENTICATED,
    *,
    before: Sequence[str] = (),
) -> dict[str, Any]:
    """Run the program of `tests.hosts.joining` in a process of its own; return what it prints.

    Args:
        folder: where its store lies.
        address: of the cluster.
        environment: variables such as those of a token.
        before: words of a command that runs it.
    """
    for _ in range(MOST_SERVERS):
        found = _joined(folder, address, environment, before)
        # Ray 2.60 forks a server for each program from elsewhere, which at times dies of that.
        if "Starting Ray client server failed" not in found.get("refused", ""):
            break
    return found


def _joined(
    folder: Path, address: str, environment: Mapping[str, str], before: Sequence[str]
) -> dict[str, Any]:
    without = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    done = subprocess.run(
        [*before, sys.executable, "-m", "tests.hosts.joining", f"sqlite:///{folder}/runs.db"],
        env={**without, "PYTHONPATH": str(ROOT), **environment, "CREW_RAY_ADDRESS": address},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=MOST_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found
