"""From a store's address to the store."""

from pathlib import Path

from crew.errors import ExtraMissing, StoreError
from crew.journal import Store, shown
from crew.journal.memory import MemoryStore


def open_store(url: str) -> Store:
    """Open the store at `sqlite:///relative/path`, `sqlite:////absolute/path` or `:memory:`.

    Raises:
        StoreError: the address is not understood, or what lies there is no journal.
        ExtraMissing: the store needs a package that is not installed.
    """
    if url in (":memory:", "memory:"):
        return MemoryStore()
    if url.startswith("sqlite:///"):
        from crew.journal.sqlite import SqliteStore  # only where it is used: it needs fcntl

        return SqliteStore(Path(url.removeprefix("sqlite:///")))
    if url.startswith(("postgresql://", "postgres://")):
        try:
            from crew.journal.postgres import PostgresStore  # only where it is used: an extra
        except ImportError as error:
            raise ExtraMissing(message="a journal in PostgreSQL", extra="postgres") from error
        return PostgresStore(url)
    raise StoreError(
        message=f"{shown(url)!r} is not a store; use sqlite:///path/to/file.db, postgresql://… "
        "or :memory:"
    )
