"""Notes on what of a request was not read: in a header of the answer, and once in the log."""

import logging
from collections.abc import Sequence

__all__ = ["NOTE", "Noted", "header_text"]

NOTE = "X-Crew-Note"
"""The header."""
MOST_HEADER_CHARACTERS = 500
MOST_LOGGED = 256
"""Different notes that are logged in one process."""

logger = logging.getLogger(__name__)


def header_text(notes: Sequence[str]) -> str:
    """Return notes as a header may hold them: the names in them are the client's."""
    text = "; ".join(notes)[:MOST_HEADER_CHARACTERS]
    return "".join(letter if " " <= letter <= "~" else "?" for letter in text)


class Noted:
    """Logs each note once: a front end sends the same with every request."""

    def __init__(self) -> None:
        self._seen: set[tuple[str, str]] = set()

    def log(self, workflow: str, notes: Sequence[str]) -> None:
        """Log what was not logged yet."""
        for note in notes:
            if (workflow, note) in self._seen or len(self._seen) >= MOST_LOGGED:
                continue
            self._seen.add((workflow, note))
            logger.info("request.not_read", extra={"workflow": workflow, "note": note})
