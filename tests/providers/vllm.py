"""vLLM's OpenAI-compatible server, with a reasoning parser and automatic tool choice."""

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from tests.providers import mind
from tests.providers.mind import Said
from tests.providers.server import Body, Provider, Refused, pieces

_EMPTY_CITY = '{"name": "", "people": 0}'


class VLLM(Provider):
    name = "vllm"
    owner = "vllm"

    def check(self, body: Body) -> None:
        """It ignores what it does not know; templates refuse what they were not written for."""
        for place, message in enumerate(body["messages"]):
            if message["role"] == "system" and place:
                raise Refused("System message must be at the beginning.")
            if message.get("content") is None and not message.get("tool_calls"):
                raise Refused("1 validation error for ValidatorIterator: content Field required")
            for part in message["content"] if isinstance(message.get("content"), list) else ():
                if part["type"] not in ("text", "image_url", "file"):
                    raise Refused(f"Unknown part type: {part['type']}")
                if part["type"] != "text" and not self.sees:
                    raise Refused("m is not a multimodal model")
                if part["type"] != "text" and message["role"] != "user":
                    raise Refused('can only concatenate str (not "list") to str')
        if len(body.get("model", "")) == 0:
            raise Refused("The model `` does not exist.", status=404)

    def adapted(self, body: Body, said: Said) -> Said:
        """A grammar binds all that is written, so that no tool is called beside it."""
        if body.get("tools") and "response_format" in body and said.calls:
            return replace(said, calls=(), text=_EMPTY_CITY)
        return said

    def error(self, refused: Refused) -> Any:
        body = {"message": refused.message, "type": "BadRequestError", "param": None}
        return {"error": {**body, "code": refused.status}}

    def whole(self, said: Said, body: Body) -> Body:
        message = {
            "role": "assistant",
            "content": said.text or said.refusal or None,
            "refusal": None,
            "annotations": None,
            "audio": None,
            "function_call": None,
            "tool_calls": [_call(place, call) for place, call in enumerate(said.calls)],
            "reasoning": said.thought or None,
        }
        choice = {
            "index": 0,
            "message": message,
            "logprobs": None,
            "finish_reason": _finish(said),
            "stop_reason": None,
            "token_ids": None,
        }
        usage = self._usage(said)
        return {**_head("chat.completion"), "choices": [choice], "usage": usage, "metrics": None}

    def chunks(self, said: Said, body: Body) -> Iterator[Body]:
        for chunk in self._deltas(said):
            # Continuous usage statistics count in each chunk what there is till then.
            yield {**chunk, "usage": self._usage(said)} if said.has_odd_usage else chunk
        if (body.get("stream_options") or {}).get("include_usage"):
            yield {**_head("chat.completion.chunk"), "choices": [], "usage": self._usage(said)}

    def _deltas(self, said: Said) -> Iterator[Body]:
        yield _chunk({"role": "assistant", "content": ""})
        for piece in pieces(said.thought):
            yield _chunk({"reasoning": piece})
        for piece in pieces(said.text or said.refusal):
            yield _chunk({"content": piece})
        for place, call in enumerate(said.calls):
            made = _call(place, call)
            arguments = made["function"].pop("arguments")
            yield _chunk({"tool_calls": [{"index": place, **made}]})
            for piece in pieces(arguments):
                yield _chunk({"tool_calls": [{"index": place, "function": {"arguments": piece}}]})
        last = _chunk({"content": ""}, _finish(said))
        last["choices"][0]["stop_reason"] = None
        yield last

    def _usage(self, said: Said) -> Body:
        return {
            "prompt_tokens": mind.INPUT,
            "total_tokens": mind.INPUT + mind.OUTPUT,
            "completion_tokens": mind.OUTPUT,
            "prompt_tokens_details": None,
        }


def _finish(said: Said) -> str:
    return "tool_calls" if said.calls else said.finish


def _head(kind: str) -> Body:
    return {"id": "chatcmpl-6ca98c2f", "object": kind, "created": 1, "model": "m"}


def _chunk(delta: Body, reason: str | None = None) -> Body:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
    return {**_head("chat.completion.chunk"), "choices": [choice]}


def _call(place: int, call: tuple[str, Body]) -> Body:
    function = {"name": call[0], "arguments": json.dumps(call[1])}
    return {"id": f"chatcmpl-tool-{place:08x}", "type": "function", "function": function}
