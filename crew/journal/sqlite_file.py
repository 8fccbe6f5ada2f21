"""The file of an SQLite journal: opened, refused where locks do not hold, brought to its schema."""

import sqlite3
import time
from importlib import resources
from pathlib import Path

from crew.errors import StoreError

SCHEMA_VERSION = 11
FIRST_VERSION = 11
"""The oldest that is read: nothing was released with one before."""
OPEN_SECONDS = 2.0
"""How long opening a file waits for others who open it."""
OPEN_PAUSE_SECONDS = 0.01
NETWORK_FILESYSTEMS = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "glusterfs", "lustre"}
    | {"fuse.sshfs", "fuse.s3fs", "fuse.gcsfuse", "fuse.glusterfs", "fuse.cephfs"}
)


def connect(path: str) -> sqlite3.Connection:
    """Open a database file, the way every process of this project does."""
    return sqlite3.connect(path, isolation_level=None, timeout=0, check_same_thread=False)


def refuse_network_filesystem(path: Path, mounts: Path) -> None:
    """Raise StoreError if `path` lies on a filesystem whose locks cannot be trusted."""
    if not mounts.exists():
        return
    best, kind, place = "/", "", f"{path}/"
    for line in mounts.read_text(encoding="utf-8").splitlines():
        _, point, its_kind, *_ = line.split(" ")
        point = point.replace("\\040", " ")
        # As text: this is on the way of every start, and objects for a hundred paths cost 1 ms.
        if place.startswith(f"{point.rstrip('/')}/") and len(point) >= len(best):
            best, kind = point, its_kind
    if kind in NETWORK_FILESYSTEMS:
        raise StoreError(
            message=f"{path} lies on a network filesystem ({kind} at {best}), where SQLite's locks "
            "do not hold; use a local folder, or PostgreSQL: CREW_STORE=postgresql://…"
        )


def prepare(db: sqlite3.Connection, path: Path) -> None:
    """Set a new connection up, and bring an older or empty file to this release's schema.

    Raises:
        StoreError: a newer release wrote the file, or one that was never published.
    """
    db.execute(f"PRAGMA busy_timeout = {round(1000 * OPEN_SECONDS)}")
    (version,) = db.execute("PRAGMA user_version").fetchone()
    if version > SCHEMA_VERSION:
        raise StoreError(
            message=f"{path} was written by a newer release (schema {version}, this one knows "
            f"{SCHEMA_VERSION}); upgrade with `pip install -U raycrew`. Nothing was changed"
        )
    if 0 < version < FIRST_VERSION:
        raise StoreError(
            message=f"{path} was written by a development version (schema {version}), which no "
            "release reads; move it away to start anew. Nothing was changed"
        )
    _turn_log_on(db)
    db.execute("PRAGMA synchronous = FULL")
    # A log whose sync failed is read back whole from the page cache, and no later sync writes it;
    # what is read from a store has to be on disk, so it is copied out of the log anew.
    db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
    if version < SCHEMA_VERSION:
        _migrate(db)
    db.execute("PRAGMA busy_timeout = 0")


def _turn_log_on(db: sqlite3.Connection) -> None:
    """Turn the write-ahead log on, once for a file; SQLite does not wait for others here."""
    deadline = time.monotonic() + OPEN_SECONDS
    while True:
        try:
            if db.execute("PRAGMA journal_mode").fetchone() == ("wal",):
                return
            db.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if not is_busy(error) or time.monotonic() > deadline:
                raise
            time.sleep(OPEN_PAUSE_SECONDS)


def _migrate(db: sqlite3.Connection) -> None:
    db.execute("BEGIN IMMEDIATE")
    (version,) = db.execute("PRAGMA user_version").fetchone()
    for number in range(max(version + 1, FIRST_VERSION), SCHEMA_VERSION + 1):
        name = f"sqlite_{number}.sql"
        script = resources.files("crew.journal").joinpath("sql", name).read_text("utf-8")
        for statement in script.split(";\n"):
            if statement.strip():
                db.execute(statement)
        db.execute(f"PRAGMA user_version = {number}")
    db.execute("COMMIT")


def is_busy(error: BaseException) -> bool:
    """Return whether another process held a lock; the same operation may be tried again."""
    code = getattr(error, "sqlite_errorcode", None)
    return code is not None and code & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def explain(action: str, path: Path, error: Exception) -> str:
    """Return what went wrong with the file, and what to do about it."""
    text = str(error)
    if "not a database" in text or "malformed" in text or "corrupt" in text:
        return (
            f"{path} is not a sound database ({text}); restore a backup, or move it away to start "
            "anew: `crew doctor` checks it"
        )
    if isinstance(error, UnicodeEncodeError):
        return f"cannot {action} {path}: {text}; write names and keys in text that UTF-8 can hold"
    if "full" in text or getattr(error, "errno", None) == 28:
        return f"cannot {action} {path}: the disk is full; free some space, then `crew resume`"
    return f"cannot {action} {path}: {text}; check the folder's permissions and the disk"
