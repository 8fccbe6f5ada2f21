"""The schema of a journal in PostgreSQL, brought forward version by version."""

from importlib import resources

from crew.errors import StoreError
from crew.journal import shown
from crew.journal.postgres_link import Db

SCHEMA_VERSION = 8
FIRST_VERSION = 8
"""The oldest that is read: nothing was released with one before."""
_MIGRATING = 5_127_881_340
"""The advisory lock under which one process brings a database to this release's schema."""
_PATIENCE = "20s"
"""How long one waits for those that open the database before it."""


def prepare(db: Db, url: str) -> None:
    """Bring a database to this release's schema.

    Raises:
        StoreError: a newer release wrote it, or one that was never published, or its tables are
            somebody else's.
    """
    with db.transaction():
        # Before the look: a connection remembers what it did not find, whoever makes it meanwhile.
        db.execute("SELECT set_config('lock_timeout', %s, true)", (_PATIENCE,))
        db.execute("SELECT pg_advisory_xact_lock(%s)", (_MIGRATING,))
        version = _version(db, url)
        if version == 0:
            _refuse_foreign_tables(db, url)
            db.execute("CREATE TABLE crew_schema (version int NOT NULL)")
        for number in range(max(version + 1, FIRST_VERSION), SCHEMA_VERSION + 1):
            name = f"postgres_{number}.sql"
            script = resources.files("crew.journal").joinpath("sql", name).read_text("utf-8")
            db.execute(script)  # pyrefly: ignore
            db.execute("DELETE FROM crew_schema")
            db.execute("INSERT INTO crew_schema VALUES (%s)", (number,))


def _version(db: Db, url: str) -> int:
    """Return the version of the database's schema, 0 if it has none.

    Raises:
        StoreError: a newer release wrote it, or one that was never published.
    """
    found = db.execute("SELECT to_regclass('crew_schema')::text").fetchone()
    if found is None or found[0] is None:
        return 0
    row = db.execute("SELECT version FROM crew_schema").fetchone()
    version: int = row[0] if row else 0
    if version > SCHEMA_VERSION:
        raise StoreError(
            message=f"{shown(url)} was written by a newer release (schema {version}, this one "
            f"knows {SCHEMA_VERSION}); upgrade with `pip install -U raycrew`. Nothing was changed"
        )
    if 0 < version < FIRST_VERSION:
        raise StoreError(
            message=f"{shown(url)} was written by a development version (schema {version}), which "
            "no release reads; give journals a new database, or a schema: add "
            "?options=-csearch_path%3Dcrew to the address. Nothing was changed"
        )
    return version


def _refuse_foreign_tables(db: Db, url: str) -> None:
    names = ["runs", "events", "snapshots", "letters", "blobs", "blob_uses", "owners", "writers"]
    names += ["accounts", "threads", "notes", "tags"]
    query = "SELECT name FROM unnest(%s::text[]) AS name WHERE to_regclass(name) IS NOT NULL"
    if taken := [name for (name,) in db.execute(query, (names,))]:
        raise StoreError(
            message=f"{shown(url)} has tables of its own named {', '.join(taken)}; give journals a "
            "database of their own, or a schema: add ?options=-csearch_path%3Dcrew to the address"
        )
