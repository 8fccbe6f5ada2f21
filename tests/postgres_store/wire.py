"""A line between a store and its PostgreSQL server that breaks at a chosen word."""

import contextlib
import select
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Literal

Moment = Literal["before", "after", "late", "pause"]


def _nothing() -> None: ...


class Wire:
    """Passes bytes both ways, on a port of its own, until it is told to break.

    Args:
        server: the server's unix socket.
    """

    def __init__(self, server: Path) -> None:
        self._server = server
        self._word = b""
        self._moment: Moment = "before"
        self._meanwhile: Callable[[], object] = _nothing
        self.arrive = threading.Event()
        self.arrived = threading.Event()
        self._lines: list[threading.Thread] = []
        self._door = socket.create_server(("127.0.0.1", 0))
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()

    def url(self, database_url: str) -> str:
        name = database_url.partition("?")[0].rpartition("/")[2]
        return f"postgresql://crew@127.0.0.1:{self._door.getsockname()[1]}/{name}"

    def cut(self, word: str, moment: Moment, meanwhile: Callable[[], object] = _nothing) -> None:
        """Cut the connection that next sends `word`.

        Args:
            moment: `before` the server gets it, `after` it did and answered, or `late`: the server
                gets it when `arrive` is set, long after the client was cut off; or only `pause`.
            meanwhile: called before the client notices.
        """
        self._word, self._moment, self._meanwhile = word.encode(), moment, meanwhile

    def close(self) -> None:
        self.arrive.set()
        self._door.shutdown(socket.SHUT_RDWR)  # close alone does not wake who accepts
        self._accepting.join(10)
        self._door.close()
        for line in self._lines:
            line.join(10)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._door.accept()
            except OSError:
                return
            line = threading.Thread(target=self._connect, args=(client,), daemon=True)
            self._lines.append(line)
            line.start()

    def _connect(self, client: socket.socket) -> None:
        with client, socket.socket(socket.AF_UNIX) as server, contextlib.suppress(OSError):
            server.settimeout(10)
            server.connect(str(self._server))
            while True:
                for end in select.select([client, server], [], [])[0]:
                    data = end.recv(65536)
                    if not data:
                        return None
                    if end is client and self._word and self._word in data:
                        self._word = b""
                        if self._moment != "pause":
                            return self._break(client, server, data)
                        self._meanwhile()
                    (server if end is client else client).sendall(data)

    def _break(self, client: socket.socket, server: socket.socket, data: bytes) -> None:
        if self._moment == "late":
            client.close()
            self.arrive.wait(30)
        if self._moment != "before":
            server.sendall(data)
            server.recv(65536)
            self.arrived.set()
        self._meanwhile()
