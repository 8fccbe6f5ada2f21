"""Images and files in a request, and models that take none."""

import re
from collections.abc import Iterable

from crew.content import File, Image
from crew.errors import ModelError
from crew.llm import ModelRequest

__all__ = ["cannot_take", "kinds_of", "refused_kind"]

_WORDS = {
    "image": re.compile(r"image|vision|multi-?modal", re.IGNORECASE),
    "file": re.compile(r"file", re.IGNORECASE),
}
_NONE = re.compile(
    r"support|not a |missing|unknown|invalid content type|only text|allowed values|expected"
    r"|at most 0",
    re.IGNORECASE,
)
_THIS_ONE = re.compile(
    r"format|mime|media type|image/|too (large|big|many|small)|dimension|decod|corrupt|download"
    r"|base64|failed to load",
    re.IGNORECASE,
)
"""What is said of an image or file that is wrong by itself, and not of what the model takes."""


def kinds_of(request: ModelRequest) -> set[str]:
    """Return what a request holds beside text: `image`, `file`."""
    kinds = set[str]()
    for message in request.messages:
        for part in message.parts:
            if isinstance(part, Image):
                kinds.add("image")
            elif isinstance(part, File) and part.text is None:
                kinds.add("file")
    return kinds


def refused_kind(reason: str, kinds: Iterable[str]) -> str | None:
    """Return what of these an endpoint says that its model does not take; None if it does not."""
    if not _NONE.search(reason) or _THIS_ONE.search(reason):
        return None
    return next((kind for kind in sorted(kinds, reverse=True) if _WORDS[kind].search(reason)), None)


def cannot_take(kind: str, model: str, endpoint: str, reason: str = "") -> ModelError:
    """Return the error for a request with something that a model does not take."""
    what = "images" if kind == "image" else "files but those of text"
    said = f" (it says: {reason[:200]!r})" if reason else ""
    return ModelError(
        message=f"the model {model!r} at {endpoint} takes no {what}{said}; give it text, or set "
        "CREW_BASE_URL and CREW_MODEL to a model that takes them",
        endpoint=endpoint,
    )
