"""The JSON in what a model wrote: between prose, in a fence, or as a string of its own."""

import json
import re
from collections.abc import Iterator

from crew.message import Json

__all__ = ["json_in"]

_FENCED = re.compile(r"```[\w-]*[ \t]*\n(.*?)```", re.DOTALL)
_OPENS = re.compile(r"[{\[]")
_DECODER = json.JSONDecoder(strict=False)


def json_in(text: str) -> str:
    """Return the JSON value in a text; the text as it is if there is none.

    What is JSON as a whole comes first, then what is in a code fence, then the first object or
    list that begins anywhere.
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
    for found in _OPENS.finditer(text):
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
