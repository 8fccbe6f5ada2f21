"""What a message says: text, or parts of which some are images and files."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar, TypeAlias

__all__ = [
    "Content",
    "File",
    "Image",
    "Part",
    "as_content",
    "content_data",
    "content_from",
    "plain_text",
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

Part: TypeAlias = str | Image | File
Content: TypeAlias = str | tuple[Part, ...]


def as_content(value: object) -> Content | None:
    """Return what was given as a message's content; None if it is none.

    That is a text, an image, a file, or a list of such. A list of texts alone is one text.
    """
    if isinstance(value, str):
        return value
    items: tuple[Any, ...] = tuple(value) if isinstance(value, (list, tuple)) else (value,)
    if not items or not all(isinstance(item, (str, Image, File)) for item in items):
        return None
    parts: tuple[Part, ...] = items
    return parts if any(not isinstance(part, str) for part in parts) else plain_text(parts)


def plain_text(parts: Iterable[Part]) -> str:
    """Return the text among parts; what is no text is left out."""
    return "\n".join(part for part in parts if isinstance(part, str))


def content_data(content: Content) -> Any:
    """Return content as it is stored: a text, or a list of texts and of what has a type.

    Data is base64, so that the journal stores it as it stores long texts: once.
    """
    return content if isinstance(content, str) else [_part_data(part) for part in content]


def content_from(data: Any) -> Content:
    """Return stored content."""
    return data if isinstance(data, str) else tuple(_part_from(item) for item in data)


def _part_data(part: Part) -> Any:
    match part:
        case Image(media_type=media_type):
            return {"type": "image", "media_type": media_type, "data": part.base64}
        case File(name=name):
            return {
                "type": "file",
                "name": name,
                "media_type": part.media_type,
                "data": part.base64,
            }
        case _:
            return part


def _part_from(item: Any) -> Part:
    if isinstance(item, str):
        return item
    import base64

    data = base64.b64decode(item["data"])
    if item["type"] == "image":
        return Image(data, item["media_type"])
    return File(item["name"], data, item["media_type"])
