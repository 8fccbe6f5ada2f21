"""The arguments of a tool call, as models write them: an object, its text, or its text twice."""

import json
from typing import Any, cast

from crew.llm.wire import INVALID_ARGUMENTS
from crew.message import Json

__all__ = ["read_arguments"]

_NESTED = {"[": "array", "{": "object"}


def read_arguments(written: Json, schema: dict[str, Json] | None) -> dict[str, Json]:
    """Return the arguments of a call, or the text they are under `INVALID_ARGUMENTS`.

    Args:
        written: what the endpoint sent.
        schema: the tool's; a list or an object that it wants, and that came as text, is read.
    """
    if written is None or written == "":
        return {}
    arguments = written if isinstance(written, dict) else _decoded(str(written))
    if not isinstance(arguments, dict):
        return {INVALID_ARGUMENTS: str(written)}
    if schema is None:
        return arguments
    return cast("dict[str, Json]", _unfolded(arguments, schema, schema.get("$defs") or {}))


def _decoded(text: str) -> Json:
    value = _read(text)
    if isinstance(value, str):  # encoded twice
        value = _read(value)
    if value is None and text.strip() in ("null", '""'):
        return dict[str, Json]()
    return value


def _read(text: str) -> Json:
    try:
        # Not strict: small models forget to escape a line's end.
        return json.loads(text or "null", strict=False, parse_constant=_refused)
    except (ValueError, RecursionError):
        return None


def _refused(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


def _unfolded(value: Json, schema: Json, definitions: dict[str, Json]) -> Json:
    """Return a value with each text in it read whose place takes a list or an object alone."""
    choices = _choices(schema, definitions)
    if isinstance(value, str):
        return _unfolded_text(value, choices)
    for choice in choices:
        if isinstance(value, dict) and isinstance(known := choice.get("properties"), dict):
            return {
                name: _unfolded(item, known.get(name), definitions) for name, item in value.items()
            }
        if isinstance(value, list) and isinstance(choice.get("items"), dict):
            return [_unfolded(item, choice["items"], definitions) for item in value]
    return value


def _unfolded_text(text: str, choices: list[dict[str, Json]]) -> Json:
    wanted = {choice.get("type") for choice in choices}
    kind = _NESTED.get(text.lstrip()[:1])
    if kind not in wanted or not wanted <= {"array", "object", "null"}:
        return text
    found = _read(text)
    return found if isinstance(found, (list, dict)) else text


def _choices(schema: Json, definitions: dict[str, Json]) -> list[dict[str, Json]]:
    """Return the schemas that a value may follow, with references and unions resolved."""
    if not isinstance(schema, dict):
        return []
    if isinstance(name := schema.get("$ref"), str):
        return _choices(definitions.get(name.rsplit("/", 1)[-1]), definitions)
    union = schema.get("anyOf") or schema.get("oneOf")
    if isinstance(union, list):
        return [found for each in union for found in _choices(each, definitions)]
    return [schema]
