"""Fields of a body as clients write them: null is left out, and some limits mean none."""

from typing import Annotated, Any

from pydantic import (
    BaseModel,
    BeforeValidator,
    Field,
    GetJsonSchemaHandler,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

__all__ = ["Body", "TokenLimit"]


class Body(BaseModel):
    """An object of a request, in which a field that is null is one that was left out."""

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        return {
            name: value
            for name, value in given.items()
            if value is not None or _is_required(cls, name)
        }

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler, /
    ) -> JsonSchemaValue:
        schema = handler(core_schema)
        found = handler.resolve_ref_schema(schema)
        required = found.get("required", [])
        for name, of in found.get("properties", {}).items():
            if name not in required:
                found["properties"][name] = _or_null(of)
        return schema


def _is_required(model: type[BaseModel], name: str) -> bool:
    field = model.model_fields.get(name)
    return field is not None and field.is_required()


def _or_null(schema: JsonSchemaValue) -> JsonSchemaValue:
    if {"type": "null"} in schema.get("anyOf", [{"type": "null"}] if not schema else []):
        return schema
    about = {name: schema[name] for name in ("default", "title") if name in schema}
    return {"anyOf": [schema, {"type": "null"}], **about}


def _limit(given: object) -> object:
    """Read a limit as those do who write -1 or 0 for none, and whole numbers as 1000.0."""
    if isinstance(given, bool) or not isinstance(given, (int, float)):
        return given
    if given <= 0:
        return None
    return int(given) if given == int(given) else given


TokenLimit = Annotated[Annotated[int, Field(ge=1)] | None, BeforeValidator(_limit)]
"""How many tokens an answer may have; -1 and 0 are no limit."""
