"""The chat completion wire format: what is sent, and what comes back, whole or in pieces."""

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace

from crew.errors import ModelError
from crew.llm import ModelReply, ModelRequest, ToolSpec
from crew.message import Json, Message, ToolCall, Usage

__all__ = [
    "INVALID_ARGUMENTS",
    "Assembly",
    "estimate_tokens",
    "estimate_usage",
    "event_data",
    "prompt_text",
    "read_reply",
    "request_body",
    "with_schema_in_prompt",
    "with_usage",
    "without_fence",
]

INVALID_ARGUMENTS = "_invalid"
"""Key of the only argument of a tool call whose arguments were not a JSON object.

Its value is the text the model wrote. No error is raised for it: the agent loop sees the key and
sends the model a tool result that says what was wrong, as for arguments that do not validate.
"""

BYTES_PER_TOKEN = 4


def request_body(request: ModelRequest, model: str, *, stream: bool) -> dict[str, Json]:
    """Render a request as the body of POST /chat/completions.

    Equal requests give equal bytes, and a longer conversation begins with the bytes of the
    shorter: nothing here depends on time or chance.
    """
    body: dict[str, Json] = {"model": model, "messages": [_message(m) for m in request.messages]}
    if request.partial:
        body["messages"].append({"role": "assistant", "content": request.partial})
    if request.tools:
        body["tools"] = [_tool(spec) for spec in request.tools]
    if request.schema is not None:
        body["response_format"] = {
            "type": "json_schema",
            "json_schema": {"name": "output", "schema": request.schema, "strict": False},
        }
    if request.max_tokens is not None:
        body["max_tokens"] = request.max_tokens
    if request.temperature is not None:
        body["temperature"] = request.temperature
    body |= request.parameters
    if stream:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    return body


def with_schema_in_prompt(request: ModelRequest) -> ModelRequest:
    """Return the request with its schema said in words, for endpoints that know no grammar."""
    words = (
        "Answer with one JSON value and nothing else: no prose, no code fence. "
        f"It must satisfy this JSON schema: {json.dumps(request.schema)}"
    )
    first, rest = Message("system"), request.messages
    if rest and rest[0].role == "system":
        first, rest = rest[0], rest[1:]
    first = replace(first, text=f"{first.text}\n\n{words}".lstrip())
    return replace(request, schema=None, messages=(first, *rest))


def without_fence(reply: ModelReply) -> ModelReply:
    """Take the code fence away that models like to put around JSON."""
    text = reply.text.strip()
    if text.startswith("```") and text.endswith("```"):
        text = text.removesuffix("```").partition("\n")[2].strip()
    return replace(reply, text=text)


def read_reply(completion: Json, request: ModelRequest, *, endpoint: str) -> ModelReply:
    """Read a chat completion.

    Raises:
        ModelError: it has no choices, or is none; also an `error` object sent with status 200.
    """
    choices = completion.get("choices") if isinstance(completion, dict) else None
    if not choices or not isinstance(choices[0], dict) or not choices[0].get("message"):
        raise ModelError(
            message=f"{endpoint} answered without choices: {json.dumps(completion)[:200]}; "
            "check that CREW_BASE_URL is an OpenAI-compatible chat endpoint",
            endpoint=endpoint,
        )
    message = choices[0]["message"]
    reply = ModelReply(
        text=message.get("content") or "",
        tool_calls=tuple(_read_call(call) for call in message.get("tool_calls") or ()),
        usage=_read_usage(completion.get("usage")),
        model=completion.get("model") or "",
        finish_reason=choices[0].get("finish_reason") or "stop",
    )
    return with_usage(reply, request)


