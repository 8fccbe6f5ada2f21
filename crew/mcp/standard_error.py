"""The end of what a process writes to its standard error, for the error that tells of its end."""

import asyncio
import os
from typing import TextIO

__all__ = ["StandardError"]

MOST_BYTES = 2_000


class StandardError:
    """Reads what a process says, so that it is never held up, and keeps the last of it."""

    def __init__(self) -> None:
        self._kept = b""
        self._reading = -1
        self._writing: TextIO | None = None

    def __enter__(self) -> "StandardError":
        self._reading, writing = os.pipe()
        os.set_blocking(self._reading, False)
        self._writing = os.fdopen(writing, "w")
        asyncio.get_running_loop().add_reader(self._reading, self._read)
        return self

    def __exit__(self, *error: object) -> None:
        self.file().close()
        asyncio.get_running_loop().remove_reader(self._reading)
        self._read()
        os.close(self._reading)

    def file(self) -> TextIO:
        """Return what the process writes to."""
        assert self._writing is not None
        return self._writing

    def last(self) -> str:
        """Return the last that it said, on one line."""
        return " ".join(self._kept.decode(errors="replace").split())

    def _read(self) -> None:
        try:
            read = os.read(self._reading, 1 << 16)
        except BlockingIOError:
            return
        if not read:  # no process has it open any more
            asyncio.get_running_loop().remove_reader(self._reading)
        self._kept = (self._kept + read)[-MOST_BYTES:]
