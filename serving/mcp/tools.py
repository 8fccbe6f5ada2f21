"""Workflows as tools: what their arguments are, and the input that these make."""

import inspect
from collections.abc import Container, Mapping
from typing import Any

from crew.graph import Workflow
from crew.message import Json

__all__ = ["ANSWER_SCHEMA", "answer_name", "arguments_schema", "description_of", "input_from"]

ANSWER_SCHEMA: dict[str, Json] = {
    "type": "object",
    "properties": {
        "run": {"type": "string", "description": "The id of the run that asked."},
        "value": {"description": "The answer: JSON of the question's type, or words."},
        "question": {
            "type": "string",
            "description": "The question's key, where the run has asked several.",
        },
    },
    "required": ["run"],
}
_WHOLE = "input"
"""The argument that holds an input which is no object."""


def answer_name(others: Container[str]) -> str:
    """Return the name of the tool that answers questions, for clients that cannot ask their user.

    Args:
        others: the names of the workflows.
    """
    return "answer_question" if "answer" in others else "answer"


def description_of(workflow: Workflow) -> str:
    """Return what a model reads of a workflow: its docstring, else its name."""
    written = vars(workflow).get("__doc__")
    return inspect.cleandoc(written) if written else f"Run the workflow {workflow.name!r}."


def arguments_schema(workflow: Workflow, defaults: Mapping[str, object]) -> dict[str, Json]:
    """Return the schema of a tool's arguments: the fields of an input that is an object.

    Args:
        workflow: what the tool runs.
        defaults: fields that the server fills in where they are left out.
    """
    schema = workflow.input_codec.schema()
    if schema.get("type") == "null":
        return {"type": "object", "properties": {}}
    if schema.get("type") == "object":
        required = [name for name in schema.get("required", ()) if name not in defaults]
        return schema | ({"required": required} if required or "required" in schema else {})
    inner = {name: value for name, value in schema.items() if name != "$defs"}
    made: dict[str, Json] = {
        "type": "object",
        "properties": {_WHOLE: inner},
        "required": [_WHOLE],
    }
    return made | ({"$defs": schema["$defs"]} if "$defs" in schema else {})


def input_from(
    workflow: Workflow, arguments: dict[str, Any], defaults: Mapping[str, object]
) -> Any:
    """Return the input that a tool's arguments make; it is validated by whoever starts the run."""
    kind = workflow.input_codec.schema().get("type")
    if kind == "null":
        return None
    if kind != "object":
        return arguments.get(_WHOLE)
    fields: dict[str, object] = getattr(workflow.input, "model_fields", {})
    return {name: value for name, value in defaults.items() if name in fields} | arguments
