"""What a message says: text, or parts of which some are images and files."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar, Literal, TypeAlias

from crew.errors import OutputInvalid

__all__ = [
    "Content",
    "File",
    "Image",
    "Part",
    "as_content",
    "content_data",
    "content_from",
    "content_in",
    "content_key",
    "plain_text",
    "result_data",
    "split",
]

_STORED: dict[str, str] = {"ser_json_bytes": "base64", "val_json_bytes": "base64"}


@dataclass(frozen=True)
class Image:
    """A picture for a model that sees.

    Args:
        data: the bytes of its file.
        media_type: their format; most models take PNG, JPEG, WebP and GIF.
    """

    __pydantic_config__: ClassVar[Any] = _STORED

    data: bytes = field(repr=False)
    media_type: str = "image/png"
    type: Literal["image"] = field(default="image", kw_only=True, repr=False)

    @cached_property
    def base64(self) -> str:
        """The data as base64, as it is sent and stored; made once."""
        return _base64(self.data)


@dataclass(frozen=True)
class File:
    """A file for a model that reads its kind; one of text is sent as text, which each model reads.

    Args:
        name: with its ending, which tells the type.
        data: its bytes.
        media_type: where the name does not tell it.
    """

    __pydantic_config__: ClassVar[Any] = _STORED

    name: str
    data: bytes = field(repr=False)
    media_type: str = ""
    type: Literal["file"] = field(default="file", kw_only=True, repr=False)

    @cached_property
    def base64(self) -> str:
        """The data as base64, as it is sent and stored; made once."""
        return _base64(self.data)

    @cached_property
    def kind(self) -> str:
        """Its media type, as it was given or as its name tells."""
        import mimetypes

        guessed = mimetypes.guess_type(self.name)[0]
        return self.media_type or guessed or "application/octet-stream"

    @cached_property
    def text(self) -> str | None:
        """What it says, if it is a file of text."""
        is_text = self.kind.startswith("text/") or self.kind in _OF_TEXT
        try:
            return self.data.decode() if is_text else None
        except UnicodeDecodeError:
            return None


def _base64(data: bytes) -> str:
    import base64  # a tenth of a millisecond that hello need not pay

    return base64.b64encode(data).decode("ascii")


_OF_TEXT = frozenset({"application/json", "application/xml", "application/yaml"})

MOST_PARTS = 256
"""A longer list is no content, and is not looked through."""

Part: TypeAlias = str | Image | File
Content: TypeAlias = str | tuple[Part, ...]


def as_content(value: object) -> Content | None:
    """Return what was given as a message's content; None if it is none.

    That is a text, an image, a file, or a list of such. A list of texts alone is one text.
    """
    if isinstance(value, str):
        return value
    items: tuple[Any, ...] = tuple(value) if isinstance(value, (list, tuple)) else (value,)
    if not items or len(items) > MOST_PARTS:
        return None
    if not all(isinstance(item, (str, Image, File)) for item in items):
        return None
    return items if any(not isinstance(item, str) for item in items) else plain_text(items)


def plain_text(parts: Iterable[Part]) -> str:
    """Return the text among parts; what is no text is left out."""
    return "\n".join(part for part in parts if isinstance(part, str))


def split(content: Content) -> tuple[str, tuple[Part, ...]]:
    """Return the text of a content, and its parts if it is more than that."""
    return (content, ()) if isinstance(content, str) else (plain_text(content), content)


def content_data(content: Content) -> Any:
    """Return content as it is stored: a text, or a list of texts and of what has a type.

    Data is base64, so that the journal stores it as it stores long texts: once. It is what a codec
    makes of such a list, too.
    """
    return content if isinstance(content, str) else [_part_data(part) for part in content]


def result_data(result: object) -> Any | None:
    """Return what a tool gave as it is stored, if it has images or files; None if it is a value.

    Raises:
        OutputInvalid: it is bytes, which no model reads.
    """
    if isinstance(result, (bytes, bytearray, memoryview)):
        raise OutputInvalid(
            message="no model reads bytes; return text, or an Image or a File of them"
        )
    content = as_content(result)
    return content_data(content) if isinstance(content, tuple) else None


def content_from(data: Any) -> Content:
    """Return stored content."""
    return data if isinstance(data, str) else tuple(_part_from(item) for item in data)


def content_in(value: Any) -> Content | None:
    """Return a stored value as content, if it is an image, a file, or a list with any of them.

    Also if it is a model with such a list as its field `parts`, as inputs over HTTP have it.
    """
    if isinstance(value, dict) and isinstance(value.get("parts"), list):
        value = value["parts"]
    items = value if isinstance(value, list) else [value]
    if len(items) > MOST_PARTS:
        return None
    bare = [_without_branch(item) for item in items]
    if all(isinstance(item, str) or _is_part(item) for item in bare) and any(map(_is_part, bare)):
        return content_from(bare)
    return None


def _without_branch(item: Any) -> Any:
    """Return an item of a union as it is; a codec stores with it which of the types it has."""
    is_wrapped = isinstance(item, dict) and item.keys() == {"type", "value"}
    return item["value"] if is_wrapped else item


def content_key(content: Content) -> Any:
    """Return what tells content from another: as it is stored, with digests for its data."""
    if isinstance(content, str):
        return content
    return [part if isinstance(part, str) else _digested(part) for part in content]


def _digested(part: Image | File) -> Any:
    import hashlib

    digest = hashlib.sha256(part.data).hexdigest()
    name = part.name if isinstance(part, File) else ""
    return [part.type, name, part.media_type, digest]


_KEYS = {
    "image": {"type", "media_type", "data"},
    "file": {"type", "name", "media_type", "data"},
}


def _is_part(item: Any) -> bool:
    if not isinstance(item, dict):
        return False
    kind = item.get("type")
    return isinstance(kind, str) and item.keys() == _KEYS.get(kind)


def _part_data(part: Part) -> Any:
    match part:
        case Image(media_type=kind):
            return {"data": part.base64, "media_type": kind, "type": "image"}
        case File(name=name, media_type=kind):
            return {"name": name, "data": part.base64, "media_type": kind, "type": "file"}
        case _:
            return part


def _part_from(item: Any) -> Part:
    if isinstance(item, str):
        return item
    import base64

    # A codec writes the alphabet of URLs.
    data = base64.b64decode(item["data"].translate(_FROM_URLS))
    if item["type"] == "image":
        return Image(data, item["media_type"])
    return File(item["name"], data, item["media_type"])


_FROM_URLS = str.maketrans("-_", "+/")
