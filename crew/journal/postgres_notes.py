"""What PostgreSQL keeps of notes, within a transaction that is under way."""

from collections.abc import Sequence
from typing import Any, LiteralString

from crew.journal import RemoveNotes
from crew.journal.notes import (
    MOST_CANDIDATES,
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

_HAND = (
    "UPDATE notes SET thread = threads.base FROM threads WHERE threads.tenant = %s "
    "AND threads.thread = %s AND threads.base IS NOT NULL AND notes.tenant = threads.tenant "
    "AND notes.thread = threads.thread"
)


def change_notes(db: Db, changes: Sequence[NoteChange]) -> None:
    for change in changes:
        if isinstance(change, Note):
            of_text = (change.text, change.run, change.thread, change.at, terms_of(change.text))
            db.execute(_WRITE, (change.id, change.tenant, change.scope, *of_text))
        else:
            scope, run = change.scope, change.run
            of_note = (change.tenant, change.note, change.note)
            db.execute(_FORGET, (*of_note, scope, scope, run, run))


def remove_notes(db: Db, remove: RemoveNotes) -> None:
    threads = None if remove.threads is None else list(remove.threads)
    db.execute(_REMOVE, (remove.tenant, threads, threads))


def hand_notes(db: Db, tenant: str, branch: str | None) -> None:
    """Make the notes of a branch those of its base."""
    db.execute(_HAND, (tenant, branch))


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
