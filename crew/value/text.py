"""JSON as text: for databases, for fingerprints, and for people."""

import json
from typing import Any

from pydantic import BaseModel
from pydantic_core import PydanticSerializationError, to_json, to_jsonable_python

from crew.errors import OutputInvalid
from crew.message import Json
from crew.value.same import shown


def canonical(value: object) -> str:
    """Return arguments as JSON text that is equal for equal values, for fingerprints.

    Raises:
        OutputInvalid: it holds something that is not data, such as a connection or a function.
    """
    try:
        plain = to_jsonable_python(_sorted_sets(value), inf_nan_mode="strings")
        return json.dumps(plain, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    except (PydanticSerializationError, TypeError, ValueError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise OutputInvalid(
            message=f"an argument of a journalled call must be data (JSON, dataclass or pydantic "
            f"model), got {shown(value)}: {reason}"
        ) from error


def json_text(value: Json) -> str:
    """Return JSON as compact text that any database takes."""
    try:
        return to_json(value).decode()
    except PydanticSerializationError:
        # A lone surrogate has no UTF-8; escaped it is JSON all the same.
        return json.dumps(value, separators=(",", ":"))


def text_of(value: Json) -> str:
    """Return what a person reads of an encoded input or output: itself, its `text`, or its JSON."""
    if isinstance(value, str):
        return value
    if isinstance(value, dict) and isinstance(value.get("text"), str):
        return value["text"]
    return json.dumps(value, ensure_ascii=False)


def _sorted_sets(value: Any) -> Any:
    if isinstance(value, (set, frozenset)):
        return sorted((_sorted_sets(item) for item in value), key=canonical)
    if isinstance(value, BaseModel):
        return _sorted_sets(value.model_dump())
    if isinstance(value, dict):
        return {key: _sorted_sets(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_sorted_sets(item) for item in value]
    return value
