"""What no journal can give back, seen from an annotation alone, before any run."""

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import Secret, SecretBytes, SecretStr

from crew.errors import GraphError

_WRITTEN_ONCE = {
    "generator": "can be gone through only once; write list[…]",
    "callable": "is code, which is not stored; give its name, and look it up where it is called",
}


def check_storable(schema: Any, where: str, what: str) -> None:
    """Refuse an annotation whose values could never come back as they were.

    Args:
        schema: pydantic's core schema of it.
        where: of what it is the annotation.
        what: the annotation, as its author wrote it.

    Raises:
        GraphError: a field is a secret (which is stored as asterisks), is left out of what is
            stored, or holds what can be used only once.
    """
    for place, problem in _problems(schema, what):
        raise GraphError(message=f"{where}: {place} {problem}")


def _problems(schema: Any, place: str) -> Iterator[tuple[str, str]]:
    """Yield what cannot be stored, each with the field that it is in."""
    if isinstance(schema, (list, tuple)):
        for item in schema:
            yield from _problems(item, place)
    if not isinstance(schema, Mapping):
        return
    kind = schema.get("type")
    if kind == "dataclass-field":
        place = f"{place.partition('.')[0]}.{schema['name']}"
    if schema.get("serialization_exclude") is True:
        yield place, "is excluded from what is stored; give it `exclude=False`, or leave it out"
    if _is_secret(schema):
        yield (
            place,
            "is a secret, which is stored as asterisks; pass on the name under which it is kept, "
            "and read it where it is used",
        )
    elif isinstance(kind, str) and kind in _WRITTEN_ONCE:
        yield place, _WRITTEN_ONCE[kind]
    owner = _name(schema)
    for name, part in schema.items():
        if name in ("metadata", "default", "config", "ref", "cls"):
            continue
        if name == "fields" and isinstance(part, Mapping):
            for field, inner in part.items():
                yield from _problems(inner, f"{place.partition('.')[0]}.{field}")
        elif isinstance(part, (Mapping, list, tuple)):
            yield from _problems(part, owner or place)


def _name(schema: Mapping[str, Any]) -> str:
    cls = schema.get("cls")
    is_fields = schema.get("type") in ("model", "dataclass", "typed-dict")
    return getattr(cls, "__name__", "") if is_fields else ""


def _is_secret(schema: Mapping[str, Any]) -> bool:
    function = schema.get("function")
    found = function.get("function") if isinstance(function, Mapping) else function
    if isinstance(found, type):
        return issubclass(found, (SecretStr, SecretBytes, Secret))
    # Secret[int] is known by what hides it alone.
    hides = getattr(found, "__module__", "") == Secret.__module__
    return hides and getattr(found, "__name__", "").startswith("_serialize_secret")
