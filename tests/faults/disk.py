"""A disk that fails where a test says: an SQLite VFS, and connections that write through it.

The disk keeps what a power cut would leave of each file: the bytes as of the last sync, and what
was done since, of which any part may survive. Nothing here can be opened by two at once, since a
VFS in Python has no memory to share between connections (hence the exclusive locking mode).
"""

import itertools
import random
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import apsw

HITS = {
    "fsync": ("sync",),
    "full": ("write",),
    "write": ("write",),
    "torn": ("write",),
    "power": ("write", "sync", "truncate", "delete"),
    "truncate": ("truncate",),
    "delete": ("delete",),
}
"""The kinds of faults, and which inputs and outputs each of them can strike."""
_CODES = {
    "fsync": apsw.SQLITE_IOERR_FSYNC,
    "full": apsw.SQLITE_FULL,
    "write": apsw.SQLITE_IOERR_WRITE,
    "torn": apsw.SQLITE_IOERR_WRITE,
    "power": apsw.SQLITE_IOERR,
    "truncate": apsw.SQLITE_IOERR_TRUNCATE,
    "delete": apsw.SQLITE_IOERR_DELETE,
}
_TEXTS = {
    apsw.SQLITE_IOERR: "disk I/O error",
    apsw.SQLITE_FULL: "database or disk is full",
}
_CUTS = ("torn", "power")
SECTOR = 512
"""Bytes that a disk writes whole or not at all."""
CHECKPOINT_PAGES = 24
"""Few, so that short runs have checkpoints, too."""
_numbers = itertools.count()


@dataclass(frozen=True, slots=True)
class Fault:
    """What fails: the first I/O from number `at` on that the kind can strike.

    A `lasting` fault strikes every such I/O after it, too. `seed` decides how much of a write that
    failed, and of what was not synced before a power cut, reaches the disk.
    """

    kind: str
    at: int
    lasting: bool = False
    seed: int = 0


class _Deleted:
    """In the list of what was done to a file: it was deleted, and maybe made anew."""


_Change = tuple[int, bytes] | int | _Deleted
"""Bytes written at an offset, a file cut to a size, or deleted."""


@dataclass(slots=True)
class _File:
    """What a power cut leaves of a file: `safe` is None while its name is not on disk."""

    safe: bytes | None
    since: list[_Change] = field(default_factory=list)