async def event_data(body: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Yield the data of each server-sent event of one line, which is how chunks are sent.

    Source: the HTML standard, section 9.2.6.
    """
    rest = b""
    async for piece in body:
        # A line may end with either or both; an empty one more says nothing.
        *lines, rest = (rest + piece.replace(b"\r", b"\n")).split(b"\n")
        for line in lines:
            if line.startswith(b"data:") and (data := line[5:].strip()):
                yield data
    if rest.startswith(b"data:") and (data := rest[5:].strip()):
        yield data


@dataclass(slots=True)
class Assembly:
    """Puts the chunks of one stream together to the completion they are pieces of."""

    text: list[str] = field(default_factory=list)
    calls: dict[int, dict[str, Json]] = field(default_factory=dict)
    head: dict[str, Json] = field(default_factory=dict)
    finish_reason: str | None = None
    usage: Json = None

    def add(self, chunk: dict[str, Json]) -> str:
        """Take one chunk; return the text that is new in it."""
        self.head = self.head or {key: chunk.get(key) for key in ("id", "created", "model")}
        self.usage = chunk.get("usage") or self.usage
        for choice in chunk.get("choices") or ():
            self.finish_reason = choice.get("finish_reason") or self.finish_reason
            return self._add_delta(choice.get("delta") or {})
        return ""

    def completion(self) -> dict[str, Json]:
        """Return what the endpoint would have answered without streaming."""
        message: dict[str, Json] = {"role": "assistant", "content": "".join(self.text)}
        if self.calls:
            message["tool_calls"] = [self.calls[index] for index in sorted(self.calls)]
        choice = {"index": 0, "message": message, "finish_reason": self.finish_reason}
        choices = [choice] if self.head else []
        return {
            **self.head,
            "object": "chat.completion",
            "choices": choices,
            "usage": self.usage,
        }

    def _add_delta(self, delta: dict[str, Json]) -> str:
        for call in delta.get("tool_calls") or ():
            self._add_call(call)
        if piece := delta.get("content") or "":
            self.text.append(piece)
        return piece

    def _add_call(self, piece: dict[str, Json]) -> None:
        blank = {"id": "", "type": "function", "function": {"name": "", "arguments": ""}}
        call = self.calls.setdefault(piece.get("index") or 0, blank)
        call["id"] = piece.get("id") or call["id"]
        function = piece.get("function") or {}
        call["function"]["name"] += function.get("name") or ""
        call["function"]["arguments"] += function.get("arguments") or ""


def estimate_tokens(text: str) -> int:
    """Guess a text's tokens where no engine counted them: one for four bytes, rounded up."""
    return -(-len(text.encode("utf-8", "surrogatepass")) // BYTES_PER_TOKEN)


def prompt_text(body: dict[str, Json]) -> str:
    """Render a body's prompt so that two share a prefix about where their tokens do."""
    tools = json.dumps(body["tools"]) if body.get("tools") else "[]"
    return tools + "".join(f"\n{json.dumps(message)}" for message in body.get("messages") or ())


def _message(message: Message) -> dict[str, Json]:
    body: dict[str, Json] = {"role": message.role, "content": message.text}
    if message.tool_calls:
        body["tool_calls"] = [_call(call) for call in message.tool_calls]
    if message.role == "tool":
        body["tool_call_id"] = message.tool_call_id
    return body


def _call(call: ToolCall) -> dict[str, Json]:
    function = {"name": call.name, "arguments": json.dumps(call.arguments)}
    return {"id": call.id, "type": "function", "function": function}


def _tool(spec: ToolSpec) -> dict[str, Json]:
    return {
        "type": "function",
        "function": {
            "name": spec.name,
            "description": spec.description,
            "parameters": spec.parameters,
        },
    }


def _read_call(call: dict[str, Json]) -> ToolCall:
    function = call.get("function") or {}
    return ToolCall(
        name=function.get("name") or "",
        arguments=_read_arguments(function.get("arguments")),
        id=call.get("id") or "",
    )


def _read_arguments(written: Json) -> dict[str, Json]:
    if isinstance(written, dict):
        return written
    try:
        arguments = json.loads(written or "{}")
    except (ValueError, TypeError):
        return {INVALID_ARGUMENTS: str(written)}
    return arguments if isinstance(arguments, dict) else {INVALID_ARGUMENTS: str(written)}


def _read_usage(usage: Json) -> Usage:
    """Read what an endpoint counted; what is no count of tokens is 0."""
    known: dict[str, Json] = usage if isinstance(usage, dict) else {}
    details = known.get("prompt_tokens_details")
    return Usage(
        input_tokens=_count(known.get("prompt_tokens")),
        output_tokens=_count(known.get("completion_tokens")),
        cached_tokens=_count(details.get("cached_tokens")) if isinstance(details, dict) else 0,
        calls=1,
    )


def _count(value: Json) -> int:
    return value if type(value) is int and value > 0 else 0


def with_usage(reply: ModelReply, request: ModelRequest) -> ModelReply:
    """Return a reply with an estimate of the tokens that nobody counted.

    A prompt has tokens, and so has an answer that says something: a budget must still be able to
    end a run whose endpoint counts nothing.
    """
    usage = reply.usage
    is_read = usage.input_tokens > 0
    has_output = usage.output_tokens > 0 or not (reply.text or reply.tool_calls)
    if is_read and has_output:
        return reply
    guess = estimate_usage(request, reply.text, reply.tool_calls)
    estimated = replace(
        usage,
        input_tokens=usage.input_tokens if is_read else guess.input_tokens,
        output_tokens=usage.output_tokens if has_output else guess.output_tokens,
        calls=max(usage.calls, 1),
    )
    return replace(reply, usage=estimated, is_counted=False)


def estimate_usage(request: ModelRequest, text: str, calls: tuple[ToolCall, ...]) -> Usage:
    """Guess what a call cost from its bytes."""
    asked = prompt_text(request_body(request, "", stream=False))
    answered = text + "".join(json.dumps(_call(call)) for call in calls)
    return Usage(estimate_tokens(asked), estimate_tokens(answered), calls=1)
