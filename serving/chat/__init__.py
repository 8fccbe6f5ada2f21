"""The chat endpoint: workflows called as models, in the OpenAI API's shapes."""

from serving.chat.body import ChatBody
from serving.chat.completions import create_completion
from serving.chat.frames import FIRST_TEXT
from serving.chat.models import list_models, retrieve_model
from serving.operation import Operation

__all__ = ["OPERATIONS"]

OPERATIONS = [
    Operation(
        method="GET",
        path="/v1/models",
        summary="The workflows, as models.",
        handle=list_models,
    ),
    Operation(
        method="GET",
        path="/v1/models/{model:path}",
        summary="One of them.",
        handle=retrieve_model,
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
        errors=[404, 409],
    ),
]
