"""What a call of a server's tool came to, as content that a model reads."""

import base64
import binascii
import json
from collections.abc import Iterable

from crew.content import MOST_PARTS, Content, Image, Part, as_content
from crew.message import Json

__all__ = ["content_of", "words_of"]

MOST_CHARACTERS = 1 << 20
"""Of one text; more is cut. A model gets to read less still."""
MOST_IMAGE_BYTES = 20 << 20
_BEGIN = {
    "image/png": b"\x89PNG",
    "image/jpeg": b"\xff\xd8\xff",
    "image/gif": b"GIF8",
    "image/webp": b"RIFF",
}
"""How the files begin that models see; an endpoint refuses a whole request for one that lies."""


def content_of(result: dict[str, Json]) -> Content:
    """Return a result as MCP's JSON has it: its parts in order, else its structured content."""
    parts = [_part(block) for block in result.get("content") or ()]
    if not parts and (structured := result.get("structuredContent")) is not None:
        return _cut(json.dumps(structured, ensure_ascii=False))
    if len(parts) > MOST_PARTS:
        parts = [*parts[: MOST_PARTS - 1], f"[{len(parts) - MOST_PARTS + 1} parts more, left out]"]
    return as_content(parts) or ""


def words_of(result: dict[str, Json]) -> str:
    """Return what a result says in words, such as why a call failed."""
    return _joined(_part(block) for block in result.get("content") or ())


def _joined(parts: Iterable[Part]) -> str:
    return "\n".join(part for part in parts if isinstance(part, str))


def _part(block: dict[str, Json]) -> Part:
    match block:
        case {"type": "text", "text": text}:
            return _cut(text)
        case {"type": "image", "data": data, "mimeType": kind}:
            return _image(data, kind)
        case {"type": "resource", "resource": {"text": text}}:
            return _cut(text)
        case {"type": "resource", "resource": {"blob": data, "mimeType": kind, "uri": uri}}:
            return _image(data, kind) if kind in _BEGIN else f"[{uri}: a file of {kind}]"
        case {"type": "resource_link", "uri": uri, "name": name}:
            return f"[{name}: {uri}]"
        case _:
            return f"[{block.get('type', 'something')} that cannot be shown]"


def _image(data: str, kind: str) -> Part:
    try:
        found = base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError):
        return f"[an image of {kind} that cannot be read]"
    if len(found) > MOST_IMAGE_BYTES or kind not in _BEGIN or not found.startswith(_BEGIN[kind]):
        return f"[an image of {kind}, {len(found)} bytes, that cannot be shown]"
    return Image(found, kind)


def _cut(text: str) -> str:
    if len(text) <= MOST_CHARACTERS:
        return text
    return f"{text[:MOST_CHARACTERS]}\n[cut: {len(text)} characters in all]"
