"""The form that a caller wants an answer in: text, or the output's JSON.

A workflow's own output type decides what its JSON is, so a schema is no order but a condition: it
is held against that type before the run starts.
"""

from collections.abc import Mapping
from typing import Any

from crew.graph import Workflow
from crew.message import Json
from crew.value import describe
from serving.http.errors import ApiError

__all__ = ["wants_json"]

_MOST_REFERENCES = 64
"""One after another."""
_LEFT_OUT = frozenset(
    {"title", "description", "default", "examples", "$defs", "required", "additionalProperties"}
)
"""What a schema may say beside what its values are: an output has each of its fields, and no other
one."""


def wants_json(workflow: Workflow, format: Mapping[str, Any] | None, param: str) -> bool:  # noqa: A002
    """Say whether the answer's text is to be the output's JSON.

    Args:
        workflow: whose output.
        format: OpenAI's, of chat or of a response; None for text.
        param: where in the request it stands.

    Raises:
        ApiError: 400, the workflow does not answer in that form.
    """
    kind = (format or {}).get("type", "text")
    if kind == "text":
        return False
    if kind not in ("json_object", "json_schema"):
        raise _refused(f"{kind!r:.50} is no format; use text, json_object or json_schema", param)
    output = workflow.output_codec
    schema = output.schema()
    if not _is_object(schema):
        raise _refused(
            f"the workflow {workflow.name!r} answers with {describe(output.annotation)}, which is "
            "no JSON object; leave it out",
            param,
        )
    if kind == "json_schema" and not _agree(_asked_schema(format, param), schema):
        raise _refused(
            f"the workflow {workflow.name!r} answers with its own type "
            f"{describe(output.annotation)}, and the schema is another one; ask for json_object, "
            f"or with the schema at GET /v1/models/{workflow.name} under crew.output",
            param,
        )
    return True


def _is_object(schema: dict[str, Json]) -> bool:
    meant = _followed(schema, schema)
    return isinstance(meant, dict) and meant.get("type") == "object"


def _asked_schema(format: Mapping[str, Any] | None, param: str) -> dict[str, Json]:  # noqa: A002
    """Chat has it one level deeper than responses."""
    given = (format or {}).get("json_schema", format)
    schema = given.get("schema") if isinstance(given, Mapping) else None
    if isinstance(schema, dict):
        return schema
    raise _refused("json_schema needs a `schema`", param)


def _agree(one: dict[str, Json], other: dict[str, Json]) -> bool:
    """Say whether two schemas mean the same values, as far as their structure tells.

    Each pair of parts is looked at once: a caller's references may run in circles, or name one
    part a thousand times.
    """
    seen: set[tuple[int, int]] = set()
    todo: list[tuple[Json, Json]] = [(one, other)]
    while todo:
        a, b = todo.pop()
        a, b = _followed(a, one), _followed(b, other)
        if (id(a), id(b)) in seen:
            continue
        if isinstance(a, (dict, list)):
            seen.add((id(a), id(b)))
        if (parts := _parts(a, b)) is None:
            return False
        todo += parts
    return True


def _parts(a: Json, b: Json) -> list[tuple[Json, Json]] | None:
    """Return what has to agree for two schemas, or parts of them, to do so; None if nothing can."""
    match a, b:
        case dict(), dict():
            a, b = _meant(a), _meant(b)
            return [(a[name], b[name]) for name in a] if a.keys() == b.keys() else None
        case list(), list():
            return list(zip(a, b, strict=True)) if len(a) == len(b) else None
        case _:
            return [] if a == b else None


def _meant(schema: dict[str, Json]) -> dict[str, Json]:
    """Return a schema without names and notes; each of its fields may be called like one."""
    fields = schema.get("properties")
    named = {f".{name}": item for name, item in fields.items()} if isinstance(fields, dict) else {}
    kept = {name: item for name, item in schema.items() if name not in _LEFT_OUT}
    return {name: item for name, item in kept.items() if name != "properties"} | named


def _followed(schema: Json, root: dict[str, Json]) -> Json:
    """Return what a reference stands for, or what is none as it is."""
    for _ in range(_MOST_REFERENCES):
        reference = schema.get("$ref") if isinstance(schema, dict) else None
        if not isinstance(reference, str):
            return schema
        schema = root
        for name in reference.removeprefix("#").strip("/").split("/"):
            schema = schema.get(name) if isinstance(schema, dict) and name else schema
    return None


def _refused(reason: str, param: str) -> ApiError:
    return ApiError(status=400, message=reason, param=param, code="unsupported_format")
