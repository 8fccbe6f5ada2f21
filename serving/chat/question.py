"""A chat message becomes a workflow's input."""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel, TypeAdapter, ValidationError

from crew.content import Content, Part, split
from crew.graph import Workflow
from serving.chat.body import ChatMessage
from serving.chat.sampling import Sampling
from serving.http.errors import ApiError

__all__ = ["takes", "workflow_input"]


def workflow_input(
    workflow: Workflow,
    said: Content,
    history: Sequence[ChatMessage],
    defaults: Mapping[str, object],
) -> Any:
    """Make the input of one run.

    A `str` input is the text itself. A model with a field `text` gets it there, `history` in a
    field of that name, and `defaults` in the fields they name; where images or files were sent, it
    gets all that was said in its field `parts`. A list of such parts is all that was said. Any
    other type is read from the text as JSON.

    Raises:
        ApiError: 400, the text does not make a valid input.
    """
    kind = workflow.input
    text, parts = split(said)
    fields = _fields(kind)
    if parts and "parts" not in fields:
        return _listed(workflow, parts)
    if kind is str:
        return text
    try:
        if "text" not in fields:
            return TypeAdapter(kind).validate_json(text)
        values = {name: value for name, value in defaults.items() if name in fields}
        if "history" in fields:
            values["history"] = _as_history(fields["history"].annotation, history)
        if parts:
            values["parts"] = list(parts)
        return kind.model_validate(values | {"text": text})
    except ValidationError as error:
        raise _unfit(workflow, error) from error


def _listed(workflow: Workflow, parts: Sequence[Part]) -> Any:
    """Return parts as the input of a workflow that takes a list of them.

    Raises:
        ApiError: 400, it takes something else.
    """
    try:
        return TypeAdapter(workflow.input).validate_python(list(parts))
    except ValidationError as error:
        raise ApiError(
            status=400,
            message=f"the workflow {workflow.name!r} takes no images and files; leave them out, or "
            "let its input be list[str | Image | File], or a model with such a field `parts`",
            param="messages",
            code="invalid_input",
        ) from error


def takes(workflow: Workflow, field: str) -> bool:
    """Say whether the workflow's input has a field of its own for something beside the text."""
    return field in _fields(workflow.input)


def _fields(kind: object) -> dict[str, Any]:
    is_model = inspect.isclass(kind) and issubclass(kind, BaseModel)
    return dict(kind.model_fields) if is_model else {}


def _as_history(annotation: object, history: Sequence[ChatMessage]) -> object:
    if annotation is str:
        return "\n".join(f"{message.role}: {message.content}" for message in history)
    return [{"role": message.role, "text": message.content} for message in history]


def _unfit(workflow: Workflow, error: ValidationError) -> ApiError:
    first = error.errors(include_url=False)[0]
    place = ".".join(str(part) for part in first["loc"])
    kind = getattr(workflow.input, "__name__", str(workflow.input))
    how = "" if "text" in _fields(workflow.input) else f"; the message must be a {kind} as JSON"
    return ApiError(
        status=400,
        message=f"the message is no valid input of {workflow.name!r}: "
        f"{place + ': ' if place else ''}{first['msg']}{how}",
        param=place if place in Sampling.model_fields or place == "max_tokens" else "messages",
        code="invalid_input",
    )
