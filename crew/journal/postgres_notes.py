"""What PostgreSQL keeps of notes, within a transaction that is under way."""

from collections.abc import Sequence
from typing import Any, LiteralString

from crew.journal import RemoveNotes
from crew.journal.notes import (
    MOST_CANDIDATES,
    Forget,
    Note,
    NoteChange,
    asked_terms,
    best,
    terms_of,
)
from crew.journal.postgres_link import Db, Link

_NOTE: LiteralString = "SELECT id, tenant, scope, text, run, thread, at FROM notes "
_WRITE = (
    "INSERT INTO notes VALUES (%s, %s, %s, %s, %s, %s, %s, array_to_tsvector(%s::text[])) "
    "ON CONFLICT (id) DO UPDATE SET scope = excluded.scope, text = excluded.text, "
    "at = excluded.at, words = excluded.words"
)
_FORGET = (
    "DELETE FROM notes WHERE tenant = %s AND (%s::text IS NULL OR id = %s) "
    "AND (%s::text IS NULL OR scope = %s) AND (%s::text IS NULL OR run = %s)"
)
_REMOVE = (
    "DELETE FROM notes WHERE tenant = %s AND (%s::text[] IS NULL OR thread = ANY(%s)) "
    "AND NOT EXISTS (SELECT 1 FROM runs WHERE runs.id = notes.run)"
)


def change_notes(db: Db, changes: Sequence[NoteChange]) -> None:
    for change in changes:
        match change:
            case Note(id=name, tenant=tenant, scope=scope, text=text, run=run, thread=thread):
                row = (name, tenant, scope, text, run, thread, change.at, terms_of(text))
                db.execute(_WRITE, row)
            case Forget(tenant=tenant, note=note, scope=scope, run=run):
                db.execute(_FORGET, (tenant, note, note, scope, scope, run, run))


def remove_notes(db: Db, remove: RemoveNotes) -> None:
    threads = None if remove.threads is None else list(remove.threads)
    db.execute(_REMOVE, (remove.tenant, threads, threads))


def find_notes(
    link: Link, tenant: str, scopes: Sequence[str], words: str, limit: int
) -> list[Note]:
    """Return notes of a tenant; see `Store.notes`."""
    asked, found = asked_terms(words), list[Note]()
    any_of = " | ".join(f"'{term}'" for term in asked)
    for scope in scopes:
        values: tuple[Any, ...] = (tenant, scope)
        if asked:
            query = (
                f"{_NOTE} WHERE tenant = %s AND scope = %s AND words @@ %s::tsquery "
                "ORDER BY ts_rank(words, %s::tsquery) DESC LIMIT %s"
            )
            values += (any_of, any_of, MOST_CANDIDATES)
        else:
            query = f"{_NOTE} WHERE tenant = %s AND scope = %s ORDER BY at DESC, id DESC LIMIT %s"
            values += (limit,)
        found += [Note(*row) for row in link.execute(query, values)]
    return best(found, asked, limit)
