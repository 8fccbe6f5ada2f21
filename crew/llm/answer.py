"""One answer over the requests it takes when its stream breaks: its text, and what it cost."""

from collections.abc import Callable
from dataclasses import replace
from typing import TypeAlias

from crew.llm import ModelReply, ModelRequest
from crew.llm.assembly import Assembly
from crew.llm.reading import reply_of
from crew.message import Usage

__all__ = ["Answer", "OnText"]

OnText: TypeAlias = Callable[[str], None]


class Answer:
    """What has come of an answer so far.

    Args:
        request: as it was asked for first.
        on_text: gets each piece of its text once; None where nobody listens.
    """

    def __init__(self, request: ModelRequest, on_text: OnText | None) -> None:
        self._request, self._on_text = request, on_text
        self._pieces: list[str] = []
        self.lost = Usage()
        """What requests cost whose streams broke; its `calls` is 0, as they are all one call."""
        self.is_counted = True
        """Whether that is what the endpoint counted, and no estimate."""

    @property
    def has_text(self) -> bool:
        return bool(self._pieces)

    def add_text(self, piece: str) -> None:
        self._pieces.append(piece)
        if self._on_text is not None:
            self._on_text(piece)

    def rest(self) -> ModelRequest:
        """Return the request for what comes behind the pieces that came.

        Each of them is a token or more.
        """
        left = self._request.max_tokens and max(1, self._request.max_tokens - len(self._pieces))
        partial = self._request.partial + "".join(self._pieces)
        return replace(self._request, partial=partial, max_tokens=left)

    def broke(self, asked: ModelRequest, received: Assembly) -> None:
        """Count what a request cost whose stream broke.

        It is the endpoint's own count, if that had come. Else it is estimated, as for an endpoint
        that counts nothing: a token for four characters of what was asked and of what was received.
        An endpoint that had not begun to answer is taken to have computed nothing.
        """
        if received.head:
            reply = reply_of(received, asked)
            self.lost += replace(reply.usage, calls=0)
            self.is_counted = self.is_counted and reply.is_counted

    def whole(self, asked: ModelRequest, reply: ModelReply) -> ModelReply:
        """Return the last request's reply with the whole text, and what all requests cost."""
        usage, is_counted = self.lost + reply.usage, self.is_counted and reply.is_counted
        return replace(reply, text=asked.partial + reply.text, usage=usage, is_counted=is_counted)
