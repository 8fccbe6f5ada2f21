"""Big texts of an SQLite journal: in a table, and the biggest in files beside the database."""

import os
import sqlite3
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from crew.journal import Blob

OUTSIDE = 1 << 20
"""Bytes from which a blob lies in a file of its own."""


_LEFT_SECONDS = 3600.0
"""After so long nobody is at work on half a file any more."""


class Blobs:
    """The blobs of one store.

    A file is written, and is on disk, before the transaction that names it commits; it is removed
    after the one that no longer does.

    Args:
        folder: where the files lie; made when the first one comes.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._unused: list[Path] = []
        self._ahead: set[str] = set()
        """What was written before a transaction names it, by digest."""

    def keep(self, db: sqlite3.Connection, number: int, blob: Blob) -> None:
        """Store a blob, unless it is there, as one that run `number` uses."""
        db.execute("INSERT OR IGNORE INTO blob_uses VALUES (?, ?)", (number, blob.digest))
        known = db.execute("SELECT 1 FROM blobs WHERE digest = ?", (blob.digest,)).fetchone()
        if known is None:
            outside = len(blob.body) >= OUTSIDE
            if outside and not self._is_ahead(blob.digest):
                self._write(blob)
            body = None if outside else blob.body
            db.execute("INSERT INTO blobs VALUES (?, ?)", (blob.digest, body))

    def write_ahead(self, blob: Blob) -> None:
        """Write the file of a blob, if it gets one, before a transaction names it."""
        if len(blob.body) >= OUTSIDE:
            self._write(blob)
            self._ahead.add(blob.digest)

    def _is_ahead(self, digest: str) -> bool:
        """Return whether the file of a blob was written ahead, and nobody removed it since."""
        is_ahead = digest in self._ahead
        self._ahead.discard(digest)
        return is_ahead and self._file(digest).exists()

    def _write(self, blob: Blob) -> None:
        path = self._file(blob.digest)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f"{path.name}.{os.getpid()}.{threading.get_ident()}")
        with partial.open("wb") as file:
            file.write(blob.body)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
        for folder in (path.parent, self._folder):
            handle = os.open(folder, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)

    def read(self, db: sqlite3.Connection, digest: str) -> bytes | None:
        """Return a blob's bytes as they lie there, unverified; None if there is none."""
        row = db.execute("SELECT body FROM blobs WHERE digest = ?", (digest,)).fetchone()
        if row is None:
            return None
        if row[0] is not None:
            return bytes(row[0])
        path = self._file(digest)
        return path.read_bytes() if path.exists() else None

    def forget(self, db: sqlite3.Connection, numbers: Sequence[int]) -> None:
        """Drop the uses by these runs, and the blobs that nobody uses any more."""
        for number in numbers:
            rows = db.execute("SELECT digest FROM blob_uses WHERE number = ?", (number,)).fetchall()
            db.execute("DELETE FROM blob_uses WHERE number = ?", (number,))
            for (digest,) in rows:
                used = "SELECT 1 FROM blob_uses WHERE digest = ?"
                if db.execute(used, (digest,)).fetchone() is None:
                    db.execute("DELETE FROM blobs WHERE digest = ?", (digest,))
                    self._unused.append(self._file(digest))

    def drop_unnamed(self, db: sqlite3.Connection) -> None:
        """Within a transaction: remove the files that no row names, and halves that were left.

        Whoever wrote one ahead, and is about to name it, writes it once more then.
        """
        for path in self._folder.glob("??/*"):
            with suppress(FileNotFoundError):  # another process was faster
                if self._is_left(db, path):
                    path.unlink()

    def _is_left(self, db: sqlite3.Connection, path: Path) -> bool:
        digest, _, partial = path.name.partition(".")
        if partial:
            return time.time() - path.stat().st_mtime > _LEFT_SECONDS
        known = "SELECT 1 FROM blobs WHERE digest = ?"
        return db.execute(known, (digest,)).fetchone() is None

    def committed(self) -> None:
        """Remove the files of blobs that the transaction dropped."""
        for path in self._unused:
            path.unlink(missing_ok=True)
        self._unused.clear()

    @property
    def dropped(self) -> int:
        """How many files the transaction dropped so far."""
        return len(self._unused)

    def rolled_back(self, dropped: int = 0) -> None:
        """Keep the files but the first so many: what dropped the others did not happen."""
        del self._unused[dropped:]

    def _file(self, digest: str) -> Path:
        return self._folder / digest[:2] / digest
