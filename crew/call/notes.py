"""`ctx.notes`: what runs write down for later ones, and find again by its words."""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from crew.call.driven import Driven
from crew.call.place import Place
from crew.call.record import fingerprint_of, idempotency_key
from crew.errors import GraphError, OutputInvalid
from crew.fold.calls import Record
from crew.journal.notes import MOST_CHARACTERS, Note
from crew.message import Json

__all__ = ["Notes"]

MOST_ASKED = 100
"""Notes that one search gives at most."""


class Notes:
    """The notes of the run's tenant, as the code of one attempt changes and finds them.

    Args:
        driver: that of the attempt.
        place: gives the place of a call, by its name and key.
    """

    def __init__(self, driver: Driven, place: Callable[[str, str | None], Place]) -> None:
        self._driver, self._place = driver, place

    async def write(self, text: str, *, scope: str = "", key: str | None = None) -> str:
        """Write a note, and return its id; it is there once the call is on record, and once.

        A further attempt of the step writes it anew, in the place of what the last one wrote.

        Args:
            text: what it says: a text of up to 8,000 characters.
            scope: who it is for, by a name of your own, such as `user:eva` or `agent:desk`; it is
                found there alone. Empty: the whole tenant's.
            key: a name that keeps the call's place when the code around it changes.

        Raises:
            OutputInvalid: it is no such text.
        """
        text, scope = _text("a note", text), _text("its scope", scope)
        place = self._place("notes.write", key)
        name = idempotency_key(self._driver.run_id, place.lasting_path)
        record = await self._begun(place, text, scope)
        if record is None:
            await self._driver.write_note(place.path, name, text, scope)
        return name

    async def search(
        self, words: str = "", *, scope: str | Sequence[str] = "", limit: int = 5
    ) -> list[Note]:
        """Return notes that hold one of the words; first those with the most, then the newest.

        What was found is on record, so that code which is entered again finds the same.

        Args:
            words: what is looked for, in any form of the words; without one the newest notes.
            scope: where, or in which ones together.
            limit: how many at most, 1 to 100.

        Raises:
            GraphError: the limit is another number.
        """
        if type(limit) is not int or not 1 <= limit <= MOST_ASKED:
            raise GraphError(message=f"ctx.notes.search(limit={limit!r}): 1 to {MOST_ASKED} notes")
        scopes = [scope] if isinstance(scope, str) else [*scope]
        words, scopes = _text("words", words), [_text("a scope", each) for each in scopes]
        place = self._place("notes.search", None)
        record = await self._begun(place, words, scopes, limit)
        found: list[Json]
        if record is None:
            notes = await self._driver.find_notes(place.path, scopes, words, limit)
            found = [asdict(note) for note in notes]
        else:
            found = record.result["value"]
        await self._driver.turn(place.path)
        return [Note(**each) for each in found]

    async def forget(
        self,
        note: str | None = None,
        *,
        scope: str | None = None,
        run: str | None = None,
        key: str | None = None,
    ) -> None:
        """Remove the notes of the tenant that are all of what is said; no search finds them again.

        What prompts and answers hold of them stays in the journals of their runs.

        Args:
            note: the id of one.
            scope: that of all.
            run: the id of the run that wrote them.
            key: a name that keeps the call's place when the code around it changes.

        Raises:
            GraphError: nothing is said.
        """
        if note is None and scope is None and run is None:
            raise GraphError(
                message="ctx.notes.forget() would forget all notes of the tenant; say which: a "
                "note's id, scope=, or run="
            )
        place = self._place("notes.forget", key)
        if await self._begun(place, note, scope, run) is None:
            await self._driver.forget_notes(place.path, note=note, scope=scope, run=run)

    async def _begun(self, place: Place, *given: Any) -> Record | None:
        """Return what is on record of a call, or None if it is to be made."""
        fingerprint = fingerprint_of(place.name, list(given))
        record = await self._driver.begin(place.path, "value", fingerprint, {})
        return record if record is not None and record.state == "completed" else None


def _text(what: str, text: object) -> str:
    """Return a text that any store takes.

    Raises:
        OutputInvalid: it is something else, or too long.
    """
    if not isinstance(text, str) or len(text) > MOST_CHARACTERS:
        raise OutputInvalid(
            message=f"{what} is a text of up to {MOST_CHARACTERS} characters, not {text!r:.200}"
        )
    if "\0" in text or any("\ud800" <= character <= "\udfff" for character in text):
        raise OutputInvalid(message=f"{what} holds what UTF-8 cannot, or a NUL: {text!r:.200}")
    return text
