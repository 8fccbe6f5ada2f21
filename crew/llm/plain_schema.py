"""JSON schemas without what some endpoints do not know: references, constants, formats."""

from crew.message import Json

__all__ = ["NOT_PLAIN", "plain"]

_KEPT = frozenset(
    {
        "type",
        "description",
        "properties",
        "required",
        "items",
        "anyOf",
        "enum",
        "minimum",
        "maximum",
        "minItems",
        "maxItems",
    }
)
NOT_PLAIN = (
    "$defs",
    "$ref",
    "additionalProperties",
    "const",
    "default",
    "discriminator",
    "exclusiveMaximum",
    "exclusiveMinimum",
    "examples",
    "format",
    "oneOf",
    "pattern",
    "prefixItems",
    "title",
)
"""What is in schemas as pydantic makes them, and unknown to one endpoint or another."""


_ANYTHING: dict[str, Json] = {}


def plain(schema: Json, definitions: Json = None, within: frozenset[str] = frozenset()) -> Json:
    """Return a schema in the words that every endpoint knows; it may allow more than it did.

    Args:
        schema: what is to be said plainly.
        definitions: what its references name; by default its own.
        within: names of those that it stands in; one that is in itself may be anything there.
    """
    if not isinstance(schema, dict):
        return _ANYTHING
    known = definitions if definitions is not None else schema.get("$defs") or {}
    if isinstance(reference := schema.get("$ref"), str):
        name = reference.rsplit("/", 1)[-1]
        said = {"description": schema["description"]} if "description" in schema else {}
        return (
            _ANYTHING
            if name in within
            else {**plain(known.get(name), known, within | {name}), **said}
        )
    found = {key: value for key, value in schema.items() if key in _KEPT}
    if "const" in schema:
        found["enum"] = [schema["const"]]
    if isinstance(choices := schema.get("anyOf") or schema.get("oneOf"), list):
        found["anyOf"] = [plain(choice, known, within) for choice in choices]
    if isinstance(properties := schema.get("properties"), dict):
        found["properties"] = {key: plain(each, known, within) for key, each in properties.items()}
    if "items" in schema:
        found["items"] = plain(schema["items"], known, within)
    return found
