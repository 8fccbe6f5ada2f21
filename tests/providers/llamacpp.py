"""llama.cpp's server (`llama-server --jinja`), with reasoning taken apart as DeepSeek's is."""

import json
from collections.abc import Iterator
from typing import Any

from tests.providers import mind
from tests.providers.mind import Said
from tests.providers.server import Body, Provider, Refused, pieces


class LlamaCpp(Provider):
    name = "llamacpp"
    owner = "llamacpp"

    def check(self, body: Body) -> None:
        messages = body["messages"]
        for place, message in enumerate(messages):
            content = message.get("content")
            if message["role"] != "assistant" and "content" not in message:
                raise Refused("All non-assistant messages must contain 'content'")
            if message["role"] == "assistant" and not content and not message.get("tool_calls"):
                raise Refused("Assistant message must contain either 'content' or 'tool_calls'!")
            if message["role"] == "system" and place:
                raise Refused("System message must be at the beginning.", status=500)
            for part in content if isinstance(content, list) else ():
                self._check_part(message["role"], part)
        if body.get("tools") and body.get("response_format"):
            raise Refused("Cannot use custom grammar constraints with tools.")

    def _check_part(self, role: str, part: Body) -> None:
        if part["type"] == "file":
            raise Refused("unsupported content[].type: file")
        if part["type"] != "text" and role == "tool":
            raise Refused("Tool results hold text alone in this template.")
        if part["type"] == "image_url" and not self.sees:
            raise Refused(
                "image input is not supported - hint: if this is unexpected, you may need to "
                "provide the mmproj",
                status=500,
            )

    def error(self, refused: Refused) -> Any:
        kind = "server_error" if refused.status >= 500 else "invalid_request_error"
        return {"error": {"code": refused.status, "message": refused.message, "type": kind}}

    def whole(self, said: Said, body: Body) -> Body:
        message: Body = {"role": "assistant", "content": said.text or said.refusal}
        if said.thought:
            message["reasoning_content"] = said.thought
        if said.calls:
            message["content"] = None
            message["tool_calls"] = [_call(place, call) for place, call in enumerate(said.calls)]
        choice = {"finish_reason": _finish(said), "index": 0, "message": message}
        return {**_head("chat.completion"), "choices": [choice], **self._counted(said)}

    def chunks(self, said: Said, body: Body) -> Iterator[Body]:
        yield _chunk({"role": "assistant", "content": None})
        for piece in pieces(said.thought):
            yield _chunk({"reasoning_content": piece})
        for piece in pieces(said.text or said.refusal):
            yield _chunk({"content": piece})
        for place, call in enumerate(said.calls):
            made = _call(place, call)
            first, *rest = pieces(made["function"]["arguments"], 8)
            made["function"]["arguments"] = first
            yield _chunk({"tool_calls": [{"index": place, **made}]})
            for piece in rest:
                yield _chunk({"tool_calls": [{"index": place, "function": {"arguments": piece}}]})
        yield _chunk({}, _finish(said))
        if (body.get("stream_options") or {}).get("include_usage"):
            yield {**_head("chat.completion.chunk"), "choices": [], **self._counted(said)}

    def _counted(self, said: Said) -> Body:
        count: Any = float if said.has_odd_usage else int  # as cJSON-based proxies write numbers
        usage = {
            "completion_tokens": count(mind.OUTPUT),
            "prompt_tokens": count(mind.INPUT),
            "total_tokens": count(mind.INPUT + mind.OUTPUT),
        }
        timings = {"prompt_n": mind.INPUT, "predicted_n": mind.OUTPUT, "predicted_ms": 3.4}
        return {"usage": usage, "timings": timings}


def _finish(said: Said) -> str:
    return "tool_calls" if said.calls else said.finish


def _head(kind: str) -> Body:
    named = {"created": 1, "model": "m", "system_fingerprint": "b8685-1"}
    return {**named, "object": kind, "id": "chatcmpl-Vq"}


def _chunk(delta: Body, reason: str | None = None) -> Body:
    choice = {"finish_reason": reason, "index": 0, "delta": delta}
    return {**_head("chat.completion.chunk"), "choices": [choice]}


def _call(place: int, call: tuple[str, Body]) -> Body:
    function = {"name": call[0], "arguments": json.dumps(call[1])}
    return {"type": "function", "function": function, "id": f"Id{place}xYz0"}
