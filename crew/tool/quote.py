"""Whether a quote stands in a source."""

import re
import unicodedata
from collections.abc import Iterator

FEWEST_WORDS = 3
FEWEST_CJK = 4

_EMPHASIS = re.compile(r"(\*{1,3}|_{1,3}|`+|~~)(?=\S)|(?<=\S)(\*{1,3}|_{1,3}|`+|~~)")
_LINK = re.compile(r"\[([^\]]*)\]\([^)]*\)")
_TYPOGRAPHY: dict[int, str] = {
    **dict.fromkeys((0x2018, 0x2019, 0x201A, 0x201B), "'"),
    **dict.fromkeys((0x201C, 0x201D, 0x201E), '"'),
    **dict.fromkeys((0x2010, 0x2011, 0x2012, 0x2013, 0x2014, 0x2212), "-"),
}
_CJK = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff]")
_WORD = re.compile(r"\w+")


def quote_stands(quote: str, source: str) -> bool:
    """Return whether `quote` stands in `source` word for word.

    White space, Markdown emphasis and links, and the form of quotation marks and dashes do not
    count; a changed word, letter or number does. A quote of fewer than 3 words (4 characters, in
    Chinese, Japanese or Korean) proves nothing, so it never stands.
    """
    wanted = plain(quote)
    if len(_CJK.findall(wanted)) < FEWEST_CJK and len(_WORD.findall(wanted)) < FEWEST_WORDS:
        return False
    text = plain(source)
    return any(_is_whole(wanted, text, found.start()) for found in _occurrences(wanted, text))


def plain(text: str) -> str:
    """Return a text without what a quote need not repeat."""
    text = unicodedata.normalize("NFC", text).translate(_TYPOGRAPHY)
    text = _EMPHASIS.sub("", _LINK.sub(r"\1", text))
    return " ".join(text.split()).strip(" \"'")


def _occurrences(wanted: str, text: str) -> Iterator[re.Match[str]]:
    return re.finditer(f"(?={re.escape(wanted)})", text)


def _is_whole(wanted: str, text: str, start: int) -> bool:
    """A quote that begins or ends within a word or number quotes another one."""
    before = text[start - 1 : start]
    after = text[start + len(wanted) : start + len(wanted) + 1]
    return not (_joined(before, wanted[:1]) or _joined(wanted[-1:], after))


def _joined(left: str, right: str) -> bool:
    if not left or not right or _CJK.match(left) or _CJK.match(right):
        return False
    return (left.isalnum() or left == "_") and (right.isalnum() or right == "_")
