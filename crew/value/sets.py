"""Sets as they are stored: sorted, so that equal ones have equal bytes."""

import json
from collections import deque
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from crew.message import Json


def with_sorted_sets(value: Any, plain: Any) -> Any:
    """Sort what was dumped of sets, at any depth; `plain` is the dump of `value`."""
    # Not by RootModel: to import it makes a model, which loads pydantic's plugins.
    if isinstance(value, BaseModel) and type(value).__pydantic_root_model__:
        value = value.root  # type: ignore[attr-defined]
    if isinstance(value, (set, frozenset)) and isinstance(plain, list):
        items = list(map(with_sorted_sets, value, plain))
        return sorted(items, key=lambda item: json.dumps(item, sort_keys=True))
    if isinstance(plain, dict):
        parts = _parts(value, plain)
        return {name: with_sorted_sets(parts.get(name), item) for name, item in plain.items()}
    if isinstance(plain, list) and isinstance(value, (list, tuple, deque)):
        return list(map(with_sorted_sets, value, plain))
    return plain


def _parts(value: Any, plain: dict[str, Json]) -> dict[str, Any]:
    """Return what each key of a dump was made of, as far as that can be told."""
    if isinstance(value, Mapping):
        return dict(zip(plain, value.values(), strict=False))
    return {name: getattr(value, name, None) for name in plain}
