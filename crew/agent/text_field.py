"""The `text` of an answer in JSON, passed on while the JSON grows."""

import json
import re
from collections.abc import Callable

__all__ = ["FIELD", "TextField"]

FIELD = "text"
"""What a person reads of an answer that has such a field; see `crew.value.text_of`."""
_WHOLE = re.compile(r'(?:[^"\\]|\\(?:[^u]|u[0-9a-fA-F]{4}))*')
"""What of the inside of a string is whole: no escape is cut off."""
_SPLIT_PAIR = re.compile(r"\\u[dD][89abAB][0-9a-fA-F]{2}$")
"""An escape that means nothing without the next one."""


class TextField:
    """Finds the field in a JSON object that comes in pieces, and passes on what comes of its text.

    Args:
        add: gets each further part of the text.
    """

    def __init__(self, add: Callable[[str], None]) -> None:
        self._add = add
        self._rest = ""
        """What has come and was not understood yet."""
        self._depth = 0
        self._key: str | None = None
        """The last string directly in the object."""
        self._is_value = False
        """Whether the value of that key begins next."""
        self._is_in = False
        """Whether what comes is the text."""

    def add(self, piece: str) -> None:
        """Take the next piece of the JSON."""
        self._rest += piece
        while self._rest and self._step():
            pass

    def _step(self) -> bool:
        """Understand the beginning of the rest; return whether it was enough for that."""
        if self._is_in:
            return self._passed_on()
        if self._rest[0] == '"' and self._depth:
            return self._string()
        character, self._rest = self._rest[0], self._rest[1:]
        if character in "{[":
            self._depth += 1
        elif character in "}]":
            self._depth -= 1
        if self._depth == 1:
            # White space leaves it: between a colon and its value there may be some.
            self._is_value = character == ":" or (self._is_value and character.isspace())
        return True

    def _string(self) -> bool:
        is_direct = self._depth == 1
        if is_direct and self._is_value and self._key == FIELD:
            self._rest, self._is_in = self._rest[1:], True
            return True
        found = _WHOLE.match(self._rest, 1)
        end = found.end() if found is not None else 1
        if self._rest[end : end + 1] != '"':
            return False
        if is_direct:
            self._key = None if self._is_value else json.loads(self._rest[: end + 1])
            self._is_value = False
        self._rest = self._rest[end + 1 :]
        return True

    def _passed_on(self) -> bool:
        """Pass on what of the text is whole."""
        found = _WHOLE.match(self._rest)
        whole = found[0] if found is not None else ""
        is_end = self._rest[len(whole) : len(whole) + 1] == '"'
        if not is_end and (pair := _SPLIT_PAIR.search(whole)) is not None:
            whole = whole[: pair.start()]
        if whole:
            self._add(json.loads(f'"{whole}"', strict=False))
        self._rest = self._rest[len(whole) :]
        if is_end:
            self._rest = self._rest[1:]
            self._is_in = self._is_value = False
            self._key = None
        return is_end
