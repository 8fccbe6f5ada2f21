"""Datagrams between the processes of one machine that share a store: each has a socket of its own.

Nothing waits for a datagram, and nothing depends on one: where a socket is full it is lost, and
whoever would have received it finds by looking what it was about. The sockets of a store lie in a
folder that one user alone may enter. Its path is short, since that of a socket has room for some
100 bytes, while a store may lie anywhere.
"""

import asyncio
import hashlib
import os
import socket
import stat
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

MOST_BYTES = 1 << 16
"""Of one datagram."""
MOST_AT_ONCE = 64
"""So many are received before the event loop goes on."""


def sockets_of(store: str) -> Path:
    """Return the folder for the sockets of those who share a store, named by what it is."""
    digest = hashlib.sha256(store.encode()).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"crew-{os.getuid()}" / digest


class DatagramSocket:
    """The socket of one who shares a store, and the way to those of the others.

    Args:
        folder: where the sockets are; made if missing.
        name: of this one; no other has it.
        received: called with the name of who sent something, and that.

    Raises:
        OSError: there can be no socket; or the folder is somebody else's.
    """

    def __init__(self, folder: Path, name: str, received: Callable[[str, bytes], None]) -> None:
        self._folder = folder
        self._name = name
        self._received = received
        self._loop = asyncio.get_running_loop()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            self._socket.setblocking(False)
            self._bind()
            self._loop.add_reader(self._socket, self._listen)
        except BaseException:
            self._socket.close()
            raise

    def _bind(self) -> None:
        """Take a name in the folder; the last of those who leave may just have removed it."""
        for is_last in (False, False, True):
            make_private(self._folder.parent)
            try:
                make_private(self._folder)
                self._socket.bind(str(self._folder / self._name))
            except FileNotFoundError:
                if is_last:
                    raise
            else:
                return

    def others(self) -> list[str]:
        """Return the names of the sockets there are; who left one behind may be dead."""
        return [path.name for path in self._folder.iterdir() if path.name != self._name]

    def send(self, name: str, data: bytes) -> bool:
        """Send to another one, and wait for nothing; False if it is not there any more."""
        try:
            self._socket.sendto(data, str(self._folder / name))
        except (ConnectionRefusedError, FileNotFoundError):
            (self._folder / name).unlink(missing_ok=True)
            return False
        except OSError:
            return True  # its socket is full
        return True

    def close(self) -> None:
        """Receive nothing more, and leave nothing behind."""
        self._loop.remove_reader(self._socket)
        self._socket.close()
        (self._folder / self._name).unlink(missing_ok=True)
        with suppress(OSError):  # others have theirs there
            self._folder.rmdir()

    def _listen(self) -> None:
        for _ in range(MOST_AT_ONCE):
            try:
                data, address = self._socket.recvfrom(MOST_BYTES)
            except BlockingIOError:
                return
            self._received(Path(address or "?").name, data)  # one without a name is no runtime


def make_private(folder: Path) -> None:
    """Make a folder that this user alone may enter.

    Raises:
        OSError: it cannot be made, or somebody else has made it.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise PermissionError(f"{folder} is not this user's alone")
