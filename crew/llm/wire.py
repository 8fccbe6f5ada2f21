"""The chat completion wire format: what is sent, and what it takes to read it."""

import json
from dataclasses import replace

from crew.content import File, Image, Part
from crew.llm import ModelReply, ModelRequest, ToolSpec
from crew.message import Json, Message, ToolCall, Usage

__all__ = [
    "INVALID_ARGUMENTS",
    "NOT_ECHOED",
    "counted_body",
    "estimate_tokens",
    "estimate_usage",
    "prompt_text",
    "request_body",
    "with_schema_in_prompt",
    "with_usage",
]

INVALID_ARGUMENTS = "_invalid"
"""Key of the only argument of a tool call whose arguments were not a JSON object.

Its value is the text the model wrote. No error is raised for it: the agent loop sees the key and
sends the model a tool result that says what was wrong, as for arguments that do not validate.
"""

BYTES_PER_TOKEN = 4
IMAGE_CHARACTERS = 8192
"""What an image counts like in a prompt: 2,048 tokens by estimate, 8,192 as a bound.

The most common models take 85 to 1,600 tokens for one; some take more for a big one.
"""
NOTHING_SAID = "(no answer)"
"""Stands for an answer without text and calls, which strict endpoints refuse to read."""
THOUGHTS = "thinking"
"""Name in `extra` of the parts of the content that were no answer (Mistral)."""
NOT_ECHOED = frozenset({"model", THOUGHTS, "think"})
"""Names in `extra` that are no fields of a message."""


def request_body(request: ModelRequest, model: str, *, stream: bool) -> dict[str, Json]:
    """Render a request as the body of POST /chat/completions.

    Equal requests give equal bytes, and a longer conversation begins with the bytes of the
    shorter: nothing here depends on time or chance.
    """
    body: dict[str, Json] = {"model": model, "messages": _messages(request, model)}
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


def counted_body(request: ModelRequest) -> dict[str, Json]:
    """Return what a request sends to be read, with text of a likely length for each image."""
    body: dict[str, Json] = {"messages": _messages(request, None)}
    return {**body, "tools": [_tool(spec) for spec in request.tools]} if request.tools else body


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


def estimate_tokens(text: str) -> int:
    """Guess a text's tokens where no engine counted them: one for four bytes, rounded up."""
    return -(-len(text.encode("utf-8", "surrogatepass")) // BYTES_PER_TOKEN)


def prompt_text(body: dict[str, Json]) -> str:
    """Render a body's prompt so that two share a prefix about where their tokens do."""
    tools = json.dumps(body["tools"]) if body.get("tools") else "[]"
    return tools + "".join(f"\n{json.dumps(message)}" for message in body.get("messages") or ())


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
    asked = prompt_text(counted_body(request))
    answered = text + "".join(json.dumps(_call(call)) for call in calls)
    return Usage(estimate_tokens(asked), estimate_tokens(answered), calls=1)


def _messages(request: ModelRequest, model: str | None) -> list[Json]:
    """Render the messages of a request to a model; None: as they are counted."""
    rendered: list[Json] = []
    shown: list[Json] = []  # what tools returned beside text
    for message in _with_one_system(request.messages):
        if message.role == "tool":
            shown += _parts(message.parts, model) if message.parts else ()
        elif shown:
            rendered.append({"role": "user", "content": shown})
            shown = []
        rendered.append(_message(message, model))
    if shown:
        rendered.append({"role": "user", "content": shown})
    if request.partial:
        rendered.append({"role": "assistant", "content": request.partial})
    return rendered


def _with_one_system(messages: tuple[Message, ...]) -> tuple[Message, ...]:
    """Put what the system says later into its first message: most templates take one, in front."""
    said = [message.text for message in messages if message.role == "system"]
    if len(said) < 2:
        return messages
    others = [message for message in messages if message.role != "system"]
    return (Message("system", "\n\n".join(dict.fromkeys(said))), *others)


def _message(message: Message, model: str | None) -> dict[str, Json]:
    body: dict[str, Json] = {"role": message.role, "content": message.text}
    if message.role == "tool":
        body["tool_call_id"] = message.tool_call_id
        if message.parts:
            body["content"] = _told(message.parts)
    elif message.parts:
        body["content"] = _parts(message.parts, model)
    echoed = _is_of(message, model)
    if message.tool_calls:
        body["tool_calls"] = [_call(call, echoed=echoed) for call in message.tool_calls]
    elif message.role == "assistant" and not message.text.strip():
        body["content"] = NOTHING_SAID
    if echoed and message.extra:
        body |= {name: item for name, item in message.extra.items() if name not in NOT_ECHOED}
        if thoughts := message.extra.get(THOUGHTS):
            said: list[Json] = [{"type": "text", "text": message.text}] if message.text else []
            body["content"] = [*thoughts, *said]
    return body


def _is_of(message: Message, model: str | None) -> bool:
    """Tell whether a model said it, so that it understands what else came with it."""
    return message.extra is not None and (model is None or message.extra.get("model") == model)


def _told(parts: tuple[Part, ...]) -> str:
    """Return what a tool's result says; its images and files follow, since it may hold no such."""
    return "\n".join(_name(part) for part in parts)


def _name(part: Part) -> str:
    match part:
        case Image(media_type=kind):
            return f"[an image, {kind}: it follows the results]"
        case File(name=name):
            return f"[the file {name}: it follows the results]"
        case text:
            return text


def _parts(parts: tuple[Part, ...], model: str | None) -> list[Json]:
    return [_part(part, is_counted=model is None) for part in parts]


def _part(part: Part, *, is_counted: bool) -> dict[str, Json]:
    match part:
        case Image(media_type=kind):
            data = _SOME_DATA if is_counted else part.base64
            return {"type": "image_url", "image_url": {"url": f"data:{kind};base64,{data}"}}
        case File(name=name, kind=kind, text=None):
            data = f"data:{kind};base64,{part.base64}"
            return {"type": "file", "file": {"filename": name, "file_data": data}}
        case File(name=name, text=text):
            return {"type": "text", "text": f"{name}:\n{text}"}
        case text:
            return {"type": "text", "text": text}


_SOME_DATA = "x" * IMAGE_CHARACTERS


def _call(call: ToolCall, *, echoed: bool = False) -> dict[str, Json]:
    function = {"name": call.name, "arguments": json.dumps(call.arguments)}
    body = {"id": call.id, "type": "function", "function": function}
    return {**body, **call.extra} if echoed and call.extra else body


def _tool(spec: ToolSpec) -> dict[str, Json]:
    return {
        "type": "function",
        "function": {
            "name": spec.name,
            "description": spec.description,
            "parameters": spec.parameters,
        },
    }
