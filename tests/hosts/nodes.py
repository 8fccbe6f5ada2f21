"""Three Ray nodes on one machine, of which one is killed while a run is under way: as a table.

python -m tests.hosts.nodes --times 5

A node is a network namespace with a cable of its own to a switch, and in it namespaces of processes
and of mounts. To kill one is to cut its cable, then to kill all its processes: nobody is told. It
needs root, and a machine that allows namespaces.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.hosts.away import SAYS

ROOT = Path(__file__).parents[2]
RAY = Path(sys.executable).with_name("ray")
GCS_PORT = 6379
NETWORK = "10.77.0"
START_SECONDS = 120.0
_ENVIRONMENT = {
    "RAY_AUTH_MODE": "disabled",
    "RAY_raylet_start_wait_time_s": "180",
    "RAY_USAGE_STATS_ENABLED": "0",
    # A node that says nothing is dead after 20 s, not after a minute.
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "3000",
    "RAY_health_check_failure_threshold": "5",
}
# Each node has a folder for Ray and shared memory of its own, as a machine has: in one folder, two
# that start at once take the same sockets.
_INSIDE = """
mount -t tmpfs none "$RAY_TMPDIR/ray"
mount -t tmpfs none /dev/shm
ip link set lo up
exec "$@"
"""


_COUNT = """
import sys
from ray._raylet import GcsClient
nodes = GcsClient(address=sys.argv[1]).get_all_node_info(timeout=10).values()
print(sum(node.state == 0 for node in nodes))
"""


class NoNamespaces(Exception):
    """This machine, or who runs this, may not make them; the message is the system's."""


@dataclass(slots=True)
class Node:
    """A node of the cluster: its address, the name of its network, and the process that holds it.

    What is killed with that process is all of the node.
    """

    address: str
    network: str
    process: "subprocess.Popen[bytes] | None" = None

    def enter(self) -> list[str]:
        """Return the words before a command that runs it on this node."""
        assert self.process is not None
        inner = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        return ["nsenter", "-t", inner.split()[0], "-m", "-n", "-p", "-i"]

    def kill(self) -> None:
        """Cut it off, and end all of it."""
        _run("ip", "-n", self.network, "link", "set", "eth0", "down")
        self.end()

    def end(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


class Nodes:
    """A cluster of a head, at which no host finds a place, and of two nodes with room for them.

    Args:
        folder: for their logs.
        stack: what is undone at the end.
    """

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self._folder = folder
        self._stack = stack
        self._switch = f"crew-{os.getpid()}-s"
        self._make_network(self._switch)
        _run("ip", "-n", self._switch, "link", "add", "br0", "type", "bridge")
        _run("ip", "-n", self._switch, "link", "set", "br0", "up")
        self.head = self._node(1)
        self.others = [self._node(2), self._node(3)]

    @property
    def gcs(self) -> str:
        return f"{self.head.address}:{GCS_PORT}"

    def start(self) -> None:
        """Start Ray on all of them."""
        self._start(self.head, "--head", f"--port={GCS_PORT}", "--num-cpus=0")
        for node in self.others:
            self._start(node, f"--address={self.gcs}", "--num-cpus=3")
        self._wait()

    def at(self, address: str) -> Node:
        return next(node for node in (self.head, *self.others) if node.address == address)

    def mend(self) -> None:
        """Start the nodes that were killed, as machines that were replaced."""
        for node in self.others:
            if node.process is None:
                _run("ip", "-n", node.network, "link", "set", "eth0", "up")
                self._start(node, f"--address={self.gcs}", "--num-cpus=3")
        self._wait()

    def _wait(self) -> None:
        """Wait until all of them are up."""
        deadline = time.monotonic() + START_SECONDS
        while (up := self._count()) != 1 + len(self.others):
            assert time.monotonic() < deadline, f"{up} nodes are up: {self._logs()}"
            time.sleep(0.5)

    def _node(self, number: int) -> Node:
        node = Node(f"{NETWORK}.{number}", f"crew-{os.getpid()}-{number}")
        self._make_network(node.network)
        there = f"v{number}"
        cable = ("link", "add", "eth0", "type", "veth", "peer", "name", there)
        _run("ip", "-n", node.network, *cable, "netns", self._switch)
        _run("ip", "-n", self._switch, "link", "set", there, "master", "br0", "up")
        _run("ip", "-n", node.network, "addr", "add", f"{node.address}/24", "dev", "eth0")
        _run("ip", "-n", node.network, "link", "set", "eth0", "up")
        return node

    def _make_network(self, name: str) -> None:
        _run("ip", "netns", "add", name)
        self._stack.callback(_run, "ip", "netns", "del", name)

    def _start(self, node: Node, *options: str) -> None:
        folder = tempfile.gettempdir()
        (Path(folder) / "ray").mkdir(exist_ok=True)
        log = self._stack.enter_context((self._folder / f"{node.network}.log").open("a"))
        unshare = ["unshare", "-m", "-p", "-i", "--fork", "--kill-child", "--mount-proc"]
        node.process = subprocess.Popen(
            [
                *("ip", "netns", "exec", node.network, *unshare, "sh", "-c", _INSIDE, "sh"),
                *(RAY, "start", "--block", f"--node-ip-address={node.address}", *options),
                *(f"--object-store-memory={96 << 20}", "--disable-usage-stats"),
            ],
            env={
                **os.environ,
                **_ENVIRONMENT,
                "PYTHONPATH": str(ROOT),
                "RAY_TMPDIR": folder,
            },
            stdout=log,
            stderr=log,
        )
        self._stack.callback(node.end)

    def _count(self) -> int:
        for node in (self.head, *self.others):
            assert node.process is not None
            assert node.process.poll() is None, self._logs()
        try:
            done = subprocess.run(
                [*self.head.enter(), sys.executable, "-c", _COUNT, self.gcs],
                env={**os.environ, **_ENVIRONMENT},
                capture_output=True,
                text=True,
                check=False,
            )
        except (OSError, IndexError):
            return 0
        return int(done.stdout) if done.returncode == 0 else 0

    def _logs(self) -> str:
        return "\n".join(path.read_text()[-2000:] for path in sorted(self._folder.glob("*.log")))


@contextmanager
def nodes() -> Iterator[Nodes]:
    """Start three nodes, which end with the block.

    Raises:
        NoNamespaces: there cannot be any here.
    """
    require_namespaces()
    with ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="n-"))  # short: Ray puts sockets beneath
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        made = Nodes(folder, stack)
        made.start()
        yield made


