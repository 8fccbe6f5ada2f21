"""The JSON in what a model wrote: between prose, in a fence, or as a string of its own."""

import json
import re
from collections.abc import Iterator
from itertools import islice

from crew.message import Json

__all__ = ["json_in"]

MOST_TRIED = 1000
"""Brackets in a text from which JSON may begin."""
_FENCED = re.compile(r"```[\w-]*[ \t]*\n(.*?)```", re.DOTALL)
_OPENS = re.compile(r"[{\[]")
_DECODER = json.JSONDecoder(strict=False)


def json_in(text: str) -> str:
    """Return the JSON value in a text; the text as it is if there is none.

    What is JSON as a whole comes first, then what is in a code fence, then the longest object or
    list that is among prose.
    """
    for candidate in _candidates(text.strip().lstrip("\ufeff")):
        value = _read(candidate)
        if isinstance(value, str) and isinstance(_read(value), (dict, list)):
            return value  # JSON that was encoded twice
        if value is not None or candidate == "null":
            return candidate
    return text


def _candidates(text: str) -> Iterator[str]:
    yield text
    for found in _FENCED.finditer(text):
        yield found[1].strip()
    yield max(_within(text), key=len, default="")


def _within(text: str) -> Iterator[str]:
    """Yield the objects and lists in a text that are in no other."""
    end = 0
    for found in islice(_OPENS.finditer(text), MOST_TRIED):
        if found.start() < end:
            continue
        try:
            _, end = _DECODER.raw_decode(text, found.start())
        except (ValueError, RecursionError):
            continue
        yield text[found.start() : end]


def _read(text: str) -> Json:
    try:
        return _DECODER.decode(text)
    except (ValueError, RecursionError):
        return None
