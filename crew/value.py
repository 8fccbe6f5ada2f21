"""Values as they are stored: encoded to JSON, and decoded again with validation.

What a node returns is encoded, decoded, and the decoded copy is what goes on, live as on resume;
so a run that was interrupted cannot see other values than one that was not. A union is tagged by
its class's name, since two classes of one shape would else decode as the first; non-finite floats
become strings, and sets are sorted, so that equal values have equal bytes.
"""

import inspect
import json
import math
import types
from collections.abc import Callable
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic.errors import PydanticSchemaGenerationError, PydanticUserError
from pydantic_core import PydanticSerializationError, to_json, to_jsonable_python

from crew.errors import GraphError, OutputInvalid
from crew.message import Json

_PRIMITIVES = (str, int, bool)
_PARTS = ("schema", "items_schema", "keys_schema", "values_schema")
"""Where a core schema of one of these types holds those of its parts."""
_WITHOUT_FLOATS = frozenset(
    {"str", "int", "bool", "none", "nullable", "default", "list", "dict"}
    | {"model", "model-fields", "model-field"}
)


class Codec:
    """Encodes and decodes the values of one annotation.

    Raises (constructor):
        GraphError: pydantic cannot handle the annotation.
    """

    def __init__(self, annotation: Any, *, where: str) -> None:
        self.annotation = annotation
        self.where = where
        self._shape = _shape(annotation, where)

    def encode(self, value: object) -> Json:
        """Return `value` as JSON.

        Raises:
            OutputInvalid: it is not of the annotation's type.
        """
        try:
            return self._shape.encode(value)
        except (PydanticSerializationError, ValidationError, _Mismatch, ValueError) as error:
            raise self._invalid(value, error) from error

    def decode(self, stored: Json) -> Any:
        """Return the value that `stored` stands for, validated.

        Raises:
            OutputInvalid: it does not validate.
        """
        try:
            return self._shape.decode(stored)
        except (ValidationError, _Mismatch, ValueError, KeyError, TypeError) as error:
            raise self._invalid(stored, error) from error

    def passed_on(self, value: object) -> tuple[Json, Any]:
        """Return `value` encoded, and the decoded copy that goes on in its place."""
        stored = self.encode(value)
        return stored, self.decode(stored)

    def schema(self) -> dict[str, Json]:
        """Return the JSON schema of the annotation, without tags."""
        return _adapter(self.annotation, self.where).json_schema()

    def _invalid(self, value: object, error: Exception) -> OutputInvalid:
        received = repr(value)[:200]
        return OutputInvalid(
            message=f"{self.where} must be {describe(self.annotation)}, got {received}: "
            f"{_first_line(error)}",
            received=received,
        )


def describe(annotation: Any) -> str:
    """Return an annotation as its author would write it."""
    if annotation is None or annotation is type(None):
        return "None"
    if isinstance(annotation, type) and not get_args(annotation):
        return annotation.__name__
    if _is_union(annotation):
        return " | ".join(describe(member) for member in get_args(annotation))
    if args := get_args(annotation):
        name = getattr(get_origin(annotation), "__name__", str(get_origin(annotation)))
        return f"{name}[{', '.join(describe(item) for item in args)}]"
    return str(annotation)


def union_members(annotation: Any) -> tuple[Any, ...]:
    """Return the members of a union, or the annotation alone; `Annotated` is looked through."""
    if get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    if not _is_union(annotation):
        return (annotation,)
    return tuple(member for part in get_args(annotation) for member in union_members(part))


