"""What pydantic's core schema of an annotation says of its values."""

from typing import Any

_PARTS = ("schema", "items_schema", "keys_schema", "values_schema")
"""Where a core schema of one of these types holds those of its parts."""
_WITHOUT_FLOATS = frozenset(
    {"str", "int", "bool", "none", "nullable", "default", "list", "dict"}
    | {"model", "model-fields", "model-field"}
)


def mentions(schema: Any, wanted: set[str]) -> bool:
    """Return whether a part of a schema is of one of these types."""
    if isinstance(schema, dict):
        return schema.get("type") in wanted or any(mentions(v, wanted) for v in schema.values())
    return isinstance(schema, (list, tuple)) and any(mentions(item, wanted) for item in schema)


def holds(schema: Any, names: frozenset[str]) -> bool:
    """Return whether a schema says anything under one of these names, at any depth."""
    if isinstance(schema, dict):
        named = any(schema.get(name) for name in names)
        return named or any(holds(part, names) for part in schema.values())
    return isinstance(schema, (list, tuple)) and any(holds(item, names) for item in schema)


def gives_no_float(schema: Any) -> bool:
    """Return whether what a schema validates is dumped without floats, for certain."""
    if schema["type"] not in _WITHOUT_FLOATS or "serialization" in schema:
        return False
    config = schema.get("config") or {}
    if config.get("extra_fields_behavior") == "allow" or schema.get("computed_fields"):
        return False
    parts = [schema[name] for name in _PARTS if name in schema]
    if schema["type"] == "model-fields":
        parts = list(schema["fields"].values())
    return all(gives_no_float(part) for part in parts)


def is_light(schema: Any) -> bool:
    """Return whether what a schema of a model validates is numbers, flags and dates alone."""
    if schema["type"] == "model-fields":
        return all(is_light(field) for field in schema["fields"].values())
    if schema["type"] in ("model", "model-field", "default", "nullable"):
        return is_light(schema["schema"])
    return schema["type"] in _LIGHT


_LIGHT = frozenset({"int", "float", "bool", "none", "date", "time", "datetime", "timedelta"})
