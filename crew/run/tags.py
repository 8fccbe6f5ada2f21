"""What runs are found by of their metadata: a tag for each name and value.

A tag is a hash, so that a value of any size is found by an index, and none is kept twice.
"""

import hashlib
from collections.abc import Mapping

from crew.message import Json
from crew.value import canonical

_CHARACTERS = 32


def tags_of(metadata: Mapping[str, Json]) -> tuple[str, ...]:
    """Return the tags of a run with this metadata, or of those runs that have at least this."""
    return tuple(_tag(canonical(pair)) for pair in metadata.items())


def _tag(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:_CHARACTERS]
