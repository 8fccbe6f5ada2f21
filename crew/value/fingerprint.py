"""What arguments are told apart by, of big ones: the text of `canonical`, line by line."""

from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel

from crew.value.document import lines
from crew.value.schema import holds
from crew.value.text import canonical

_OWN_WAYS = frozenset({"serialization", "computed_fields", "root_model"})
"""What makes a model something else than its fields where it is dumped."""


def canonical_lines(value: object) -> Iterator[str]:
    """Yield what `canonical` returns, in parts of which none takes long.

    Raises:
        OutputInvalid: as there.
    """
    return lines(value, canonical, _opened)


def _opened(value: Any) -> Any:
    """Return a long value as the list or dict that it is in JSON, if it is one, or the text."""
    if isinstance(value, BaseModel):
        return _opened(_fields(value))
    if isinstance(value, dict):
        is_named = all(type(key) is str for key in value)
        return dict(sorted(value.items())) if is_named else None
    return list(value) if isinstance(value, tuple) else value


def _fields(value: BaseModel) -> dict[str, Any]:
    schema: Any = type(value).__pydantic_core_schema__
    if value.__pydantic_extra__ or holds(schema, _OWN_WAYS):
        return value.model_dump()
    return value.__dict__
