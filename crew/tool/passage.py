"""Passages: what of a document is found at once, each a verbatim slice of its file."""

import re
from collections.abc import Iterator

from pydantic import BaseModel

MOST_WORDS = 120

_HEADING = re.compile(r"^(#{1,6})\s+(.*?)\s*#*$")
_FENCE = re.compile(r"^\s*(```|~~~)")
_BLANK_LINES = re.compile(r"\n[ \t]*\n+")
_CJK = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")


class Passage(BaseModel):
    """A piece of a document: its file (relative to the folder), its headings, its very text."""

    source: str
    heading: str
    text: str


def split(source: str, content: str) -> list[Passage]:
    """Cut a file into passages: Markdown by its headings, everything by its blank lines.

    A passage has at most about 120 words, unless one paragraph is longer; none is empty.
    """
    sections = _sections(content) if source.endswith((".md", ".markdown")) else [("", content)]
    return [
        Passage(source=source, heading=heading, text=text)
        for heading, section in sections
        for text in _pieces(section)
    ]


def _sections(content: str) -> Iterator[tuple[str, str]]:
    """Yield each section with the path of headings that leads to it."""
    path: list[tuple[int, str]] = []
    lines: list[str] = []
    fenced = False
    for line in content.splitlines(keepends=True):
        if _FENCE.match(line):
            fenced = not fenced
        found = None if fenced else _HEADING.match(line.rstrip("\n"))
        if found is None:
            lines.append(line)
            continue
        yield " > ".join(title for _, title in path), "".join(lines)
        level = len(found[1])
        lines = []
        path = [item for item in path if item[0] < level] + [(level, found[2])]
    yield " > ".join(title for _, title in path), "".join(lines)


def _pieces(section: str) -> Iterator[str]:
    """Yield slices of whole paragraphs, each as long as may be."""
    start = end = 0
    words = 0
    for first, last in _paragraphs(section):
        size = _size(section[first:last])
        if words and words + size > MOST_WORDS:
            yield section[start:end]
            start, words = first, 0
        if not words:
            start = first
        end, words = last, words + size
    if words:
        yield section[start:end]


def _paragraphs(section: str) -> Iterator[tuple[int, int]]:
    start = 0
    for gap in [*_BLANK_LINES.finditer(section), None]:
        end = gap.start() if gap else len(section)
        text = section[start:end]
        left, right = len(text) - len(text.lstrip()), len(text.rstrip())
        if text.strip():
            yield start + left, start + right
        start = gap.end() if gap else end


def _size(text: str) -> int:
    # Languages without spaces: two characters count as a word.
    return len(text.split()) + len(_CJK.findall(text)) // 2