class Disk:
    """A disk of one process, which may fail. Use it as `with Disk() as disk:`.

    `ios` lists what was asked of it, in order; `struck` counts the faults.
    """

    def __init__(self, fault: Fault | None = None) -> None:
        self.fault = fault
        self.ios: list[str] = []
        self.struck = 0
        self.is_off = False
        self._chance = random.Random(fault.seed if fault else 0)
        self._files: dict[str, _File] = {}
        self._name = f"faulty-{next(_numbers)}"

    def __enter__(self) -> Self:
        self._vfs = _FaultyVFS(self._name, self)
        return self

    def __exit__(self, *exc: object) -> None:
        self._vfs.unregister()

    def connect(self, path: str) -> sqlite3.Connection:
        """Open a database on this disk, as a `SqliteStore`'s opener."""
        return Connection(path, self._name)  # type: ignore[return-value]  all that a store uses

    def cut_power(self) -> None:
        """Leave in the files what a power cut leaves; what is open must be closed afterwards."""
        self.is_off = True
        for name, file in self._files.items():
            left = self._survivors(file)
            if left is None:
                Path(name).unlink(missing_ok=True)
            else:
                Path(name).write_bytes(left)

    def _survivors(self, file: _File) -> bytes | None:
        left = None if file.safe is None else bytearray(file.safe)
        for change in file.since:
            fate = self._chance.choice(("kept", "lost", "torn"))
            if isinstance(change, _Deleted):
                if fate == "lost":
                    break  # the name still means the old file, whatever was written to a new one
                left = None
            elif fate != "lost":
                left = _changed(left, self._torn(change) if fate == "torn" else change)
        return None if left is None else bytes(left)

    def _torn(self, change: tuple[int, bytes] | int) -> tuple[int, bytes] | int:
        if isinstance(change, int):
            return change
        offset, data = change
        return offset, self.part(offset, data)

    # What the VFS tells.

    def knows(self, name: str) -> None:
        """A file was opened: what it held before is safe."""
        if name not in self._files:
            path = Path(name)
            self._files[name] = _File(path.read_bytes() if path.exists() else None)

    def io(self, what: str) -> str | None:
        """Count an I/O; return the kind of fault that strikes it."""
        self.check()
        self.ios.append(what)
        fault = self.fault
        if fault is None or len(self.ios) < fault.at or what not in HITS[fault.kind]:
            return None
        if self.struck and not fault.lasting:
            return None
        self.struck += 1
        return fault.kind

    def check(self) -> None:
        """Fail if the power is gone."""
        if self.is_off:
            raise _error("power")

    def fail(self, kind: str) -> None:
        """Let an I/O fail."""
        self.is_off = self.is_off or kind in _CUTS
        raise _error(kind)

    def part(self, offset: int, data: bytes) -> bytes:
        """Return how much of a write that fails was written: some sectors, or nothing."""
        cut = self._chance.randrange(len(data))
        return data[: max(0, (offset + cut) // SECTOR * SECTOR - offset)]

    def wrote(self, name: str, offset: int, data: bytes) -> None:
        self._files[name].since.append((offset, data))

    def truncated(self, name: str, size: int) -> None:
        self._files[name].since.append(size)

    def deleted(self, name: str, *, safely: bool) -> None:
        self.knows(name)
        self._files[name].since.append(_Deleted())
        if safely:
            self._files[name] = _File(None)

    def synced(self, name: str) -> None:
        file = self._files[name]
        if file.safe is None or any(isinstance(change, _Deleted) for change in file.since):
            self._folder_synced()
        self._files[name] = _File(_done(file.safe, file.since) or b"")

    def _folder_synced(self) -> None:
        """SQLite syncs the folder with a new log or journal: what was deleted stays deleted."""
        for file in self._files.values():
            places = [i for i, item in enumerate(file.since, 1) if isinstance(item, _Deleted)]
            if places:
                file.safe, file.since = None, file.since[places[-1] :]

    def not_synced(self, name: str) -> None:
        """A sync failed: Linux then calls the pages clean, and no later sync writes them.

        Source: Rebello et al., "Can Applications Recover from fsync Failures?", USENIX ATC 2020.
        """
        file = self._files[name]
        self._files[name] = _File(self._survivors(file))


def _done(safe: bytes | None, changes: Sequence[_Change]) -> bytes | None:
    left = None if safe is None else bytearray(safe)
    for change in changes:
        left = None if isinstance(change, _Deleted) else _changed(left, change)
    return None if left is None else bytes(left)


def _changed(left: bytearray | None, change: tuple[int, bytes] | int) -> bytearray:
    left = bytearray() if left is None else left
    if isinstance(change, int):
        del left[change:]
        return left
    offset, data = change
    left.extend(bytes(max(0, offset - len(left))))
    left[offset : offset + len(data)] = data
    return left


def _error(kind: str) -> apsw.Error:
    code = _CODES[kind]
    error = apsw.exception_for(code)
    error.args = (_TEXTS[code & 0xFF],)
    return error


class _FaultyVFS(apsw.VFS):
    def __init__(self, name: str, disk: Disk) -> None:
        self._disk = disk
        super().__init__(name, "")

    def xOpen(self, name, flags):  # noqa: N802  the name is SQLite's
        self._disk.check()
        return _FaultyFile(self._disk, name, flags)

    def xDelete(self, name, syncdir):  # noqa: N802
        if (kind := self._disk.io("delete")) is not None:
            self._disk.fail(kind)
        super().xDelete(name, syncdir)
        self._disk.deleted(name, safely=bool(syncdir))

    def excepthook(self, kind, error, trace):
        """SQLite goes on after some errors, such as when it closes; so do we."""


class _FaultyFile(apsw.VFSFile):
    def __init__(self, disk, name, flags):
        self._disk = disk
        self._file = name.filename() if isinstance(name, apsw.URIFilename) else name
        if self._file is not None:
            disk.knows(self._file)
        super().__init__("", name, flags)

    def xRead(self, amount, offset):  # noqa: N802
        self._disk.check()
        return super().xRead(amount, offset)

    def xFileSize(self):  # noqa: N802
        self._disk.check()
        return super().xFileSize()

    def xLock(self, level):  # noqa: N802
        self._disk.check()
        super().xLock(level)

    def xWrite(self, data, offset):  # noqa: N802
        data = bytes(data)
        if self._file is None:
            return super().xWrite(data, offset)
        kind = self._disk.io("write")
        if kind is not None and kind != "power":
            data = self._disk.part(offset, data)
        if kind != "power" and data:
            super().xWrite(data, offset)
            self._disk.wrote(self._file, offset, data)
        if kind is not None:
            self._disk.fail(kind)
        return None

    def xTruncate(self, size):  # noqa: N802
        if self._file is not None and (kind := self._disk.io("truncate")) is not None:
            self._disk.fail(kind)
        super().xTruncate(size)
        if self._file is not None:
            self._disk.truncated(self._file, size)

    def xSync(self, flags):  # noqa: N802
        if self._file is None:
            return
        if (kind := self._disk.io("sync")) is not None:
            if kind == "fsync":
                self._disk.not_synced(self._file)
            self._disk.fail(kind)
        super().xSync(flags)
        self._disk.synced(self._file)

    def excepthook(self, kind, error, trace):
        """See `_FaultyVFS.excepthook`."""


class Cursor:
    """What a statement gave, as the standard library's cursor shows it."""

    def __init__(self, rows: Iterable[tuple[object, ...]], rowcount: int, lastrowid: int) -> None:
        self._rows = iter(rows)
        self.rowcount = rowcount
        self.lastrowid = lastrowid

    def __iter__(self) -> Iterator[tuple[object, ...]]:
        return self._rows

    def fetchone(self) -> tuple[object, ...] | None:
        return next(self._rows, None)

    def fetchall(self) -> list[tuple[object, ...]]:
        return list(self._rows)


class Connection:
    """What a `SqliteStore` uses of `sqlite3.Connection`, on a VFS that only apsw can reach."""

    def __init__(self, path: str, vfs: str) -> None:
        with _standard_errors():
            self._db = apsw.Connection(path, vfs=vfs)
        try:
            self.execute("PRAGMA locking_mode = EXCLUSIVE")
            self.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
        except sqlite3.Error:
            self.close()
            raise

    @property
    def in_transaction(self) -> bool:
        return self._db.in_transaction

    def execute(self, statement: str, values: Sequence[object] = ()) -> Cursor:
        with _standard_errors():
            rows = self._db.execute(statement, tuple(values)).fetchall()
        return Cursor(rows, self._db.changes(), self._db.last_insert_rowid())

    def executemany(self, statement: str, values: Iterable[Sequence[object]]) -> None:
        with _standard_errors():
            self._db.executemany(statement, [tuple(item) for item in values]).fetchall()

    def rollback(self) -> None:
        self.execute("ROLLBACK")

    def close(self) -> None:
        # It closes whatever happens, and SQLite says so; only apsw also tells what went wrong.
        with suppress(apsw.Error):
            self._db.close()


@contextmanager
def _standard_errors() -> Iterator[None]:
    try:
        yield
    except apsw.Error as error:
        raise _standard(error) from error


def _standard(error: apsw.Error) -> sqlite3.Error:
    code = getattr(error, "extendedresult", apsw.SQLITE_ERROR)
    kinds = {
        apsw.SQLITE_CORRUPT: sqlite3.DatabaseError,
        apsw.SQLITE_NOTADB: sqlite3.DatabaseError,
        apsw.SQLITE_CONSTRAINT: sqlite3.IntegrityError,
    }
    standard = kinds.get(code & 0xFF, sqlite3.OperationalError)(str(error))
    standard.sqlite_errorcode = code
    return standard
