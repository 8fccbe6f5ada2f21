"""Document search: an embedded full-text index of a folder, kept up to date by itself."""

import asyncio
import hashlib
import os
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from crew.config import DATA_FOLDER
from crew.define import frozen
from crew.errors import ToolError
from crew.tool.definition import Tool
from crew.tool.passage import Passage, split
from crew.value.words import index_terms, query_terms

__all__ = ["Index", "Passage", "Refreshed", "document_search"]

MAX_FILE_BYTES = 2 << 20
SKIPPED_FOLDERS = frozenset({"node_modules", "__pycache__", "venv", "site-packages"})
FRESH_SECONDS = 2.0
"""For so long a folder that was looked through is taken to be unchanged."""
LOCK_SECONDS = 10.0
LOCK_PAUSE_SECONDS = 0.02

_SCHEMA = """
PRAGMA journal_mode = WAL;
CREATE TABLE IF NOT EXISTS files (
    source TEXT PRIMARY KEY, mtime REAL NOT NULL, size INTEGER NOT NULL, digest TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS passages (
    id INTEGER PRIMARY KEY, source TEXT NOT NULL, heading TEXT NOT NULL, text TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS passages_by_source ON passages (source);
CREATE VIRTUAL TABLE IF NOT EXISTS terms USING fts5 (heading, body, tokenize = "unicode61");
"""
_FIND = """
SELECT p.source, p.heading, p.text FROM terms JOIN passages AS p ON p.id = terms.rowid
WHERE terms MATCH ? ORDER BY bm25(terms, 3.0, 1.0), p.id LIMIT ?
"""

OnProgress = Callable[[int, int, str], None]


@frozen
class Refreshed:
    """What an index holds, and what changed in it: counts of files, and of passages in all."""

    files: int
    passages: int
    added: int
    removed: int
    skipped: int


class Index:
    """The search index of one folder; several processes may use it at once.

    Args:
        folder: Markdown, text and code in it and below are read; hidden folders, binary files
            and files above 2 MiB are not.
        data: where indexes are kept, by default `.crew/index` in the working directory.
    """

    def __init__(self, folder: str | Path, *, data: Path | None = None) -> None:
        self.folder = Path(folder).absolute()
        name = hashlib.sha256(str(self.folder).encode()).hexdigest()[:16]
        self.file = (data or DATA_FOLDER / "index").absolute() / f"{name}.db"
        self._looked = 0.0

    async def refresh(self, on_progress: OnProgress | None = None) -> Refreshed:
        """Bring the index up to date with the folder; only changed files are read.

        Raises:
            ToolError: the folder is missing, or holds nothing to read.
        """
        return await asyncio.to_thread(self._refresh, on_progress)

    async def search(self, query: str, limit: int = 5) -> list[Passage]:
        """Return the passages that fit a query best, those with all its words before others.

        Raises:
            ToolError: as `refresh`.
        """
        return await asyncio.to_thread(self._search, query, limit)

    async def read(self, source: str) -> str:
        """Return the text of a file that passages name as their source.

        Raises:
            ToolError: there is no such file in the folder.
        """
        return await asyncio.to_thread(self._read, source)

    def _search(self, query: str, limit: int) -> list[Passage]:
        if time.monotonic() - self._looked > FRESH_SECONDS:
            self._refresh(None)
        terms = query_terms(query)
        if not terms:
            return []
        with self._open() as db:
            found: dict[str, Passage] = {}
            for together in (" AND ", " OR "):
                rows = db.execute(_FIND, (together.join(map(_quoted, terms)), limit))
                for source, heading, text in rows:
                    passage = Passage(source=source, heading=heading, text=text)
                    found.setdefault(f"{source}\0{text}", passage)
                if len(found) >= limit:
                    break
            return list(found.values())[:limit]

    def _read(self, source: str) -> str:
        path = (self.folder / source).resolve()
        if not path.is_relative_to(self.folder.resolve()) or not path.is_file():
            raise ToolError(message=f"{self.folder} has no file {source!r}", tool="search")
        return path.read_text(encoding="utf-8", errors="replace")

    def _refresh(self, on_progress: OnProgress | None) -> Refreshed:
        present, skipped = self._files()
        with self._open() as db:
            known = {row[0]: row[1:] for row in db.execute("SELECT * FROM files")}
            changed = [
                source
                for source, state in present.items()
                if source not in known or (state.st_mtime, state.st_size) != known[source][:2]
            ]
            gone = [source for source in known if source not in present]
            added = self._update(db, changed, present, known, on_progress) if changed else 0
            if gone:
                self._remove(db, gone)
            (passages,) = db.execute("SELECT count(*) FROM passages").fetchone()
        self._looked = time.monotonic()
        return Refreshed(len(present), passages, added, len(gone), skipped)

    def _files(self) -> tuple[dict[str, os.stat_result], int]:
        if not self.folder.is_dir():
            what = "is a file" if self.folder.exists() else "does not exist"
            raise ToolError(
                message=f"{self.folder} {what}; give the folder of your documents: "
                'crew ask "…" --docs FOLDER',
                tool="search",
            )
        found: dict[str, os.stat_result] = {}
        skipped = 0
        for path in _walk(self.folder):
            state = path.stat()
            if state.st_size > MAX_FILE_BYTES or _is_binary(path):
                skipped += 1
            else:
                found[str(path.relative_to(self.folder))] = state
        if not found:
            raise ToolError(
                message=f"{self.folder} holds no text to read ({skipped} files skipped: binary or "
                "above 2 MiB); give a folder of Markdown, text or code",
                tool="search",
            )
        return found, skipped

    def _update(
        self,
        db: sqlite3.Connection,
        changed: Sequence[str],
        present: dict[str, os.stat_result],
        known: dict[str, tuple[float, int, str]],
        on_progress: OnProgress | None,
    ) -> int:
        added = 0
        for number, source in enumerate(changed, start=1):
            content = self._read(source)
            digest = hashlib.sha256(content.encode()).hexdigest()
            state = present[source]
            with _transaction(db):
                if source not in known or known[source][2] != digest:
                    _delete(db, source)
                    _insert(db, split(source, content))
                    added += 1
                db.execute(
                    "INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?)",
                    (source, state.st_mtime, state.st_size, digest),
                )
            if on_progress is not None:
                on_progress(number, len(changed), source)
        return added

    def _remove(self, db: sqlite3.Connection, gone: Sequence[str]) -> None:
        with _transaction(db):
            for source in gone:
                _delete(db, source)
                db.execute("DELETE FROM files WHERE source = ?", (source,))

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        self.file.parent.mkdir(parents=True, exist_ok=True)
        db = sqlite3.connect(self.file, timeout=LOCK_SECONDS, isolation_level=None)
        try:
            db.execute("PRAGMA synchronous = NORMAL")
            _set_up(db)
            yield db
        except sqlite3.Error as error:
            advice = "another process writes it" if _is_locked(error) else "delete it"
            raise ToolError(
                message=f"the search index {self.file} cannot be used ({error}): {advice}; it is "
                "made again by itself",
                tool="search",
            ) from error
        finally:
            db.close()


