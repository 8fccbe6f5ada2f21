"""Where an owner of runs lives, so that another process can tell whether it is gone."""

import contextlib
import os
import secrets
import socket
from pathlib import Path


class Place:
    """This process: its machine, its id, and when it began."""

    def __init__(self) -> None:
        self.name = secrets.token_hex(8)
        self.machine = _machine()
        self.pid = os.getpid()
        self.began = _began(self.pid)

    def is_gone(self, machine: str, pid: int, began: str) -> bool:
        """Return whether a process is proven to be gone: one of this machine that is not there."""
        return machine == self.machine and _began(pid) != began and not _is_hidden(pid)


def _machine() -> str:
    """Return a name of this machine since it was booted, and of its space of process ids."""
    parts = [socket.gethostname()]
    # Not every system tells these.
    with contextlib.suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip())
    with contextlib.suppress(OSError):
        parts.append(str(Path("/proc/self/ns/pid").readlink()))
    return "/".join(parts)


def _began(pid: int) -> str:
    """Return when a process began, as its system tells it; nothing if there is none."""
    stat = Path(f"/proc/{pid}/stat")
    try:
        # The name of the program, in parentheses, may hold anything.
        values = stat.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if values[0] in ("Z", "X") else values[19]


def _is_hidden(pid: int) -> bool:
    """Return whether a process is there that this one may not look at, another user's."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return not Path(f"/proc/{pid}").exists()
    return False
