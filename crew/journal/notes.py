"""Notes: what is written down to be found again by its words, and the rules of it.

All of it is pure. Every store asks here; its index only says which notes hold one of some words.
"""

import hashlib
import heapq
from collections.abc import Iterable, Sequence
from typing import TypeAlias

from crew.define import frozen

__all__ = [
    "MOST_CANDIDATES",
    "MOST_CHARACTERS",
    "Forget",
    "Note",
    "NoteChange",
    "asked_terms",
    "best",
    "is_meant",
    "place_of",
    "terms_of",
]

MOST_CHARACTERS = 8_000
"""Of a note: it is found whole."""
MOST_CANDIDATES = 256
"""How many notes an index gives at most, the rarest words first, before they are put in order."""
_MOST_TERMS = 64
"""Of what is looked for; what follows them is not read."""
_LONGEST_TERM = 64
"""Characters; a longer word is found by its beginning."""


@frozen
class Note:
    """Something that a run wrote down.

    Args:
        id: that of the place where it was written; another one of that place takes this one's.
        tenant: whose it is.
        scope: a name that its writer gave, such as `user:eva`; empty for the tenant's own.
        text: what it says.
        run: the id of the run that wrote it.
        thread: the conversation of that run, or of the run it is a child of.
        at: when it was written, in unix seconds.
    """

    id: str
    tenant: str
    scope: str
    text: str
    run: str
    thread: str | None
    at: float


@frozen
class Forget:
    """Remove the notes of a tenant that are all of this: the one, of the scope, of the run."""

    tenant: str
    note: str | None = None
    scope: str | None = None
    run: str | None = None


NoteChange: TypeAlias = Note | Forget


def is_meant(note: Note, forget: Forget) -> bool:
    """Return whether a note is to be removed."""
    return (
        note.tenant == forget.tenant
        and forget.note in (None, note.id)
        and forget.scope in (None, note.scope)
        and forget.run in (None, note.run)
    )


def terms_of(text: str) -> list[str]:
    """Return the terms under which a text is found, each once; none holds a quote or a blank."""
    from crew.value.words import index_terms  # only where there are notes

    return list(dict.fromkeys(map(_term, index_terms(text))))


def asked_terms(words: str) -> list[str]:
    """Return the terms of what is looked for; none, if it holds no word."""
    from crew.value.words import query_terms  # only where there are notes

    return list(dict.fromkeys(map(_term, query_terms(words))))[:_MOST_TERMS]


def _term(word: str) -> str:
    # The dots in numbers are no part of a word to some indexes.
    return word[:_LONGEST_TERM].replace(".", "·")


def place_of(tenant: str, scope: str) -> str:
    """Return a term that all notes of a scope have, and no other one."""
    return hashlib.sha256(f"{tenant}\0{scope}".encode()).hexdigest()[:32]


def best(found: Iterable[Note], asked: Sequence[str], limit: int) -> list[Note]:
    """Return those notes first that hold the most of the words, of these the newest."""

    def merit(note: Note) -> tuple[int, float, str]:
        held = set(asked).intersection(terms_of(note.text)) if asked else ()
        return len(held), note.at, note.id

    return heapq.nlargest(limit, found, key=merit)
