"""A folder of files by which the owners of runs show that they live, on one machine.

An owner holds a lock on a file of its own, which the operating system frees whatever way its
process ends: a free lock proves that the owner is dead. A process that is stopped holds its lock,
but the number in its file does not grow any more. Behind that number stands what it serves.
"""

import fcntl
import json
import os
from collections.abc import Sequence
from pathlib import Path

from crew.journal import Sign

_DEAD = Sign(dead=True, beat=0)
_BEAT_BYTES = 8


class OwnerFiles:
    """The owners' files of one store.

    Args:
        folder: made if missing.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._handles: dict[str, int] = {}
        self._beats: dict[str, int] = {}
        folder.mkdir(exist_ok=True)

    def claim(self, owner: str) -> None:
        """Hold the lock of `owner` until `release`, or the end of this process."""
        handle = os.open(self._file(owner), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(handle, fcntl.LOCK_EX)  # whoever looks at it now lets it go at once
        self._handles[owner], self._beats[owner] = handle, 0

    def release(self, owner: str) -> None:
        """Give the lock of `owner` up, and remove its file."""
        if (handle := self._handles.pop(owner, None)) is not None:
            self._file(owner).unlink(missing_ok=True)
            os.close(handle)

    def beat(self, owner: str) -> None:
        """Let the number of an owner of this process grow."""
        if (handle := self._handles.get(owner)) is not None:
            self._beats[owner] += 1
            os.pwrite(handle, self._beats[owner].to_bytes(_BEAT_BYTES), 0)

    def serve(self, owner: str, workflows: Sequence[tuple[str, str]]) -> None:
        """Show of which workflows an owner of this process takes runs."""
        if (handle := self._handles.get(owner)) is not None:
            body = json.dumps(workflows).encode()
            os.pwrite(handle, body, _BEAT_BYTES)
            os.truncate(handle, _BEAT_BYTES + len(body))

    def served(self) -> set[tuple[str, str]]:
        """Return the workflows of which an owner that lives takes runs."""
        return set().union(*map(self._serves, self._folder.iterdir()))

    def _serves(self, file: Path) -> set[tuple[str, str]]:
        """Return what an owner shows; its file stays, as it may be about to lock it."""
        try:
            with file.open("rb") as stream:
                if file.name not in self._handles and not _is_locked(stream.fileno()):
                    return set()
                body = stream.read()[_BEAT_BYTES:]
            return {(name, version) for name, version in json.loads(body or b"[]")}
        except (FileNotFoundError, ValueError):
            return set()  # it has just left, or is about to say it

    def sign(self, owner: str) -> Sign:
        """Return what `owner` shows of itself; the file of a dead one is removed."""
        if owner in self._handles:
            return Sign(dead=False, beat=self._beats[owner])
        try:
            handle = os.open(self._file(owner), os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return _DEAD
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return Sign(dead=False, beat=int.from_bytes(os.pread(handle, _BEAT_BYTES, 0)))
        else:
            self._file(owner).unlink(missing_ok=True)
            return _DEAD
        finally:
            os.close(handle)

    def close(self) -> None:
        """Release every owner of this process."""
        for owner in list(self._handles):
            self.release(owner)

    def _file(self, owner: str) -> Path:
        return self._folder / owner


def _is_locked(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return False
