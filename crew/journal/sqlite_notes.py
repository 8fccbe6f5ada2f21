"""What SQLite keeps of notes: a row each, with its own checksum, and an index of their words."""

import sqlite3
import zlib
from collections.abc import Sequence
from dataclasses import astuple, replace

from crew.errors import StoreError
from crew.journal import RemoveNotes
from crew.journal.notes import (
    MOST_CANDIDATES,
    Forget,
    Note,
    NoteChange,
    asked_terms,
    best,
    place_of,
    terms_of,
)

_NOTE = "notes.id, tenant, scope, text, run, thread, at, row_crc"


def change_notes(db: sqlite3.Connection, changes: Sequence[NoteChange]) -> None:
    for change in changes:
        if isinstance(change, Note):
            _write(db, change)
        else:
            _forget(db, change)


def _write(db: sqlite3.Connection, note: Note) -> None:
    _remove(db, "id = ?", [note.id])
    marks = ", ".join("?" * 8)
    number = db.execute(
        f"INSERT INTO notes (id, tenant, scope, text, run, thread, at, row_crc) VALUES ({marks})",  # noqa: S608
        (*astuple(note), _check(note)),
    ).lastrowid
    words = (number, place_of(note.tenant, note.scope), " ".join(terms_of(note.text)))
    db.execute("INSERT INTO note_words (rowid, place, words) VALUES (?, ?, ?)", words)


def _forget(db: sqlite3.Connection, forget: Forget) -> None:
    conditions, values = ["tenant = ?"], [forget.tenant]
    for column, value in (("id", forget.note), ("scope", forget.scope), ("run", forget.run)):
        if value is not None:
            conditions.append(f"{column} = ?")
            values.append(value)
    _remove(db, " AND ".join(conditions), values)


def remove_notes(db: sqlite3.Connection, remove: RemoveNotes) -> None:
    where = "tenant = ? AND run NOT IN (SELECT id FROM runs)"
    if remove.threads is None:
        _remove(db, where, [remove.tenant])
    for thread in remove.threads or ():
        _remove(db, f"{where} AND thread = ?", [remove.tenant, thread])


def hand_notes(db: sqlite3.Connection, tenant: str, branch: str) -> None:
    """Make the notes of a branch those of its base; one that is damaged stays as it is."""
    query = "SELECT base FROM threads WHERE tenant = ? AND thread = ? AND base IS NOT NULL"
    for (base,) in db.execute(query, (tenant, branch)).fetchall():
        query = f"SELECT {_NOTE}, number FROM notes WHERE tenant = ? AND thread = ?"  # noqa: S608
        for *values, check, number in db.execute(query, (tenant, branch)).fetchall():
            note = Note(*values)
            if check == _check(note):
                handed = replace(note, thread=base)
                changed = "UPDATE notes SET thread = ?, row_crc = ? WHERE number = ?"
                db.execute(changed, (base, _check(handed), number))


def _remove(db: sqlite3.Connection, where: str, values: Sequence[str]) -> None:
    found = db.execute(f"SELECT number FROM notes WHERE {where}", values).fetchall()  # noqa: S608
    for table, column in (("note_words", "rowid"), ("notes", "number")):
        db.executemany(f"DELETE FROM {table} WHERE {column} = ?", found)  # noqa: S608  constants


def find_notes(
    db: sqlite3.Connection, tenant: str, scopes: Sequence[str], words: str, limit: int
) -> list[Note]:
    """Return notes of a tenant; see `Store.notes`.

    Raises:
        StoreError: one of them is damaged.
    """
    asked, found = asked_terms(words), list[Note]()
    for scope in scopes:
        if asked:
            query = (
                f"SELECT {_NOTE} FROM note_words JOIN notes ON notes.number = note_words.rowid "  # noqa: S608
                f"WHERE note_words MATCH ? AND tenant = ? AND scope = ? ORDER BY rank LIMIT ?"
            )
            any_of = " OR ".join(f'"{term}"' for term in asked)
            match = f'place : "{place_of(tenant, scope)}" AND words : ({any_of})'
            rows = db.execute(query, (match, tenant, scope, MOST_CANDIDATES))
        else:
            query = (
                f"SELECT {_NOTE} FROM notes WHERE tenant = ? AND scope = ? "  # noqa: S608
                f"ORDER BY at DESC, id DESC LIMIT ?"
            )
            rows = db.execute(query, (tenant, scope, limit))
        found += [_sound(stored) for stored in rows]
    return best(found, asked, limit)


def scrub_notes(db: sqlite3.Connection) -> None:
    """Merge the index, which else keeps words of notes that were removed."""
    db.execute("INSERT INTO note_words (note_words) VALUES ('optimize')")


def _sound(stored: Sequence[object]) -> Note:
    *values, check = stored
    note = Note(*values)  # type: ignore[arg-type]  as they were written
    if check != _check(note):
        raise StoreError(
            message=f"the note {note.id} is damaged in the store; restore a backup; nothing else "
            "is affected"
        )
    return note


def _check(note: Note) -> int:
    values = (*astuple(note)[:-1], float(note.at))
    return zlib.crc32(repr(values).encode("utf-8", "surrogatepass"))
