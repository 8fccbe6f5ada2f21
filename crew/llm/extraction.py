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


def json_in(text: str, schema: Json = None) -> str:
    """Return the JSON value in a text; the text as it is if there is none.

    What is JSON as a whole comes first, then what is in a code fence, then the longest object or
    list that is among prose.

    Args:
        text: what was written.
        schema: of the value; an object that lacks what it requires is none then, so that words are
            not taken for what they mention.
    """
    bare = text.strip().lstrip("\ufeff")
    value = _read(bare)
    if isinstance(value, str) and isinstance(_read(value), (dict, list)):
        return value  # JSON that was encoded twice
    if value is not None or bare == "null":
        return bare
    fitting = (found for found in _candidates(bare) if _has_required(_read(found), schema))
    return next(fitting, text)


def _candidates(text: str) -> Iterator[str]:
    for found in _FENCED.finditer(text):
        yield found[1].strip()
    yield from sorted(_within(text), key=len, reverse=True)


def _has_required(value: Json, schema: Json) -> bool:
    if value is None or not isinstance(schema, dict) or not schema.get("required"):
        return value is not None
    return isinstance(value, dict) and value.keys() >= set(schema["required"])


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
