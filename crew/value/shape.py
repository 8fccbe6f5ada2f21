"""The stored forms of annotations: what is JSON already, what pydantic writes, what needs a tag.

A union is tagged by its class's name, since two classes of one shape would else decode as the
first; non-finite floats become strings, and sets are sorted, so that equal values have equal bytes.
"""

import contextlib
import functools
import inspect
import json
from collections.abc import Callable
from typing import Annotated, Any, Literal, Protocol, get_args, get_origin

from pydantic import BaseModel, TypeAdapter
from pydantic.errors import PydanticSchemaGenerationError, PydanticUserError
from pydantic_core import PydanticSerializationError, to_json

from crew.errors import GraphError
from crew.message import Json
from crew.value.annotation import describe, union_members
from crew.value.exact import Inexact, Write, exact_writer
from crew.value.parts import Ways, by_parts
from crew.value.plain import Mismatch, finite, kind_of, rebuilt, require_json
from crew.value.schema import gives_no_float, holds, is_light, mentions
from crew.value.sets import with_sorted_sets
from crew.value.storable import check_storable
from crew.value.weight import note_light

_PRIMITIVES = (str, int, bool, float)
MOST_BYTES = 64 << 20
"""Of one value in a journal: what every reader of its run would have to hold."""


class Shape(Protocol):
    """How the values of one annotation are stored."""

    exact: Write | None
    """Writes a value that is proven to come back as it was; None if nothing is proven."""

    def encode(self, value: Any) -> Json: ...

    def decode(self, stored: Json) -> Any: ...


def shape_of(
    annotation: Any, where: str, *, only_read: bool = False, in_parts: bool = False
) -> Shape:
    """Return how an annotation's values are stored.

    Args:
        annotation: their type.
        where: what it is the annotation of.
        only_read: somebody reads the JSON, and nothing is decoded from it.
        in_parts: no call of C takes long, and nothing is too big.

    Raises:
        GraphError: they cannot be stored.
    """
    if annotation in (inspect.Parameter.empty, Any):
        return _AnyJson()
    if isinstance(annotation, str):
        raise GraphError(message=f"{where}: {annotation!r} is a text; give a type")
    if annotation is None or annotation is type(None):
        return _Nothing()
    if annotation in _PRIMITIVES:
        return _Primitive(annotation)
    of = functools.partial(shape_of, where=where, only_read=only_read, in_parts=in_parts)
    members = union_members(annotation)
    real = tuple(member for member in members if member not in (None, type(None)))
    if len(members) > 1 and get_origin(annotation) is Annotated:
        return _Constrained(of(get_args(annotation)[0]), adapter_of(annotation, where))
    if len(real) > 1:
        return _Tagged(members, where, of)
    if len(real) < len(members):
        return _Optional(of(real[0]))
    if get_origin(annotation) is list and get_args(annotation) and _needs_tags(annotation):
        return _Items(of(get_args(annotation)[0]))
    return (_InParts if in_parts else _Plain)(annotation, where, only_read=only_read)


def adapter_of(annotation: Any, where: str) -> TypeAdapter[Any]:
    """Return what pydantic knows of an annotation.

    Raises:
        GraphError: it does not know the type, or not all of it yet.
    """
    try:
        adapter: TypeAdapter[Any] = TypeAdapter(annotation)
        _ = adapter.core_schema["type"]  # one with a name that is not defined yet has none
    except (PydanticSchemaGenerationError, PydanticUserError, NameError) as error:
        raise GraphError(
            message=f"{where}: {describe(annotation)} cannot be stored; use JSON, dataclasses "
            f"or pydantic models ({str(error).strip().splitlines()[0]})"
        ) from error
    return adapter


def json_bytes(value: Json) -> bytes | str:
    """Return JSON as pydantic reads it, numbers that are none included."""
    try:
        return to_json(value, inf_nan_mode="constants")
    except PydanticSerializationError:
        # A lone surrogate has no UTF-8; escaped it is JSON all the same.
        return json.dumps(value)


def storable_bytes(value: Json) -> bytes | str:
    """Return the same of a value that is to be stored.

    Raises:
        Mismatch: it is too big for a journal.
    """
    text = json_bytes(value)
    refuse_huge(len(text))
    return text


def refuse_huge(size: int) -> None:
    """Refuse what is of so many bytes.

    Raises:
        Mismatch: a journal does not take it.
    """
    if size > MOST_BYTES:
        raise Mismatch(
            f"it is more than {MOST_BYTES >> 20} MiB of JSON, which is what a journal takes; write "
            "it to a file or a store of your own, and return its name"
        )


class _Unproven:
    """What comes back is compared with what it was."""

    exact: Write | None = None


