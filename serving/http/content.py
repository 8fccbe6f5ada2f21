"""What a message says: its text, of whatever parts it is put together, its images and files."""

import binascii
from base64 import b64decode
from typing import Annotated, Any, Self

from pydantic import (
    BeforeValidator,
    Field,
    ModelWrapValidatorHandler,
    PrivateAttr,
    model_validator,
)

from crew.content import Content, File, Image, Part
from serving.http.fields import Body

__all__ = ["Saying", "Text"]

MOST_CHARACTERS = 1_000_000
"""Of the text of one message."""


def _as_text(content: object) -> str:
    """Join the text parts of a message."""
    if content is None or isinstance(content, str):
        return content or ""
    if not isinstance(content, list):
        raise ValueError(f"must be a string or a list of parts, not {content!r:.50}")
    parts = map(_part, content)
    return "\n".join(part for part in parts if isinstance(part, str))


Text = Annotated[str, BeforeValidator(_as_text), Field(max_length=MOST_CHARACTERS)]
"""A string, or a list of parts, of which those with text are joined."""


class Saying(Body):
    """A message of which `content` is the text alone, and `said` all that it says."""

    content: Text = ""
    _parts: tuple[Part, ...] = PrivateAttr(default=())

    @model_validator(mode="wrap")
    @classmethod
    def _read_parts(cls, given: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        message = handler(given)
        if isinstance(given, dict) and isinstance(content := given.get("content"), list):
            parts = tuple(map(_part, content))
            if any(not isinstance(part, str) for part in parts):
                message._parts = parts  # noqa: SLF001  (one of its own class)
        return message

    @property
    def said(self) -> Content:
        """A text, or parts."""
        return self._parts or self.content


def _part(part: object) -> Part:
    """Read one part, in the words of chat completions or of responses."""
    fields: dict[str, Any] = part if isinstance(part, dict) else {}
    match fields.get("type"):
        case "image_url" | "input_image":
            data, kind = _data(fields.get("image_url"))
            return Image(data, kind)
        case "file" | "input_file":
            named = fields.get("file", fields)
            data, kind = _data(named.get("file_data") if isinstance(named, dict) else None)
            return File(str(named.get("filename") or "file"), data, kind)
        case kind if isinstance(text := fields.get("text"), str):
            del kind
            return text
        case kind:
            raise ValueError(
                f"only parts of text, image_url and file are understood, not {kind!r:.50}"
            )


def _data(given: object) -> tuple[bytes, str]:
    """Read a `data:` URL: its bytes, and their media type."""
    url = given.get("url") if isinstance(given, dict) else given
    head, mark, body = url.partition(";base64,") if isinstance(url, str) else ("", "", "")
    if not mark or not head.startswith("data:"):
        raise ValueError(
            "images and files must come as data, such as data:image/png;base64,…; nothing is "
            "fetched, and none are kept by an id"
        )
    try:
        return b64decode(body, validate=True), head.removeprefix("data:").partition(";")[0]
    except binascii.Error as error:
        raise ValueError(f"the data of an image or file is no base64: {error}") from error