def canonical(value: object) -> str:
    """Return arguments as JSON text that is equal for equal values, for fingerprints.

    Raises:
        OutputInvalid: it holds something that is not data, such as a connection or a function.
    """
    try:
        plain = to_jsonable_python(_sorted_sets(value), inf_nan_mode="strings")
        return json.dumps(plain, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    except (PydanticSerializationError, TypeError, ValueError) as error:
        raise OutputInvalid(
            message=f"an argument of a journalled call must be data (JSON, dataclass or pydantic "
            f"model), got {value!r:.200}: {_first_line(error)}"
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


class _Mismatch(Exception):
    """The value has no place in the annotation."""


class _Plain:
    """Anything pydantic validates by itself."""

    def __init__(self, annotation: Any, where: str) -> None:
        self._adapter = _adapter(annotation, where)
        self._exact = annotation if annotation in _PRIMITIVES else None
        is_model = isinstance(annotation, type) and issubclass(annotation, BaseModel)
        self._model: type[BaseModel] | None = annotation if is_model else None
        self._has_sets = _mentions(self._adapter.core_schema, {"set", "frozenset"})
        self._is_finite = _gives_no_float(self._adapter.core_schema)

    def encode(self, value: object) -> Json:
        if self._exact is not None and type(value) is self._exact:
            return value
        if self._model is not None and not isinstance(value, self._model):
            raise _Mismatch(f"a {type(value).__name__} is not a {self._model.__name__}")
        if self._has_sets:
            plain = self._adapter.dump_python(value, warnings="error")
            return to_jsonable_python(_sorted_sets(plain), inf_nan_mode="strings")
        plain = self._adapter.dump_python(value, mode="json", warnings="error")
        return plain if self._is_finite else _finite(plain)

    def decode(self, stored: Json) -> Any:
        if self._exact is not None and type(stored) is self._exact:
            return stored
        # JSON mode, not Python mode: a strict model must still accept a date's string.
        return self._adapter.validate_json(json_text(stored))


class _AnyJson:
    """No annotation: JSON types only."""

    def encode(self, value: object) -> Json:
        _require_json(value)
        return _finite(value)

    def decode(self, stored: Json) -> Any:
        return stored


class _Nothing:
    def encode(self, value: object) -> Json:
        if value is not None:
            raise _Mismatch("only None is allowed here")

    def decode(self, stored: Json) -> Any:
        if stored is not None:
            raise _Mismatch("only null is allowed here")


class _Optional:
    """One type, or null."""

    def __init__(self, shape: Any) -> None:
        self._inner = shape

    def encode(self, value: object) -> Json:
        return None if value is None else self._inner.encode(value)

    def decode(self, stored: Json) -> Any:
        return None if stored is None else self._inner.decode(stored)


class _Tagged:
    """A union: `{"type": class name, "value": …}`, or null for None."""

    def __init__(self, members: tuple[Any, ...], where: str) -> None:
        self._optional = type(None) in members or None in members
        self._members = [
            (member, describe(member), _shape(member, where))
            for member in members
            if member is not None and member is not type(None)
        ]
        self._found: dict[type, tuple[str, Any]] = {}
        names = [name for _, name, _ in self._members]
        if twice := {name for name in names if names.count(name) > 1}:
            raise GraphError(message=f"{where}: two classes are named {twice.pop()}; rename one")

    def encode(self, value: object) -> Json:
        if value is None and self._optional:
            return None
        name, shape = self._found.get(type(value)) or self._find(value)
        return {"type": name, "value": shape.encode(value)}

    def _find(self, value: object) -> tuple[str, Any]:
        """Return the member that a value is of; which one it is follows from its class alone."""
        for member, name, shape in self._members:
            if _is_instance(value, member):
                self._found[type(value)] = (name, shape)
                return name, shape
        raise _Mismatch(f"a {type(value).__name__} is none of them")

    def decode(self, stored: Json) -> Any:
        if stored is None and self._optional:
            return None
        for _, name, shape in self._members:
            if stored["type"] == name:
                return shape.decode(stored["value"])
        raise _Mismatch(f"{stored['type']!r} is none of them")


class _Items:
    """A list whose items need tags."""

    def __init__(self, item: Any, where: str) -> None:
        self._item = _shape(item, where)

    def encode(self, value: object) -> Json:
        if not isinstance(value, (list, tuple)):
            raise _Mismatch(f"a {type(value).__name__} is not a list")
        return [self._item.encode(item) for item in value]

    def decode(self, stored: Json) -> Any:
        return [self._item.decode(item) for item in stored]


def _shape(annotation: Any, where: str) -> Any:
    if annotation in (inspect.Parameter.empty, Any):
        return _AnyJson()
    if annotation is None or annotation is type(None):
        return _Nothing()
    members = union_members(annotation)
    real = tuple(member for member in members if member not in (None, type(None)))
    if len(real) > 1:
        return _Tagged(members, where)
    if len(real) < len(members):
        return _Optional(_shape(real[0], where))
    if get_origin(annotation) is list and get_args(annotation) and _needs_tags(annotation):
        return _Items(get_args(annotation)[0], where)
    return _Plain(annotation, where)


def _needs_tags(annotation: Any) -> bool:
    item = get_args(annotation)[0]
    if len(union_members(item)) > 1:
        return True
    return get_origin(item) is list and bool(get_args(item)) and _needs_tags(item)


def _adapter(annotation: Any, where: str) -> TypeAdapter[Any]:
    try:
        return TypeAdapter(annotation)
    except (PydanticSchemaGenerationError, PydanticUserError, NameError) as error:
        raise GraphError(
            message=f"{where}: {describe(annotation)} cannot be stored; use JSON, dataclasses "
            f"or pydantic models ({_first_line(error)})"
        ) from error


def _is_union(annotation: Any) -> bool:
    return get_origin(annotation) in (Union, types.UnionType)


def _is_instance(value: object, member: Any) -> bool:
    kind = get_origin(member) or member
    if kind is float:
        return type(value) is float
    if kind in _PRIMITIVES:
        return type(value) is kind
    return isinstance(kind, type) and isinstance(value, kind)


def _mentions(schema: Any, wanted: set[str]) -> bool:
    if isinstance(schema, dict):
        return schema.get("type") in wanted or any(_mentions(v, wanted) for v in schema.values())
    return isinstance(schema, (list, tuple)) and any(_mentions(item, wanted) for item in schema)


def _gives_no_float(schema: Any) -> bool:
    """Return whether what a schema validates is dumped without floats, for certain."""
    if schema["type"] not in _WITHOUT_FLOATS or "serialization" in schema:
        return False
    config = schema.get("config") or {}
    if config.get("extra_fields_behavior") == "allow" or schema.get("computed_fields"):
        return False
    parts = [schema[name] for name in _PARTS if name in schema]
    if schema["type"] == "model-fields":
        parts = list(schema["fields"].values())
    return all(_gives_no_float(part) for part in parts)


def _sorted_sets(value: Any) -> Any:
    if isinstance(value, (set, frozenset)):
        return sorted((_sorted_sets(item) for item in value), key=canonical)
    if isinstance(value, BaseModel):
        return _sorted_sets(value.model_dump())
    return _rebuilt(value, _sorted_sets)


def _finite(value: Any) -> Json:
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return _rebuilt(value, _finite)


def _rebuilt(value: Any, change: Callable[[Any], Any]) -> Any:
    if isinstance(value, dict):
        return {key: change(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [change(item) for item in value]
    return value


def _require_json(value: object) -> None:
    if value is None or isinstance(value, str | int | float | bool):
        return
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                raise _Mismatch(f"the key {key!r} is not a string")
            _require_json(item)
        return
    if isinstance(value, list):
        for item in value:
            _require_json(item)
        return
    raise _Mismatch(
        f"a {type(value).__name__} is not JSON; annotate the return type so that it can be stored"
    )


def _first_line(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        return f"{place}: {first['msg']}" if place else first["msg"]
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
