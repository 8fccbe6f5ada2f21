"""The thought that some models put before their answer, in its text: `<think>…</think>`.

Gemini's tag is `thought`. Others are left alone: people ask for them, to read what is in them.
"""

__all__ = ["Thought"]

_TAGS = ("<think>", "<thought>")


class Thought:
    """Takes the thought out of the beginning of a text that comes in pieces.

    Args:
        is_over: whether none can come any more.
    """

    __slots__ = ("_held", "_is_inside", "_is_over")

    def __init__(self, *, is_over: bool = False) -> None:
        self._held = ""
        self._is_inside = False
        self._is_over = is_over

    def add(self, piece: str) -> str:
        """Take a piece; return what of the text is known to be said."""
        if self._is_over:
            return piece
        self._held += piece
        begun = self._held.lstrip()
        tag = next((tag for tag in _TAGS if begun.startswith(tag)), None)
        if tag is None:
            may_begin = any(tag.startswith(begun) for tag in _TAGS)
            return "" if may_begin else self._rest()
        self._is_inside = True
        said = begun.partition(tag.replace("<", "</"))[2].lstrip()
        if not said:
            return ""  # nor are the blank lines behind it an answer
        self._is_over, self._held = True, ""
        return said

    def end(self) -> str:
        """Return what was held back and is no thought."""
        return "" if self._is_inside else self._rest()

    def _rest(self) -> str:
        rest, self._held, self._is_over = self._held, "", True
        return rest
