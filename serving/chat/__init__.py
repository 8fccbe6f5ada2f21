"""The chat endpoint: workflows called as models, in the OpenAI API's shapes."""

from crew.message import Json
from serving.chat.body import ChatBody
from serving.chat.completions import create_completion
from serving.chat.frames import FIRST_TEXT
from serving.chat.models import list_models, retrieve_model
from serving.http.operation import Operation

__all__ = ["OPERATIONS"]

_MODEL: dict[str, Json] = {
    "type": "object",
    "required": ["id", "object", "created", "owned_by"],
    "properties": {
        "id": {"type": "string"},
        "object": {"const": "model"},
        "created": {"type": "integer"},
        "owned_by": {"type": "string"},
    },
}
_MODELS: dict[str, Json] = {
    "type": "object",
    "required": ["object", "data"],
    "properties": {"object": {"const": "list"}, "data": {"type": "array", "items": _MODEL}},
}
_COMPLETION: dict[str, Json] = {
    "type": "object",
    "required": ["id", "object", "created", "model", "choices", "usage", "crew"],
    "properties": {
        "id": {"type": "string"},
        "object": {"const": "chat.completion"},
        "created": {"type": "integer"},
        "model": {"type": "string"},
        "choices": {"type": "array", "minItems": 1, "maxItems": 1, "items": {"type": "object"}},
        "usage": {"type": "object"},
        "crew": {"type": "object"},
    },
}

OPERATIONS = [
    Operation(
        method="GET",
        path="/v1/models",
        summary="The workflows, as models.",
        handle=list_models,
        answer=_MODELS,
    ),
    Operation(
        method="GET",
        path="/v1/models/{model:path}",
        summary="One of them.",
        handle=retrieve_model,
        answer=_MODEL,
        errors=[404],
    ),
    Operation(
        method="POST",
        path="/v1/chat/completions",
        summary="Start a run for the last user message; answer with its text, or with its tail.",
        handle=create_completion,
        body=ChatBody,
        streams=True,
        first_text=FIRST_TEXT,
        answer=_COMPLETION,
        errors=[404, 409],
    ),
]
