"""One conversation of a model with the fakes' tools, as an agent has it, without a journal."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from crew.content import Content, Image
from crew.llm import ModelReply, ModelRequest, ToolSpec
from crew.llm.client import OpenAIModel
from crew.message import Message, Usage, message_with
from tests.providers.server import Provider

PIXEL = b"\x89PNG\r\n\x1a\n"
CITY = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "people": {"type": "integer"}},
    "required": ["name", "people"],
}
_WORDS = {"type": "array", "items": {"type": "string"}}
TOOLS = (
    ToolSpec("look", "Looks.", {"type": "object", "properties": {"word": {"type": "string"}}}),
    ToolSpec("sort", "Sorts.", {"type": "object", "properties": {"words": _WORDS}}),
    ToolSpec("draw", "Draws.", {"type": "object", "properties": {}}),
)


@dataclass
class Came:
    """What came of a conversation."""

    replies: list[ModelReply] = field(default_factory=list)
    streamed: str = ""

    @property
    def text(self) -> str:
        return self.replies[-1].text

    @property
    def calls(self) -> list[tuple[str, dict[str, Any]]]:
        return [(call.name, call.arguments) for reply in self.replies for call in reply.tool_calls]

    @property
    def ids(self) -> list[str]:
        return [call.id for reply in self.replies for call in reply.tool_calls]

    @property
    def usages(self) -> list[Usage]:
        return [reply.usage for reply in self.replies]


@asynccontextmanager
async def model_of(provider: Provider, **options: Any) -> AsyncIterator[OpenAIModel]:
    async with provider.running():
        model = OpenAIModel("m", base_url=provider.url, **{"max_attempts": 1, **options})
        try:
            yield model
        finally:
            await model.close()


async def talk(
    model: OpenAIModel,
    content: Content,
    *,
    streams: bool = False,
    tools: bool = False,
    schema: bool = False,
    **asked: Any,
) -> Came:
    """Say something, and call the tools that are asked for until there is an answer."""
    came = Came()
    pieces: list[str] = []
    opening = (Message("system", "Be brief."), message_with("user", content))
    request = ModelRequest(
        opening, tools=TOOLS if tools else (), schema=CITY if schema else None, **asked
    )
    while True:
        reply = await model.complete(request, on_text=pieces.append if streams else None)
        came.replies.append(reply)
        came.streamed = "".join(pieces)
        if not reply.tool_calls:
            return came
        results = [_result(call.name, call.arguments, call.id) for call in reply.tool_calls]
        request = replace(request, messages=(*request.messages, reply.message(), *results))


def _result(name: str, arguments: dict[str, Any], call: str) -> Message:
    match name:
        case "look":
            return Message("tool", f"found {arguments['word']}", tool_call_id=call)
        case "sort":
            return Message("tool", " ".join(sorted(arguments["words"])), tool_call_id=call)
        case _:
            drawn = ("drawn:", Image(PIXEL, "image/png"))
            return message_with("tool", drawn, tool_call_id=call)
