"""What is proven to come back as it was: a closed list of types, decided from their schema.

A value that is exactly of such a type is written by hand, in a fraction of the time that pydantic
takes, and its copy needs no comparison.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

from crew.message import Json

Write = Callable[[Any], Json]

_BARE = frozenset({"type", "strict", "metadata", "ref"})
_ALLOWED: dict[str, frozenset[str]] = {
    "str": _BARE | {"min_length", "max_length", "pattern"},
    "int": _BARE | {"ge", "gt", "le", "lt", "multiple_of"},
    "float": _BARE | {"ge", "gt", "le", "lt", "multiple_of", "allow_inf_nan"},
    "bool": _BARE,
    "none": _BARE,
    "nullable": _BARE | {"schema"},
    "default": _BARE
    | {"schema", "default", "default_factory", "default_factory_takes_data", "validate_default"},
    "list": _BARE | {"items_schema", "min_length", "max_length"},
    "dict": _BARE | {"keys_schema", "values_schema", "min_length", "max_length"},
    "model": _BARE | {"cls", "schema", "config", "custom_init", "root_model", "frozen"},
    "model-fields": _BARE | {"fields", "model_name", "computed_fields", "extra_behavior"},
    "model-field": _BARE | {"schema", "frozen"},
}
"""What the schema of an exact type may hold; anything else may change a value."""
_CONFIG = frozenset({"title", "extra_fields_behavior", "frozen", "strict"})


class Inexact(Exception):
    """The value is not exactly of the type."""


def exact_writer(schema: Mapping[str, Any]) -> Write | None:
    """Return what writes the values of a core schema as JSON, if they surely come back the same.

    What it returns raises `Inexact` or KeyError for a value that is not exactly of the type: such
    a one must be compared.
    """
    kind = schema["type"]
    if not schema.keys() <= _ALLOWED.get(kind, frozenset()):
        return None
    if kind in _WRITERS:
        return _WRITERS[kind]
    if kind in ("default", "model-field"):
        return exact_writer(schema["schema"])
    if kind == "model":
        return _model_writer(schema)
    part = {"list": "items_schema", "dict": "values_schema"}.get(kind, "schema")
    inner = exact_writer(schema[part]) if part in schema else None
    if inner is None:
        return None
    if kind == "dict":
        keys = schema.get("keys_schema", {})
        is_plain = keys.get("type") == "str" and keys.keys() <= _ALLOWED["str"]
        return _dict_writer(inner) if is_plain else None
    return {"nullable": _nullable_writer, "list": _list_writer}[kind](inner)


def scalar_writer(schema: Mapping[str, Any]) -> Write | None:
    """Return what writes text, numbers, flags or None of which the schema says nothing more."""
    return _WRITERS.get(schema["type"]) if schema.keys() <= _BARE else None


def is_plain_model(schema: Mapping[str, Any]) -> bool:
    """Return whether a model is its fields, and nothing else."""
    cls, inner, config = schema["cls"], schema["schema"], schema.get("config") or {}
    return (
        schema.keys() <= _ALLOWED["model"]
        and inner["type"] == "model-fields"
        and inner.keys() <= _ALLOWED["model-fields"]
        and not inner.get("computed_fields")
        and config.keys() <= _CONFIG
        and "allow" not in (config.get("extra_fields_behavior"), inner.get("extra_behavior"))
        and not (schema.get("custom_init") or schema.get("root_model"))
        and not cls.__private_attributes__
    )


def _model_writer(schema: Mapping[str, Any]) -> Write | None:
    if not is_plain_model(schema):
        return None
    cls, fields_schema = schema["cls"], schema["schema"]["fields"]
    writers = {name: exact_writer(field) for name, field in fields_schema.items()}
    fields = [(name, writer) for name, writer in writers.items() if writer is not None]
    if len(fields) < len(writers):
        return None

    def write(value: Any) -> Json:
        if type(value) is not cls:
            raise Inexact
        held = value.__dict__
        return {name: writer(held[name]) for name, writer in fields}

    return write


def _list_writer(inner: Write) -> Write:
    def write(value: Any) -> Json:
        if type(value) is not list:
            raise Inexact
        return [inner(item) for item in value]

    return write


def _dict_writer(inner: Write) -> Write:
    def write(value: Any) -> Json:
        if type(value) is not dict:
            raise Inexact
        return {_string(key): inner(item) for key, item in value.items()}

    return write


def _nullable_writer(inner: Write) -> Write:
    return lambda value: None if value is None else inner(value)


def _string(value: Any) -> Json:
    if type(value) is str:
        return value
    raise Inexact


def _integer(value: Any) -> Json:
    if type(value) is int:
        return value
    raise Inexact


def _flag(value: Any) -> Json:
    if type(value) is bool:
        return value
    raise Inexact


def _float(value: Any) -> Json:
    if type(value) is float and math.isfinite(value):
        return value
    raise Inexact


def _none(value: Any) -> Json:
    if value is not None:
        raise Inexact


_WRITERS: dict[str, Write] = {
    "str": _string,
    "int": _integer,
    "bool": _flag,
    "float": _float,
    "none": _none,
}
