"""Big values of models, lists and dicts: written and read part by part, in Python.

What pydantic does with a value as a whole is one call of C, which holds the interpreter to its end.
So containers that only hold their parts are gone through here, and pydantic gets their leaves.
"""

from collections.abc import Callable, Mapping
from typing import Any

from pydantic_core import SchemaError, SchemaSerializer, SchemaValidator

from crew.message import Json
from crew.value.exact import Inexact, Write, is_plain_model, scalar_writer

Read = Callable[[Json], Any]
Ways = tuple[Write, Read]
Leaf = Callable[[SchemaValidator, SchemaSerializer], Ways]
"""Returns what writes and reads with a validator and a serializer of pydantic's."""

_BARE = frozenset({"type", "strict", "metadata", "ref"})
_CONTAINERS = {
    "any": _BARE,
    "list": _BARE | {"items_schema"},
    "dict": _BARE | {"keys_schema", "values_schema"},
    "nullable": _BARE | {"schema"},
    "default": _BARE | {"schema", "default", "default_factory", "validate_default"},
    "model-field": _BARE | {"schema", "frozen"},
}
"""What the schema of a container may say where it only holds its parts."""
_KEYS = ({"type": "str"}, {"type": "any"})
_ANY: Mapping[str, Any] = {"type": "any"}


class _OfModel(Exception):
    """A validator looks at the other fields of its model."""


def by_parts(schema: Mapping[str, Any], leaf: Leaf) -> Ways | None:
    """Return what writes and reads the values of a core schema part by part.

    Both raise `Inexact`, KeyError or what pydantic raises for what has to be seen as a whole, such
    as a value of a subclass. None: so it is with all values.
    """
    try:
        return _Parts(leaf).ways(schema, None)
    except (SchemaError, _OfModel):
        return None


class _Parts:
    """Makes the ways of a schema from those of its parts."""

    def __init__(self, leaf: Leaf) -> None:
        self._leaf = leaf
        self._definitions: list[Mapping[str, Any]] = []
        self._named: dict[str, Ways] = {}

    def ways(self, schema: Mapping[str, Any], config: Any) -> Ways:
        """Return what writes and reads; `config` is that of the model around."""
        kind = schema["type"]
        if (scalar := scalar_writer(schema)) is not None:
            return _scalar(scalar, self._whole(schema, config), is_text=kind == "str")
        if kind == "definitions":
            self._definitions = schema["definitions"]
            return self.ways(schema["schema"], config)
        if kind == "definition-ref":
            return self._late(schema["schema_ref"])
        if kind == "model" and is_plain_model(schema):
            try:
                return self._model(schema)
            except _OfModel:
                return self._whole(schema, config)
        if kind.startswith("function-") and schema["function"]["type"] == "with-info":
            raise _OfModel
        if schema.keys() <= _CONTAINERS.get(kind, frozenset()):
            return self._container(kind, schema, config)
        return self._whole(schema, config)

    def _container(self, kind: str, schema: Mapping[str, Any], config: Any) -> Ways:
        if kind in ("default", "model-field"):
            return self.ways(schema["schema"], config)
        if kind == "nullable":
            return _nullable(*self.ways(schema["schema"], config))
        if kind == "list":
            return _list(*self.ways(schema.get("items_schema", _ANY), config))
        if kind == "dict" and schema.get("keys_schema", _ANY) in _KEYS:
            return _dict(*self.ways(schema.get("values_schema", _ANY), config))
        whole = self._whole(schema, config)
        return _anything(whole) if kind == "any" else whole

    def _model(self, schema: Mapping[str, Any]) -> Ways:
        fields, config = schema["schema"]["fields"], schema.get("config")
        parts = {name: self.ways(field, config) for name, field in fields.items()}
        return _model(schema["cls"], parts)

    def _late(self, name: str) -> Ways:
        """Return the ways of what may hold itself."""
        if name not in self._named:
            schema = next(item for item in self._definitions if item.get("ref") == name)
            self._named[name] = (_undone, _undone)
            self._named[name] = self.ways(schema, None)
        named = self._named  # which has them only later

        def write(value: Any) -> Json:
            return named[name][0](value)

        def read(stored: Json) -> Any:
            return named[name][1](stored)

        return write, read

    def _whole(self, schema: Any, config: Any) -> Ways:
        if self._definitions:
            schema = {"type": "definitions", "schema": schema, "definitions": self._definitions}
        return self._leaf(SchemaValidator(schema, config), SchemaSerializer(schema, config))


def _undone(value: Any) -> Any:
    raise Inexact


def _scalar(exact: Write, whole: Ways, *, is_text: bool) -> Ways:
    """Return how what is exactly of a type is taken as it is; pydantic sees to anything else."""
    write_other, read_other = whole

    def write(value: Any) -> Json:
        try:
            return exact(value)
        except Inexact:
            return write_other(value)

    def read(stored: Json) -> Any:
        try:
            if is_text:
                stored.encode()  # pydantic reads no half of a pair of surrogates
            return exact(stored)
        except (Inexact, AttributeError):
            return read_other(stored)

    return write, read


def _anything(whole: Ways) -> Ways:
    """Return how plain JSON is copied; pydantic sees to anything else."""
    write_other, read_other = whole

    def write(value: Any) -> Json:
        kind = type(value)
        if kind is dict and all(type(name) is str for name in value):
            return {name: write(item) for name, item in value.items()}
        if kind is list:
            return [write(item) for item in value]
        return value if kind is str else write_other(value)

    def read(stored: Json) -> Any:
        if type(stored) is dict:
            return {name: read(item) for name, item in stored.items()}
        if type(stored) is list:
            return [read(item) for item in stored]
        return read_other(stored)

    return write, read


def _model(cls: Any, parts: Mapping[str, Ways]) -> Ways:
    def write(value: Any) -> Json:
        if type(value) is not cls:
            raise Inexact
        held = value.__dict__
        return {name: write(held[name]) for name, (write, _) in parts.items()}

    def read(stored: Json) -> Any:
        if stored.keys() != parts.keys():
            raise Inexact
        fields = {name: read(stored[name]) for name, (_, read) in parts.items()}
        return cls.model_construct(_fields_set=set(parts), **fields)

    return write, read


def _list(write: Write, read: Read) -> Ways:
    def write_all(value: Any) -> Json:
        if type(value) is not list:
            raise Inexact
        return [write(item) for item in value]

    def read_all(stored: Json) -> Any:
        if type(stored) is not list:
            raise Inexact
        return [read(item) for item in stored]

    return write_all, read_all


def _dict(write: Write, read: Read) -> Ways:
    def write_all(value: Any) -> Json:
        if type(value) is not dict or not all(type(name) is str for name in value):
            raise Inexact
        return {name: write(item) for name, item in value.items()}

    def read_all(stored: Json) -> Any:
        if type(stored) is not dict:
            raise Inexact
        return {name: read(item) for name, item in stored.items()}

    return write_all, read_all


def _nullable(write: Write, read: Read) -> Ways:
    return (
        lambda value: None if value is None else write(value),
        lambda stored: None if stored is None else read(stored),
    )
