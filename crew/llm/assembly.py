"""What has come of one answer, whole or in pieces: its text, its calls, and what else it holds."""

import json
from dataclasses import field
from typing import Any

from crew.define import define
from crew.llm.thought import Thought
from crew.llm.wire import THOUGHTS
from crew.message import Json

__all__ = ["Assembly", "Call"]

_REASONING = ("reasoning_content", "reasoning")
"""Names under which reasoning comes as text: DeepSeek's and llama.cpp's, and that of others."""
_PLAIN = frozenset({"content", "role"})
_KEPT = ("reasoning_details", "extra_content")
"""What else its endpoint wants back with a message: OpenRouter's, and Gemini's."""


@define
class Call:
    """A call of a tool, as far as it has come."""

    id: str = ""
    name: str = ""
    arguments: str = ""
    index: Json = None
    extra: dict[str, Json] = field(default_factory=dict)

    @property
    def is_whole(self) -> bool:
        """Whether its arguments are JSON, so that no more of them can come."""
        try:
            json.loads(self.arguments)
        except ValueError:
            return False
        return True

    def add(self, piece: dict[str, Json]) -> None:
        """Take a piece of it."""
        function = _dict(piece.get("function"))
        name, arguments = _str(function.get("name")), function.get("arguments")
        self.id = self.id or _str(piece.get("id"))
        if name and name != self.name:
            self.name += name
        if isinstance(arguments, str):
            self.arguments += arguments
        elif arguments is not None:  # as an object, which some send
            self.arguments += json.dumps(arguments)
        if isinstance(extra := piece.get("extra_content"), dict):
            self.extra["extra_content"] = {**self.extra.get("extra_content", {}), **extra}

    def data(self) -> dict[str, Json]:
        """Return it as an endpoint answers it."""
        function = {"name": self.name, "arguments": self.arguments}
        return {"id": self.id, "type": "function", "function": function, **self.extra}


class Assembly:
    """Reads the chunks of one stream, or a whole completion, which is a stream of one chunk.

    Args:
        goes_on: whether the beginning of the answer was said before, so that no thought begins it.
    """

    def __init__(self, *, goes_on: bool = False) -> None:
        self.text: list[str] = []
        self.refusal = ""
        self.calls: list[Call] = []
        self.head: dict[str, Json] = {}
        self.finish_reason: str | None = None
        self.usage: Json = None
        self.extra: dict[str, Json] = {}
        self.is_answer = False
        """Whether anything of an answer has come, were it empty."""
        self.thought = Thought(is_over=goes_on)

    def add(self, chunk: dict[str, Json]) -> str:
        """Take one chunk; return the text that is new in it."""
        if not self.head:
            self.head = {key: chunk.get(key) for key in ("id", "created", "model")}
        choices = chunk.get("choices")
        choice = choices[0] if isinstance(choices, list) and choices else None
        if not isinstance(choice, dict):
            self.usage = chunk.get("usage") or self.usage
            return ""
        self.usage = chunk.get("usage") or choice.get("usage") or self.usage  # Moonshot's inside
        if reason := choice.get("finish_reason"):
            self.finish_reason = _str(reason) or self.finish_reason
            self.is_answer = True
        message = choice.get("delta")
        if message is None:
            message = choice.get("message")
        if not isinstance(message, dict):
            return ""
        self.is_answer = True
        return self._add_message(message)

    def end(self) -> str:
        """Take note that nothing more comes; return the text that was held back till then."""
        if rest := self.thought.end():
            self.text.append(rest)
        return rest

    def completion(self) -> dict[str, Json]:
        """Return what the endpoint would have answered without streaming."""
        self.end()
        message: dict[str, Json] = {"role": "assistant", "content": "".join(self.text)}
        message |= {name: item for name, item in self.extra.items() if name != THOUGHTS}
        if self.calls:
            message["tool_calls"] = [call.data() for call in self.calls]
        choice = {"index": 0, "message": message, "finish_reason": self.finish_reason}
        return {
            **self.head,
            "object": "chat.completion",
            "choices": [choice] if self.is_answer else [],
            "usage": self.usage,
        }

    def _add_message(self, message: dict[str, Json]) -> str:
        for name in message:
            if name not in _PLAIN:  # most chunks have a piece of text and no more
                self._add_more(message)
                break
        content = message.get("content")
        piece = content if type(content) is str else self._content(content)
        if piece and (said := self.thought.add(piece)):
            self.text.append(said)
            return said
        return ""

    def _add_more(self, message: dict[str, Json]) -> None:
        self._add_calls(message)
        self.refusal += _str(message.get("refusal"))
        for name in _REASONING:
            if piece := _str(message.get(name)):
                self.extra[name] = self.extra.get(name, "") + piece
        for name in _KEPT:
            if piece := message.get(name):
                self._keep(name, piece)

    def _keep(self, name: str, piece: Json) -> None:
        known = self.extra.get(name)
        if isinstance(known, list) and isinstance(piece, list):
            self.extra[name] = [*known, *piece]
        elif isinstance(known, dict) and isinstance(piece, dict):
            self.extra[name] = {**known, **piece}
        else:
            self.extra[name] = piece

    def _content(self, content: Json) -> str:
        """Return the text of a content that may have parts; take down what is no text."""
        if not isinstance(content, list):
            return _str(content)
        said = ""
        for part in content:
            kind = part.get("type") if isinstance(part, dict) else None
            if isinstance(part, str):
                said += part
            elif kind in ("thinking", "reasoning"):
                self._keep(THOUGHTS, [part])
            elif kind == "refusal":
                self.refusal += _str(part.get("refusal"))
            elif kind is not None:
                said += _str(part.get("text"))
        return said

    def _add_calls(self, message: dict[str, Json]) -> None:
        pieces = message.get("tool_calls")
        if isinstance(pieces, dict):  # by their numbers
            pieces = [pieces] if "function" in pieces else list(pieces.values())
        if isinstance(legacy := message.get("function_call"), dict):
            pieces = [{"index": 0, "function": legacy}]
        if not isinstance(pieces, list):
            return
        named = 0
        for piece in pieces:
            if isinstance(piece, dict):
                has_name = bool(_dict(piece.get("function")).get("name"))
                # Of two that come together with names and without numbers, none is a piece of the
                # other.
                self._call_of(piece, is_next=bool(named) and has_name).add(piece)
                named += has_name

    def _call_of(self, piece: dict[str, Json], *, is_next: bool) -> Call:
        """Return the call that a piece belongs to: by its id, by its index, by neither."""
        known = self._known(piece, is_next=is_next)
        if known is None:
            known = Call(index=piece.get("index"))
            self.calls.append(known)
        return known

    def _known(self, piece: dict[str, Json], *, is_next: bool) -> Call | None:
        name, index = _str(piece.get("id")), piece.get("index")
        same = [call for call in self.calls if name and call.id == name]
        if same := [call for call in same if None in (index, call.index) or call.index == index]:
            return None if is_next and same[-1].is_whole else same[-1]
        of_index = self.calls if index is None else [c for c in self.calls if c.index == index]
        last = of_index[-1] if of_index else None
        if last is None or (name and last.id):
            return None  # another one, though its index be the same
        begins = bool(_dict(piece.get("function")).get("name")) and bool(last.name)
        if begins and (last.is_whole or (is_next and index is None)):
            return None
        return last


def _dict(value: Json) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _str(value: Json) -> str:
    return value if isinstance(value, str) else ""
