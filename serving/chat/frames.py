"""The bytes of a streamed chat completion, from a template: no object per token."""

import json
from collections.abc import Mapping

from crew.message import Json

__all__ = ["DONE", "FIRST_TEXT", "PING", "Frames", "data_frame", "usage_body"]

DONE = b"data: [DONE]\n\n"
FIRST_TEXT = b'"delta": {"content": '
"""What only a frame with text of the answer holds."""
PING = b": ping\n\n"
"""A comment: keeps proxies from closing a quiet stream, and every client skips it."""


class Frames:
    """Makes the frames of one completion; everything but the delta is encoded once."""

    def __init__(self, *, id: str, model: str, created: int) -> None:  # noqa: A002 - the API's word
        head = {"id": id, "object": "chat.completion.chunk", "created": created, "model": model}
        self._head = f"data: {json.dumps(head)[:-1]}, "
        self._before = f'{self._head}"choices": [{{"index": 0, "delta": '

    def role(self) -> bytes:
        return self._delta({"role": "assistant", "content": ""})

    def content(self, text: str) -> bytes:
        return self._delta({"content": text})

    def reasoning(self, text: str) -> bytes:
        """Progress, where clients show what a model thinks before it answers."""
        return self._delta({"reasoning_content": text})

    def stop(self) -> bytes:
        return self._delta({}, finish_reason="stop")

    def usage(self, usage: dict[str, Json]) -> bytes:
        """The last frame: no choices, and the tokens of the whole run."""
        return f'{self._head}"choices": [], "usage": {json.dumps(usage)}}}\n\n'.encode()

    def beside(self, facts: dict[str, Json]) -> bytes:
        """A frame without choices whose key `crew` holds what OpenAI's shape has no place for."""
        body = json.dumps(facts, ensure_ascii=False)
        return f'{self._head}"choices": [], "crew": {body}}}\n\n'.encode()

    def _delta(self, delta: dict[str, str], finish_reason: str | None = None) -> bytes:
        end = json.dumps(finish_reason)
        body = json.dumps(delta, ensure_ascii=False)
        return f'{self._before}{body}, "finish_reason": {end}}}]}}\n\n'.encode()


def data_frame(body: dict[str, Json]) -> bytes:
    """A frame of its own shape: an error in mid-stream."""
    return f"data: {json.dumps(body, ensure_ascii=False)}\n\n".encode()


def usage_body(usage: Mapping[str, float]) -> dict[str, Json]:
    """Tokens of a run's whole tree so far, in the API's names."""
    read, written = int(usage.get("input_tokens", 0)), int(usage.get("output_tokens", 0))
    return {
        "prompt_tokens": read,
        "completion_tokens": written,
        "total_tokens": read + written,
        "prompt_tokens_details": {"cached_tokens": int(usage.get("cached_tokens", 0))},
    }