class _Primitive(_Unproven):
    """A value that is JSON already, and of exactly this class: `True` is no int."""

    def __init__(self, kind: type) -> None:
        self._kind = kind

    def encode(self, value: Any) -> Json:
        if self._kind is float and type(value) is int and float(value) == value:
            return float(value)  # PEP 484: an int may stand for a float
        if type(value) is not self._kind:
            raise Mismatch(f"{kind_of(value)} is not {self._kind.__name__}")
        return finite(value) if self._kind is float else value

    def decode(self, stored: Json) -> Any:
        if type(stored) is self._kind:
            return stored
        if isinstance(stored, str):
            # From outside, such as a person's "5"; a number that is none is stored as a word, too.
            return _lax(self._kind).validate_python(stored)
        if self._kind is float and type(stored) is int:
            return float(stored)
        raise Mismatch(f"{kind_of(stored)} is not {self._kind.__name__}")


@functools.cache
def _lax(kind: type) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


class _Plain:
    """Anything pydantic validates by itself.

    Names of fields are stored, not their aliases; and what `computed_field` gives is computed
    again, unless the JSON is `only_read`.
    """

    def __init__(self, annotation: Any, where: str, *, only_read: bool) -> None:
        adapter = adapter_of(annotation, where)
        check_storable(adapter.core_schema, where, describe(annotation))
        is_model = isinstance(annotation, type) and issubclass(annotation, BaseModel)
        self._model: type[BaseModel] | None = annotation if is_model else None
        self._is_whole = not only_read
        self.exact = exact_writer(adapter.core_schema)
        self._schema = adapter.core_schema
        self._dump, self._validate = _ways(
            adapter.core_schema, adapter.validator, adapter.serializer, whole=self._is_whole
        )
        self._has_sets = mentions(adapter.core_schema, {"set", "frozenset"})
        if is_model and is_light(adapter.core_schema):
            note_light(annotation)
        self._is_finite = gives_no_float(adapter.core_schema)

    def encode(self, value: Any) -> Json:
        if self.exact is not None:
            try:
                return self.exact(value)
            except (Inexact, KeyError):
                pass  # pydantic tells what is wrong with it
        if self._model is not None and type(value) is not self._model:
            self._check_class(value, self._model)
        plain = self._dumped(value)
        if self._has_sets:
            plain = with_sorted_sets(value, plain)
        return plain if self._is_finite else finite(plain)

    def _dumped(self, value: Any) -> Any:
        return self._dump(value)

    def _check_class(self, value: Any, model: type[BaseModel]) -> None:
        if not isinstance(value, model):
            raise Mismatch(f"{kind_of(value)} is not a {model.__name__}")
        if self._is_whole:
            raise Mismatch(
                f"{kind_of(value)} would come back as a {model.__name__}; annotate "
                f"{type(value).__name__}, or a union of the classes that there are"
            )

    def decode(self, stored: Json) -> Any:
        # JSON mode, not Python mode: a strict model must still accept a date's string.
        return self._validate(storable_bytes(stored))


class _InParts(_Plain):
    """The same, for big values: pydantic gets what it has to see alone, and nothing is too big."""

    def __init__(self, annotation: Any, where: str, *, only_read: bool) -> None:
        super().__init__(annotation, where, only_read=only_read)
        self._ways = by_parts(self._schema, self._leaf)

    def _leaf(self, validator: Any, serializer: Any) -> Ways:
        write, validate = _ways(self._schema, validator, serializer, whole=self._is_whole)
        return write, lambda stored: validate(json_bytes(stored))

    def _dumped(self, value: Any) -> Any:
        return self._first(0, value, self._dump)

    def decode(self, stored: Json) -> Any:
        return self._first(1, stored, lambda whole: self._validate(json_bytes(whole)))

    def _first(self, way: int, value: Any, otherwise: Callable[[Any], Any]) -> Any:
        """Go through the parts; what cannot be taken so is pydantic's as a whole."""
        if self._ways is not None:
            # It may also be wrong: pydantic says best what is.
            with contextlib.suppress(Inexact, KeyError, ValueError, AttributeError, TypeError):
                return self._ways[way](value)
        return otherwise(value)


def _ways(
    schema: Any, validator: Any, serializer: Any, *, whole: bool
) -> tuple[Callable[[Any], Json], Callable[[bytes | str], Any]]:
    """Return what dumps and what validates; each option that is not needed is time saved."""
    dump = functools.partial(serializer.to_python, mode="json", warnings="error")
    if whole and (mentions(schema, {"json"}) or holds(schema, _COMPUTED)):
        dump = functools.partial(dump, round_trip=True)
    if not holds(schema, _ALIASES):
        return dump, validator.validate_json
    if whole:
        dump = functools.partial(dump, by_alias=False)
    return dump, functools.partial(validator.validate_json, by_alias=True, by_name=True)


