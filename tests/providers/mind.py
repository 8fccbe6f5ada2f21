"""What the fakes' model has to say, before any dialect: by the first word of what it was asked."""

import base64
import json
from dataclasses import dataclass, field, replace
from typing import Any

TEXT = "Grüße aus 東京 😀\n\nZwei Absätze."
CITY = {"name": "Ulm", "people": 126000}
REFUSAL = "I can't help with that."
INPUT, OUTPUT, CACHED, THOUGHT = 19, 7, 4, 5
"""Tokens of every answer; those of its thought are among OUTPUT where the dialect counts them."""


@dataclass(frozen=True)
class Said:
    """One answer of a model."""

    text: str = ""
    calls: tuple[tuple[str, dict[str, Any]], ...] = ()
    thought: str = ""
    refusal: str = ""
    is_filtered: bool = False
    finish: str = "stop"
    is_broken: bool = False
    has_odd_usage: bool = False

    def dressed(self) -> "Said":
        """Return it as a model writes JSON that no grammar binds."""
        return replace(self, text=f"Here it is:\n```json\n{self.text}\n```\nAnything else?")


@dataclass
class Asked:
    """What the model reads of a request."""

    topic: str
    results: list[str] = field(default_factory=list)
    seen: list[tuple[str, bytes]] = field(default_factory=list)


def answer(body: dict[str, Any]) -> Said:
    """Return what the model says to a request."""
    asked = _read(body["messages"])
    match asked.topic:
        case "tools" if not asked.results:
            return Said(calls=(("look", {"word": "a"}),), thought="I look.")
        case "parallel" if not asked.results:
            return Said(calls=(("look", {"word": "a"}), ("look", {"word": "b"})), thought="Twice.")
        case "nested" if not asked.results:
            return Said(calls=(("sort", {"words": '["b", "a"]'}),))
        case "schema":
            return _as_json(body, Said(json.dumps(CITY), thought="A city."))
        case "both":
            return _typed_with_tools(body, asked)
        case "image" | "file":
            return Said("; ".join(f"{len(data)} bytes of {kind}" for kind, data in asked.seen))
        case "shown" if not asked.results:
            return Said(calls=(("draw", {}),))
        case "shown":
            return Said("; ".join(f"{len(data)} bytes of {kind}" for kind, data in asked.seen))
        case "refusal":
            return Said(refusal=REFUSAL)
        case "filter":
            return Said("Well", is_filtered=True)
        case "length":
            return Said(thought="Hm, let me see", finish="length")
        case "longer":
            return Said("It is a long", finish="length")
        case "broken":
            return Said(TEXT, is_broken=True)
        case "odd":
            return Said(TEXT, has_odd_usage=True)
        case "empty":
            return Said("")
        case "tools" | "parallel" | "nested":
            return Said("; ".join(asked.results))
        case _:
            return Said(TEXT, thought="They greet me.")


def _typed_with_tools(body: dict[str, Any], asked: Asked) -> Said:
    if not asked.results:
        return Said(calls=(("look", {"word": "a"}),), thought="I look.")
    return _as_json(body, Said(json.dumps(CITY)))


def _as_json(body: dict[str, Any], said: Said) -> Said:
    return said if "response_format" in body else said.dressed()


def _read(messages: list[dict[str, Any]]) -> Asked:
    asked = Asked("")
    for message in messages:
        content = message.get("content")
        parts = [{"type": "text", "text": content}] if isinstance(content, str) else content or []
        texts = [part["text"] for part in parts if part["type"] == "text"]
        if message["role"] == "tool":
            asked.results += texts
        if message["role"] == "user":
            asked.topic = asked.topic or " ".join(texts).split()[0]
            asked.seen += [_seen(part) for part in parts if part["type"] != "text"]
    return asked


def _seen(part: dict[str, Any]) -> tuple[str, bytes]:
    url = part["image_url"]["url"] if part["type"] == "image_url" else part["file"]["file_data"]
    kind, _, data = url.removeprefix("data:").partition(";base64,")
    return kind, base64.b64decode(data, validate=True)