def document_search(folder: str | Path, *, data: Path | None = None) -> Tool:
    """Return a tool named `search` over a folder of documents."""
    index = Index(folder, data=data)

    async def search(query: str, limit: int = 5) -> list[Passage]:
        """Search the indexed documents for the passages that fit a query.

        Args:
            query: words to look for.
            limit: how many passages to return, at most 20.
        """
        return await index.search(query, min(max(limit, 1), 20))

    return Tool(search, effect="read")


def _set_up(db: sqlite3.Connection) -> None:
    """Make the tables, once; several may try at the same moment.

    SQLite does not wait for others when it turns the write-ahead log on, so this does.
    """
    deadline = time.monotonic() + LOCK_SECONDS
    while not db.execute("SELECT 1 FROM sqlite_master WHERE name = 'terms'").fetchone():
        try:
            db.executescript(_SCHEMA)
        except sqlite3.OperationalError as error:
            if not _is_locked(error) or time.monotonic() > deadline:
                raise
            time.sleep(LOCK_PAUSE_SECONDS)


def _is_locked(error: sqlite3.Error) -> bool:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in (
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
    )


@contextmanager
def _transaction(db: sqlite3.Connection) -> Iterator[None]:
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        db.execute("ROLLBACK")
        raise
    db.execute("COMMIT")


def _insert(db: sqlite3.Connection, passages: Sequence[Passage]) -> None:
    for passage in passages:
        number = db.execute(
            "INSERT INTO passages (source, heading, text) VALUES (?, ?, ?)",
            (passage.source, passage.heading, passage.text),
        ).lastrowid
        title = f"{Path(passage.source).stem} {passage.heading}"
        db.execute(
            "INSERT INTO terms (rowid, heading, body) VALUES (?, ?, ?)",
            (number, " ".join(index_terms(title)), " ".join(index_terms(passage.text))),
        )


def _delete(db: sqlite3.Connection, source: str) -> None:
    numbers = db.execute("SELECT id FROM passages WHERE source = ?", (source,)).fetchall()
    db.executemany("DELETE FROM terms WHERE rowid = ?", numbers)
    db.execute("DELETE FROM passages WHERE source = ?", (source,))


def _quoted(term: str) -> str:
    """Return a term as FTS5 text: what a user types is never its syntax."""
    return '"' + term.replace('"', '""') + '"'


def _walk(folder: Path) -> Iterator[Path]:
    for root, folders, files in os.walk(folder):
        folders[:] = sorted(
            name for name in folders if not name.startswith(".") and name not in SKIPPED_FOLDERS
        )
        for name in sorted(files):
            path = Path(root) / name
            if not name.startswith(".") and path.is_file():
                yield path


def _is_binary(path: Path) -> bool:
    with path.open("rb") as file:
        return b"\0" in file.read(4096)
