"""How a command finds a `crew serve` on the same store: a file beside it, and its lock."""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from crew.graph import Workflow


@dataclass(frozen=True, slots=True)
class Beacon:
    """A running server: its process, its address, and the code of the workflows it drives.

    `workflows` has a hash of the code of each, by the name it is served under.
    """

    pid: int
    url: str
    workflows: dict[str, str]

    def drives(self, workflow: Workflow) -> bool:
        """Return whether it has exactly this code; of another version it is another workflow."""
        return workflow.code_hash() in self.workflows.values()


@contextmanager
def lit(store_url: str, beacon: Beacon) -> Iterator[None]:
    """Show that this server runs, for as long as the block lasts, whatever way it ends.

    The operating system frees the lock when the process dies, so a file that is left behind
    misleads nobody.
    """
    file = _file(store_url)
    if file is None:
        yield
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.truncate(handle, 0)
        os.write(handle, json.dumps(asdict(beacon)).encode())
        yield
        file.unlink(missing_ok=True)
    except BlockingIOError:
        yield  # another server of the same store is shown already
    finally:
        os.close(handle)


def find(store_url: str) -> Beacon | None:
    """Return the server that drives runs of this store, if one lives."""
    file = _file(store_url)
    if file is None or not file.is_file():
        return None
    with file.open("rb") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return _read(handle.read())
    return None


def _read(content: bytes) -> Beacon | None:
    try:
        return Beacon(**json.loads(content))
    except (ValueError, TypeError):
        return None  # it is being written this very moment


def _file(store_url: str) -> Path | None:
    if not store_url.startswith("sqlite:///"):
        return None
    path = Path(store_url.removeprefix("sqlite:///")).absolute()
    return path.with_name(path.name + ".serve")
