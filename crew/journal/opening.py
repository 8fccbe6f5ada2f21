"""From a store's address to the store."""

from pathlib import Path

from crew.errors import ExtraMissing, StoreError
from crew.journal import Store, shown

_IN_MEMORY = (":memory:", "memory:", "sqlite://", "sqlite:///:memory:")


def open_store(url: str) -> Store:
    """Open the store at an address.

    Args:
        url: `sqlite:///relative/path`, `sqlite:////absolute/path` or `sqlite:///~/path`,
            `postgresql://…`, or `:memory:`, also as SQLAlchemy writes it (`sqlite:///:memory:`).

    Raises:
        StoreError: the address is not understood, or what lies there is no journal.
        ExtraMissing: the store needs a package that is not installed.
    """
    if url in _IN_MEMORY:
        from crew.journal.memory import MemoryStore

        return MemoryStore()
    if url.startswith("sqlite:///"):
        from crew.journal.sqlite import SqliteStore  # only where it is used: it needs fcntl

        return SqliteStore(_path_in(url))
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


def _path_in(url: str) -> Path:
    path, mark, options = url.removeprefix("sqlite:///").partition("?")
    if mark:
        raise StoreError(
            message=f"{shown(url)!r} has options (?{options}), and a store in a file takes none; "
            "leave them out"
        )
    if not path:
        raise StoreError(message=f"{url!r} names no file; write sqlite:///path/to/file.db")
    return Path(path).expanduser()
