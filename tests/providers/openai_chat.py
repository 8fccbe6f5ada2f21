"""OpenAI's chat completions, as of a model that does not reason."""

import json
from collections.abc import Iterator
from typing import Any

from tests.providers import mind
from tests.providers.mind import Said
from tests.providers.server import NAME, Body, Provider, Refused, check_calls, pieces

_PARAMETERS = {
    "model",
    "messages",
    "tools",
    "tool_choice",
    "parallel_tool_calls",
    "response_format",
    "max_tokens",
    "max_completion_tokens",
    "temperature",
    "top_p",
    "stop",
    "seed",
    "presence_penalty",
    "frequency_penalty",
    "reasoning_effort",
    "stream",
    "stream_options",
    "user",
    "metadata",
    "n",
}
_FIELDS = {
    "system": {"role", "content", "name"},
    "developer": {"role", "content", "name"},
    "user": {"role", "content", "name"},
    "assistant": {"role", "content", "name", "refusal", "tool_calls", "audio"},
    "tool": {"role", "content", "tool_call_id"},
}
_UNANSWERED = (
    "An assistant message with 'tool_calls' must be followed by tool messages responding to each "
    "'tool_call_id'. The following tool_call_ids did not have response messages: {}"
)
_ORPHAN = (
    "Invalid parameter: messages with role 'tool' must be a response to a preceeding message with "
    "'tool_calls'."
)


class OpenAIChat(Provider):
    name = "openai-chat"
    owner = "system"

    def check(self, body: Body) -> None:
        if unknown := set(body) - _PARAMETERS:
            raise Refused(f"Unrecognized request argument supplied: {', '.join(sorted(unknown))}")
        if "stream_options" in body and not body.get("stream"):
            raise Refused(
                "The 'stream_options' parameter is only allowed when 'stream' is enabled."
            )
        for place, message in enumerate(body["messages"]):
            self._check_message(place, message)
        check_calls(body["messages"], _UNANSWERED, _ORPHAN)
        for tool in body.get("tools", []):
            if not NAME.fullmatch(tool["function"]["name"]):
                raise Refused("Invalid 'tools[0].function.name': string does not match pattern.")
        if (wanted := body.get("response_format")) is not None:
            self._check_format(wanted)

    def _check_format(self, wanted: Body) -> None:
        if wanted["type"] != "json_schema" or not NAME.fullmatch(wanted["json_schema"]["name"]):
            raise Refused("Invalid value: 'response_format'.", param="response_format")

    def _check_message(self, place: int, message: Body) -> None:
        role, at = message["role"], f"messages[{place}]"
        if unknown := set(message) - _FIELDS[role]:
            raise Refused(f"Unknown parameter: '{at}.{min(unknown)}'.", code="unknown_parameter")
        for call in message.get("tool_calls") or ():
            if unknown := set(call) - {"id", "type", "function"}:
                raise Refused(f"Unknown parameter: '{at}.tool_calls[0].{min(unknown)}'.")
            json.loads(call["function"]["arguments"])
        content = message.get("content")
        if not content and not message.get("tool_calls"):
            raise Refused(f"Invalid value for 'content': expected a string, got null. ({at})")
        for part in content if isinstance(content, list) else ():
            self._check_part(at, role, part)

    def _check_part(self, at: str, role: str, part: Body) -> None:
        if part["type"] not in ("text", "image_url", "file", "refusal"):
            raise Refused(f"Invalid value: '{part['type']}'.", param=f"{at}.content[0].type")
        if part["type"] == "image_url" and role != "user":
            raise Refused(
                f"Invalid '{at}'. Image URLs are only allowed for messages with role 'user', but "
                f"this message with role '{role}' contains an image URL."
            )
        if part["type"] in ("image_url", "file") and not self.sees:
            raise Refused("Invalid content type. image_url is only supported by certain models.")
        if part["type"] == "text" and not part["text"]:
            raise Refused(f"Invalid '{at}': text content parts must be non-empty.")

    def whole(self, said: Said, body: Body) -> Body:
        message: Body = {
            "role": "assistant",
            "content": said.text or None,
            "refusal": said.refusal or None,
            "annotations": [],
        }
        if said.calls:
            message["tool_calls"] = [_call(place, call) for place, call in enumerate(said.calls)]
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": finish(said)}
        return {**_head("chat.completion"), "choices": [choice], "usage": self.usage(said)}

    def chunks(self, said: Said, body: Body) -> Iterator[Body]:
        yield _chunk({"role": "assistant", "content": "", "refusal": None})
        for piece in pieces(said.text):
            yield _chunk({"content": piece})
        for piece in pieces(said.refusal):
            yield _chunk({"refusal": piece})
        for place, call in enumerate(said.calls):
            made = _call(place, call)
            arguments = made["function"]["arguments"]
            made["function"] = {"name": made["function"]["name"], "arguments": ""}
            yield _chunk({"tool_calls": [{"index": place, **made}]})
            for piece in pieces(arguments):
                yield _chunk({"tool_calls": [{"index": place, "function": {"arguments": piece}}]})
        yield _chunk({}, finish(said))
        if (body.get("stream_options") or {}).get("include_usage"):
            yield {**_head("chat.completion.chunk"), "choices": [], "usage": self.usage(said)}

    def usage(self, said: Said) -> Any:
        counted = {
            "prompt_tokens": mind.INPUT,
            "completion_tokens": mind.OUTPUT,
            "total_tokens": mind.INPUT + mind.OUTPUT,
        }
        if said.has_odd_usage:  # older versions: no details
            return counted
        return {
            **counted,
            "prompt_tokens_details": {"cached_tokens": mind.CACHED, "audio_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": self.reasoning_tokens(said)},
        }

    def reasoning_tokens(self, said: Said) -> int:
        return 0


def finish(said: Said) -> str:
    if said.is_filtered:
        return "content_filter"
    return "tool_calls" if said.calls else said.finish


def _head(kind: str) -> Body:
    named = {"service_tier": "default", "system_fingerprint": "fp_1"}
    return {"id": "chatcmpl-C1", "object": kind, "created": 1, "model": "m-2026-01-01", **named}


def _chunk(delta: Body, reason: str | None = None) -> Body:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
    return {**_head("chat.completion.chunk"), "choices": [choice], "usage": None}


def _call(place: int, call: tuple[str, Body]) -> Body:
    function = {"name": call[0], "arguments": json.dumps(call[1])}
    return {"id": f"call_Ab{place}", "type": "function", "function": function}
