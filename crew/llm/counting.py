"""How engines count the tokens of a chat beside the OpenAI API, with the model's own template."""

from collections.abc import Awaitable, Callable
from typing import TypeAlias

from crew.message import Json

__all__ = ["COUNTERS", "Ask"]

Ask: TypeAlias = Callable[[str, dict[str, Json]], Awaitable[dict[str, Json]]]
"""Posts a body to a path of the engine, and returns what it answers."""


async def _counted_by_vllm(ask: Ask, body: dict[str, Json]) -> int:
    """Source: vLLM, "OpenAI-compatible server", the tokenizer API."""
    asked = {name: body[name] for name in ("model", "messages", "tools") if name in body}
    return int((await ask("/tokenize", asked))["count"])


async def _counted_by_llamacpp(ask: Ask, body: dict[str, Json]) -> int:
    """Source: llama.cpp, tools/server/README.md."""
    asked = {name: body[name] for name in ("messages", "tools") if name in body}
    prompt = (await ask("/apply-template", asked))["prompt"]
    text = {"content": prompt, "add_special": True, "parse_special": True}
    return len((await ask("/tokenize", text))["tokens"])


COUNTERS: dict[str, Callable[[Ask, dict[str, Json]], Awaitable[int]]] = {
    "vllm": _counted_by_vllm,
    "llamacpp": _counted_by_llamacpp,
}
"""By who owns the models that an endpoint lists, as engines name themselves there."""
