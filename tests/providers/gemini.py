"""Gemini's OpenAI-compatible endpoint, as of a model that signs its thoughts."""

import json
from collections.abc import Iterator
from typing import Any

from tests.providers import mind
from tests.providers.mind import Said
from tests.providers.server import Body, Provider, Refused, pieces

_PARAMETERS = {
    "model",
    "messages",
    "tools",
    "tool_choice",
    "response_format",
    "max_tokens",
    "max_completion_tokens",
    "temperature",
    "top_p",
    "stop",
    "stream",
    "stream_options",
    "reasoning_effort",
    "extra_body",
    "n",
}
_FIELDS = {"role", "content", "name", "tool_calls", "tool_call_id", "extra_content", "refusal"}
_SIGNATURE = "c2lnbmF0dXJl"
_FOREIGN = "skip_thought_signature_validator"
"""Stands for a signature in what another model said."""
_UNSIGNED = (
    "Function call is missing a thought_signature in functionCall parts. This is required for "
    "tools to work correctly, and missing thought_signature may lead to degraded model "
    "performance. Additional data, function call `default_api:{}` , position {}. Please refer to "
    "https://ai.google.dev/gemini-api/docs/thought-signatures for more details."
)
_UNEQUAL = (
    "Please ensure that the number of function response parts is equal to the number of function "
    "call parts of the function call turn."
)


class Gemini(Provider):
    name = "gemini"
    owner = "google"

    def check(self, body: Body) -> None:
        for name in sorted(set(body) - _PARAMETERS):
            raise _unknown(name)
        if body.get("tools") and body.get("response_format"):
            raise Refused(
                "Function calling with a response mime type: 'application/json' is unsupported"
            )
        asked = 0
        for place, message in enumerate(body["messages"]):
            self._check_message(place, message)
            if message["role"] == "tool":
                asked -= 1
            elif asked:
                raise Refused(_UNEQUAL)
            asked += len(message.get("tool_calls") or ())
        if asked:
            raise Refused(_UNEQUAL)

    def _check_message(self, place: int, message: Body) -> None:
        for name in sorted(set(message) - _FIELDS):
            raise _unknown(f"messages[{place}].{name}")
        content, calls = message.get("content"), message.get("tool_calls") or []
        if not content and not calls:
            raise Refused(f"GenerateContentRequest.contents[{place}].parts: must not be empty.")
        for part in content if isinstance(content, list) else ():
            if part["type"] not in ("text", "image_url", "file"):
                raise Refused(f"Invalid content part type: {part['type']}")
            if part["type"] != "text" and not self.sees:
                raise Refused("This model does not support image input.")
        # The first call of a turn carries the signature of the thought before all of them.
        if calls and _signature(calls[0]) not in (_SIGNATURE, _FOREIGN):
            raise Refused(_UNSIGNED.format(calls[0]["function"]["name"], place))

    def error(self, refused: Refused) -> Any:
        body = {"code": refused.status, "message": refused.message, "status": "INVALID_ARGUMENT"}
        return [{"error": body}]

    def whole(self, said: Said, body: Body) -> Body:
        message: Body = {"role": "assistant"}
        if said.text and not said.is_filtered:
            message["content"] = said.text
        if said.calls:
            message["tool_calls"] = [_call(place, call) for place, call in enumerate(said.calls)]
        reason = "tool_calls" if said.calls else _finish(said)
        choice = {"finish_reason": reason, "index": 0, "message": message}
        return {"choices": [choice], **_head("chat.completion"), "usage": self._usage(said)}

    def chunks(self, said: Said, body: Body) -> Iterator[Body]:
        for piece in pieces(said.text, 9):
            yield {**_chunk({"content": piece}), "usage": self._usage(said)}
        for place, call in enumerate(said.calls):
            made = {**_call(place, call), "index": 0}
            yield {**_chunk({"tool_calls": [made]}), "usage": self._usage(said)}
        yield {**_chunk({}, _finish(said)), "usage": self._usage(said)}

    def _usage(self, said: Said) -> Body:
        in_total_alone = mind.THOUGHT if said.has_odd_usage else 0
        return {
            "completion_tokens": mind.OUTPUT - in_total_alone,
            "prompt_tokens": mind.INPUT,
            "total_tokens": mind.INPUT + mind.OUTPUT,
        }


def _unknown(name: str) -> Refused:
    return Refused(f'Invalid JSON payload received. Unknown name "{name}": Cannot find field.')


def _signature(call: Body) -> Any:
    return ((call.get("extra_content") or {}).get("google") or {}).get("thought_signature")


def _finish(said: Said) -> str:
    return "content_filter" if said.refusal or said.is_filtered else said.finish


def _head(kind: str) -> Body:
    return {"created": 1, "id": "rEZ1aL", "model": "m", "object": kind}


def _chunk(delta: Body, reason: str | None = None) -> Body:
    delta = {"role": "assistant", **delta}
    choice: Body = {"delta": delta, "index": 0}
    if reason:
        choice["finish_reason"] = reason
    return {"choices": [choice], **_head("chat.completion.chunk")}


def _call(place: int, call: tuple[str, Body]) -> Body:
    function = {"arguments": json.dumps(call[1]), "name": call[0]}
    signed = {"extra_content": {"google": {"thought_signature": _SIGNATURE}}} if not place else {}
    return {**signed, "function": function, "id": f"function-call-{place}", "type": "function"}
