"""An Ollama-like endpoint: calls without ids and all of number 0, thoughts inside of the text."""

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from tests.providers import mind
from tests.providers.mind import Said
from tests.providers.server import Body, Provider, Refused, pieces

_IMAGE = re.compile(r"data:(image/(jpeg|jpg|png|webp))?;base64,")
_EMPTY_CITY = '{"name": "", "people": 0}'


class Ollama(Provider):
    name = "ollama"
    owner = "library"

    def check(self, body: Body) -> None:
        for message in body["messages"]:
            content = message.get("content")
            if content is None and not message.get("tool_calls"):
                raise Refused("invalid message content type: <nil>")
            for part in content if isinstance(content, list) else ():
                self._check_part(part)
            for call in message.get("tool_calls") or ():
                arguments = call["function"]["arguments"]
                if not isinstance(json.loads(arguments), dict):
                    raise Refused("invalid tool call arguments")

    def _check_part(self, part: Body) -> None:
        if part["type"] not in ("text", "image_url"):
            raise Refused("invalid message format")
        if part["type"] == "image_url":
            if not _IMAGE.match(part["image_url"]["url"]):
                raise Refused("invalid image input")
            if not self.sees:
                raise Refused("this model is missing data required for image input", status=500)

    def adapted(self, body: Body, said: Said) -> Said:
        """Its grammar binds all that is written, too."""
        if body.get("tools") and "response_format" in body and said.calls:
            return replace(said, calls=(), text=_EMPTY_CITY)
        return said

    def error(self, refused: Refused) -> Any:
        kind = "invalid_request_error" if refused.status == 400 else "api_error"
        return {"error": {"message": refused.message, "type": kind, "param": None, "code": None}}

    def whole(self, said: Said, body: Body) -> Body:
        message: Body = {"role": "assistant", "content": _text(said)}
        if said.calls:
            message["tool_calls"] = [_call(call) for call in said.calls]
        choice = {"index": 0, "message": message, "finish_reason": _finish(said)}
        return {**_head("chat.completion"), "choices": [choice], "usage": self._usage(said)}

    def chunks(self, said: Said, body: Body) -> Iterator[Body]:
        for piece in pieces(_text(said), 3):
            yield _chunk({"content": piece})
        for call in said.calls:
            yield _chunk({"content": "", "tool_calls": [_call(call)]})
        yield _chunk({"content": ""}, _finish(said))
        if (body.get("stream_options") or {}).get("include_usage"):
            yield {**_head("chat.completion.chunk"), "choices": [], "usage": self._usage(said)}

    def _usage(self, said: Said) -> Body:
        read = 0 if said.has_odd_usage else mind.INPUT  # what is cached is not counted at all
        written = mind.OUTPUT
        return {
            "prompt_tokens": read,
            "completion_tokens": written,
            "total_tokens": read + written,
        }


def _text(said: Said) -> str:
    if not said.thought:
        return said.text or said.refusal
    if said.finish == "length" and not said.text:
        return f"<think>\n{said.thought}"
    return f"<think>\n{said.thought}\n</think>\n\n{said.text or said.refusal}"


def _finish(said: Said) -> str:
    return "tool_calls" if said.calls else said.finish


def _head(kind: str) -> Body:
    named = {"created": 1, "model": "m", "system_fingerprint": "fp_ollama"}
    return {"id": "chatcmpl-527", "object": kind, **named}


def _chunk(delta: Body, reason: str | None = None) -> Body:
    choice = {"index": 0, "delta": {"role": "assistant", **delta}, "finish_reason": reason}
    return {**_head("chat.completion.chunk"), "choices": [choice]}


def _call(call: tuple[str, Body]) -> Body:
    function = {"name": call[0], "arguments": json.dumps(call[1])}
    return {"id": "", "index": 0, "type": "function", "function": function}