_COMPUTED = frozenset({"computed_fields"})
_ALIASES = frozenset({"validation_alias", "serialization_alias", "alias"})


class _Constrained(_Unproven):
    """A union whose values must satisfy what `Annotated` says of them."""

    def __init__(self, shape: Shape, adapter: TypeAdapter[Any]) -> None:
        self._inner = shape
        self._check = adapter.validator.validate_python

    def encode(self, value: Any) -> Json:
        return self._inner.encode(value)

    def decode(self, stored: Json) -> Any:
        value = self._inner.decode(stored)
        self._check(value)
        return value


class _AnyJson(_Unproven):
    """No annotation: JSON types only."""

    def encode(self, value: Any) -> Json:
        require_json(value)
        return finite(value)

    def decode(self, stored: Json) -> Any:
        # A copy, since whoever gets it may change it, and what is stored does not change.
        return rebuilt(stored, self.decode)


class _Nothing(_Unproven):
    def encode(self, value: Any) -> Json:
        if value is not None:
            raise Mismatch("only None is allowed here")

    def decode(self, stored: Json) -> Any:
        if stored is not None:
            raise Mismatch("only null is allowed here")


class _Optional(_Unproven):
    """One type, or null."""

    def __init__(self, shape: Shape) -> None:
        self._inner = shape

    def encode(self, value: Any) -> Json:
        return None if value is None else self._inner.encode(value)

    def decode(self, stored: Json) -> Any:
        return None if stored is None else self._inner.decode(stored)


class _Tagged:
    """A union: `{"type": class name, "value": …}`, or null for None."""

    def __init__(
        self, members: tuple[Any, ...], where: str, shape_of_one: Callable[[Any], Shape]
    ) -> None:
        self._optional = type(None) in members or None in members
        self._members = [
            (member, describe(member), shape_of_one(member))
            for member in members
            if member is not None and member is not type(None)
        ]
        self._found: dict[type, tuple[str, Shape]] = {}
        has_exact = any(shape.exact is not None for _, _, shape in self._members)
        self.exact: Write | None = self._exactly if has_exact else None
        self._class_decides = not any(get_origin(_bare(item)) is Literal for item in members)
        names = [name for _, name, _ in self._members]
        if twice := {name for name in names if names.count(name) > 1}:
            raise GraphError(message=f"{where}: two classes are named {twice.pop()}; rename one")

    def encode(self, value: Any) -> Json:
        if value is None and self._optional:
            return None
        name, shape = self._found.get(type(value)) or self._find(value)
        return {"type": name, "value": shape.encode(value)}

    def _exactly(self, value: Any) -> Json:
        """Write a value of a class that was seen before, if that is proven to come back."""
        name, shape = self._found[type(value)]
        if shape.exact is None:
            raise Inexact
        return {"type": name, "value": shape.exact(value)}

    def _find(self, value: Any) -> tuple[str, Shape]:
        """Return the member that a value is of, which mostly follows from its class alone."""
        for fits in (_is_exactly, _is_instance):
            for member, name, shape in self._members:
                if fits(value, member):
                    if self._class_decides:
                        self._found[type(value)] = (name, shape)
                    return name, shape
        raise Mismatch(f"{kind_of(value)} is none of them")

    def decode(self, stored: Json) -> Any:
        if stored is None and self._optional:
            return None
        for _, name, shape in self._members:
            if stored["type"] == name:
                return shape.decode(stored["value"])
        raise Mismatch(f"{stored['type']!r} is none of them")


class _Items(_Unproven):
    """A list whose items need tags."""

    def __init__(self, item: Shape) -> None:
        self._item = item

    def encode(self, value: Any) -> Json:
        if not isinstance(value, list):
            raise Mismatch(f"{kind_of(value)} is not a list")
        return [self._item.encode(item) for item in value]

    def decode(self, stored: Json) -> Any:
        if not isinstance(stored, list):
            raise Mismatch(f"{kind_of(stored)} is not a list")
        return [self._item.decode(item) for item in stored]


def _needs_tags(annotation: Any) -> bool:
    item = get_args(annotation)[0]
    if len(union_members(item)) > 1:
        return True
    return get_origin(item) is list and bool(get_args(item)) and _needs_tags(item)


def _is_exactly(value: object, member: Any) -> bool:
    member = _bare(member)
    if get_origin(member) is Literal:
        return any(type(value) is type(item) and value == item for item in get_args(member))
    return type(value) is (get_origin(member) or member)


def _is_instance(value: object, member: Any) -> bool:
    kind = get_origin(_bare(member)) or _bare(member)
    return isinstance(kind, type) and kind not in _PRIMITIVES and isinstance(value, kind)


def _bare(annotation: Any) -> Any:
    return get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation
