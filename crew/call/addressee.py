"""Whom a question is for: the role, or the name, of the person who is to answer it."""

from crew.errors import GraphError
from crew.message import Json

__all__ = ["addressed", "problem_of"]

MOST_CHARACTERS = 64
"""Of a role; a key's roles are as long at most."""


def addressed(to: str | None) -> dict[str, Json]:
    """Return what the record of a question says of whom it is for: nothing for None.

    Raises:
        GraphError: it is no role.
    """
    if problem := problem_of(to):
        raise GraphError(message=problem)
    return {} if to is None else {"to": to}


def problem_of(to: object) -> str:
    """Return why this is nobody whom a question may be for; "" if it is."""
    if to is None:
        return ""
    if isinstance(to, str) and to.isprintable() and 0 < len(to) <= MOST_CHARACTERS:
        return ""
    return (
        f"to= is a role or a name, as in keys.toml, of 1 to {MOST_CHARACTERS} printable "
        f"characters, such as to='manager'; not {to!r:.80}"
    )
