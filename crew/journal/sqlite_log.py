"""The write-ahead log of an SQLite journal, looked at for damage that SQLite takes for its end.

SQLite reads a log up to the first frame whose checksum is wrong, since that is where a power cut
leaves it, and goes on from there: one bad bit would silently take back everything after it. But a
transaction is written only after the one before is on disk. So where anything follows a commit in
the log, that commit has to be readable. Damage to the very last transaction looks like a power cut.

Source: "WAL-mode File Format", sqlite.org/walformat.html.
"""

import shutil
import sqlite3
from dataclasses import dataclass
from pathlib import Path

from crew.errors import StoreError

_HEADER = 32
_FRAME = 24


@dataclass(frozen=True, slots=True)
class Log:
    """What a log has to hold: its generation, and up to which frame it has to be readable."""

    salts: bytes
    sure: int


def read_log(path: Path) -> Log | None:
    """Look at the log of a database, before anything is read from it; None if it has none.

    Raises:
        StoreError: it was found damaged before.
    """
    if (kept := _kept(path)).exists():
        raise _damaged(path, kept)
    log = path.with_name(path.name + "-wal")
    if not log.exists() or log.stat().st_size <= _HEADER:
        return None
    with path.open("rb") as file:
        size = int.from_bytes(file.read(18)[16:])
    page = size if size != 1 else 1 << 16
    if page == 0:
        return None
    return _sure(log.read_bytes(), page + _FRAME)


def _sure(data: bytes, step: int) -> Log:
    # The first frame, not the header, names the generation: the header may be what is damaged.
    salts = data[_HEADER + 8 : _HEADER + 16]
    if data[16:24] != salts and _is_sound(data[:_HEADER]):
        return Log(data[16:24], 0)  # begun anew, and nothing is written in it yet
    sure = commit = 0
    for number, place in enumerate(range(_HEADER, len(data) - step + 1, step), start=1):
        if data[place + 8 : place + 16] == salts:
            sure = commit
            if data[place + 4 : place + 8] != bytes(4):
                commit = number
    return Log(salts, sure)


def _is_sound(header: bytes) -> bool:
    order = "big" if header[3] & 1 else "little"
    first = second = 0
    for place in range(0, 24, 8):
        first += int.from_bytes(header[place : place + 4], order) + second
        second += int.from_bytes(header[place + 4 : place + 8], order) + first
    mask = (1 << 32) - 1
    return header[24:] == (first & mask).to_bytes(4) + (second & mask).to_bytes(4)


def verify_log(db: sqlite3.Connection, path: Path, log: Log | None) -> None:
    """Copy the log into the file, and make sure that nothing was missing.

    A log whose sync failed is still read back whole from the page cache, and no later sync of it
    writes it. What is read from a store has to be on disk, so it is copied out of the log anew.

    Raises:
        StoreError: what was on disk cannot be read any more. A copy of the log is kept.
    """
    (_, frames, _) = db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
    if log is None or frames >= log.sure:
        return
    file = path.with_name(path.name + "-wal")
    if not file.exists() or file.read_bytes()[_HEADER + 8 : _HEADER + 16] != log.salts:
        return  # another process has begun it anew, and so had read all of it
    # SQLite removes the log with the last connection.
    kept = _kept(path)
    shutil.copyfile(file, kept)
    raise _damaged(path, kept)


def _kept(path: Path) -> Path:
    return path.with_name(path.name + "-wal.damaged")


def _damaged(path: Path, kept: Path) -> StoreError:
    return StoreError(
        message=f"the log of {path} is damaged: the newest part of what was stored cannot be read; "
        f"{kept.name} keeps it. Restore a backup; or delete that file to go on with the rest"
    )