def require_namespaces() -> None:
    """Raise unless this process may make what nodes are made of.

    Raises:
        NoNamespaces: it may not.
    """
    name = f"crew-{os.getpid()}-try"
    try:
        _run("ip", "netns", "add", name)
        try:
            cable = ("link", "add", "eth0", "type", "veth", "peer", "name", "v1")
            _run("ip", "-n", name, *cable)
            _run("ip", "-n", name, "link", "add", "br0", "type", "bridge")
            unshare = ("unshare", "-m", "-p", "-i", "--fork", "--mount-proc")
            _run("ip", "netns", "exec", name, *unshare, "mount", "-t", "tmpfs", "none", "/mnt")
        finally:
            _run("ip", "netns", "del", name)
    except FileNotFoundError as error:
        raise NoNamespaces(f"{error.filename} is not installed") from error
    except subprocess.CalledProcessError as error:
        raise NoNamespaces(f"{' '.join(error.cmd)}: {error.stderr.strip()}") from error


def _run(*words: str) -> None:
    subprocess.run(words, check=True, capture_output=True, text=True)


@dataclass(slots=True)
class Fallen:
    """What came of a run when the node of one of its hosts was killed."""

    victim: str
    seconds: float = 0.0
    """From then to its end."""
    wrong: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return f"{self.victim:>8}{self.seconds:>9.0f}  {'; '.join(self.wrong) or 'right'}"


HEAD = f"{'host':>8}{'seconds':>9}"


def kill_node(cluster: Nodes, victim: str, url: str, gate: Path) -> Fallen:
    """Kill the node of a host, `agent` or `run`, of a run that a program on the head waits for.

    Args:
        cluster: it is made whole before.
        victim: which host.
        url: of a store that all nodes reach.
        gate: see `tests.hosts.kills`.
    """
    cluster.mend()
    with _started(cluster, url, gate) as program:
        assert program.stdin is not None
        try:
            where = _said(program)
            fallen, began = Fallen(victim), time.monotonic()
            if len({*where.values(), cluster.head.address}) < 3:
                fallen.wrong.append(f"no node of its own for each host: {where}")
            cluster.at(where[victim]).kill()
            program.stdin.write("killed\n")
            program.stdin.flush()
            fallen.wrong += _said(program)
            fallen.seconds = time.monotonic() - began
        finally:
            program.kill()
    return fallen


def _started(cluster: Nodes, url: str, gate: Path) -> "subprocess.Popen[str]":
    words = [*cluster.head.enter(), sys.executable, "-m", "tests.hosts.away", url, str(gate)]
    environment = {**_ENVIRONMENT, "PYTHONPATH": str(ROOT), "CREW_RAY_ADDRESS": cluster.gcs}
    return subprocess.Popen(
        words,
        env={**os.environ, **environment},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def _said(program: "subprocess.Popen[str]") -> Any:
    assert program.stdout is not None
    for line in program.stdout:
        if line.startswith(SAYS):
            return json.loads(line.removeprefix(SAYS))
    raise AssertionError(f"the program ended: {program.wait()}")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.hosts.nodes", description=__doc__)
    parser.add_argument("--times", type=int, default=5, help="for each of the two hosts")
    options = parser.parse_args()
    wrong = 0
    with nodes() as cluster, tempfile.TemporaryDirectory(prefix="crew-away-") as folder:
        print(f"killed: the node of the\n{HEAD}", flush=True)
        for number in range(options.times):
            for victim in ("agent", "run"):
                gate = Path(folder) / f"{victim}-{number}"
                fallen = kill_node(cluster, victim, f"sqlite:///{folder}/runs.db", gate)
                wrong += bool(fallen.wrong)
                print(fallen, flush=True)
    print(f"{2 * options.times} nodes, {wrong} wrong", flush=True)
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
