"""What a text is about: its sentences, the words that carry its meaning, and how rare they are."""

import math
import re
from collections.abc import Iterable, Sequence

from crew.value.words import STOP_WORDS, query_terms, stem

_CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])")
_SENTENCE_END = re.compile(
    r"(?<=[.!?])[*_`\"')]*\s+(?=[*_`\"'(\[]*[A-Z0-9\u0400-\u04ff])|(?<=[\u3002\uff01\uff1f])"
)
_BLOCK_START = re.compile(r"^\s*(?:(?:[-*+]|\d+[.)])\s+|(?=\|))")
_ASKS_NUMBER = re.compile(
    r"\bhow (many|much|long|far|fast|often|large|big|small|old|high|soon)\b|多少|几|多[长久大快]"
    r"|\b(number|total|sum|percentage|percent|share|average|ratio|calculate|compute)\b"
    r"|\d\s*[-+*/x\xd7\xf7]\s*\d",
    re.IGNORECASE,
)
_ASKING = (
    "am being both did doing each either else happen happens mean means explain describe "
    "difference between get gets give gives make makes let like must need per please same "
    "say says shall she he take takes tell too under us use used using very yes"
)
_STOP = frozenset(map(stem, {*STOP_WORDS, *_ASKING.split()}))


def paragraphs(text: str) -> list[list[str]]:
    """Split Markdown or plain text into blocks of sentences, in order.

    A list item, a table row and a line of code are blocks of their own; wrapped lines are joined
    by a space. Headings and ruler lines are left out.
    """
    return [sentences(block) for block in _blocks(text)]


def sentences(block: str) -> list[str]:
    """Split one paragraph into its sentences, in order."""
    return [part.strip() for part in _SENTENCE_END.split(block) if part.strip()]


def asks_number(question: str) -> bool:
    """Tell whether a question in English or Chinese asks how many, how much or how long."""
    return bool(_ASKS_NUMBER.search(question))


def content_words(text: str, *, parts: bool = True) -> list[str]:
    """Return the stems that carry meaning, each once, in order; Chinese and Japanese by bigrams.

    StatefulSet is found whole and, with `parts`, at the end in its parts.
    """
    split = _CAMEL.sub(" ", text)
    terms = query_terms(f"{text} {split}" if parts and split != text else text)
    return [term for term in terms if term not in _STOP and (len(term) > 1 or term.isdigit())]


def coverage(words: Iterable[str], text: str) -> float:
    """Return the share, 0 to 1, of `words` (stems) that stand in `text`; 1 if there are none."""
    wanted = set(words)
    return len(wanted & set(content_words(text))) / len(wanted) if wanted else 1.0


def rarity(texts: Sequence[str]) -> dict[str, float]:
    """Weigh each stem of `texts` by how few of them hold it (inverse document frequency)."""
    counts: dict[str, int] = {}
    for text in texts:
        for word in content_words(text):
            counts[word] = counts.get(word, 0) + 1
    return {word: math.log(2 + len(texts) / count) for word, count in counts.items()}


def _blocks(text: str) -> list[str]:
    """Join the wrapped lines of each paragraph, list item or table row."""
    blocks: list[str] = []
    fresh, fenced = True, False
    for line in text.splitlines():
        if line.lstrip().startswith("```"):
            fresh, fenced = True, not fenced
        elif not line.strip() or re.fullmatch(r"\s*(#{1,6}\s.*|[|:\s-]+|=+)", line):
            fresh = True
        elif fresh or fenced or _BLOCK_START.match(line):
            blocks.append(_BLOCK_START.sub("", line))
            fresh = fenced
        else:
            blocks[-1] += " " + line.strip()
    return [block.strip() for block in blocks]
