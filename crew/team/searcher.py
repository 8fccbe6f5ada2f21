"""The searcher: chooses, among sentences that were found, those that answer a question."""

import re
from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated

from pydantic import BaseModel, Field

from crew.agent import Agent
from crew.team.charter import CHARTER
from crew.team.figures import QUANTITIES, figures
from crew.team.words import asks_number, content_words, coverage, paragraphs, rarity
from crew.tool.search import Passage
from crew.value.words import stem

MOST_SENTENCES = 6
_MOST_CHARACTERS = 1000
_SPAN_LENGTHS = range(25, 400)  # characters; less says nothing, more is too long to read
_LINK = re.compile(r"\w\.\w+/\w")
_LONG = 160  # characters; a longer span must say more to be as good
_LEAST_COVERAGE = 0.4
_FEW_WORDS = 3  # of so few more than half must be there


class Quote(BaseModel):
    """A sentence as it stands in a source."""

    text: str
    source: str
    heading: str = ""


class Selection(BaseModel):
    """What the searcher answers: the numbers of the sentences that answer, the best one first.

    0 stands for none: a weak model closes a list that may be empty at once, whatever it read.
    """

    sentences: list[Annotated[int, Field(ge=0, le=MOST_SENTENCES)]] = Field(
        min_length=1, max_length=4
    )


searcher = Agent(
    "searcher",
    instructions=CHARTER
    + """You search. Choose the numbers of the sentences that answer the question, the best one \
first; 0 if no sentence does.
1 Lamps are made of glass.
2 The shop opens at nine.
Question: What are lamps made of?
{"sentences":[1]}""",
    output=Selection,
    max_tokens=60,
    temperature=0.0,
)


def candidates(
    question: str, passages: Sequence[Passage], *, with_figures: bool = False
) -> list[Quote]:
    """Return the sentences of `passages` most likely to answer, best first, six at most.

    A sentence counts by the question's words in it, rare ones more, with a share of those in its
    heading, its neighbours and its place in the search's ranking. Passages that hold less than
    two in five of the question's words, or no more than half of a few, are left out: nothing found
    is an answer, too. Figures to calculate with come from sentences that hold some: `with_figures`.
    """
    words = topic(question)
    found = [(rank, passage) for rank, passage in enumerate(passages) if _covers(passage, words)]
    weights = rarity([passage.text for _, passage in found])
    number = with_figures or asks_number(question)
    scored: list[tuple[float, Quote]] = []
    for rank, passage in found:
        around = _score(words, f"{passage.heading} {passage.source} {passage.text}", weights)
        for text in _spans(passage.text):
            own = _score(words, text, weights) * (1 if len(text) < _LONG else 0.8)
            if own and (figures(text) or not with_figures):
                value = own + 0.3 * around + 0.5 / (rank + 1) + (number and bool(figures(text)))
                value += 0.5 * _begins_with(words, text)
                quote = Quote(text=text, source=passage.source, heading=passage.heading)
                scored.append((value, quote))
    return _fitting([quote for _, quote in sorted(scored, key=lambda it: -it[0])])


def searcher_prompt(question: str, quotes: Sequence[Quote]) -> str:
    """Number the sentences; the best one first, where a weak model looks."""
    lines = [f"{number} {quote.text}" for number, quote in enumerate(quotes, 1)]
    return "\n".join([*lines, f"Question: {question}"])


def selected(selection: Selection, quotes: Sequence[Quote]) -> list[Quote]:
    """Return the chosen quotes, each once; numbers that were never offered choose nothing."""
    chosen = dict.fromkeys(selection.sentences)
    return [quotes[number - 1] for number in chosen if 1 <= number <= len(quotes)]


def topic(question: str) -> list[str]:
    """Return the words a source should hold: the question's, without its figures and units."""
    units = {figure.unit.lower() for figure in figures(question) if figure.kind != "count"}
    known = {stem(word) for word in units | QUANTITIES}
    return [
        w for w in content_words(question, parts=False) if w not in known and not w[0].isdigit()
    ]


def _covers(passage: Passage, words: Sequence[str]) -> bool:
    share = coverage(words, f"{passage.source} {passage.heading} {passage.text}")
    return share > 0.5 if len(words) <= _FEW_WORDS else share >= _LEAST_COVERAGE


def _score(words: Sequence[str], text: str, weights: dict[str, float]) -> float:
    held = set(content_words(text))
    return sum(weights.get(word, 1.0) for word in words if word in held)


def _begins_with(words: Sequence[str], text: str) -> bool:
    """Tell whether a sentence begins with the one thing asked about: then it may define it."""
    return 0 < len(words) <= 2 and words[0] in content_words(text)[:2]


def _spans(text: str) -> list[str]:
    """Return each sentence, and each two in a row: one often says what the other is about.

    A line with a link points elsewhere instead of answering.
    """
    spans: list[str] = []
    for block in paragraphs(text):
        pairs = [f"{first} {second}" for first, second in pairwise(block)]
        fitting = [span for span in [*block, *pairs] if _length(span) in _SPAN_LENGTHS]
        spans += [span for span in fitting if not _LINK.search(span)]
    return spans


def _length(text: str) -> int:
    """Return a text's length in Latin letters; a Chinese character says as much as three."""
    return len(text) + 2 * sum("\u3040" <= letter <= "\u9fff" for letter in text)


def _fitting(quotes: Sequence[Quote]) -> list[Quote]:
    """Cut the list where the prompt would get long: on a CPU reading costs more than writing.

    Of spans that overlap only the best one is kept.
    """
    kept: list[Quote] = []
    for quote in quotes:
        if any(quote.text in other.text or other.text in quote.text for other in kept):
            continue
        room = _MOST_CHARACTERS - sum(len(other.text) for other in kept)
        if len(kept) == MOST_SENTENCES or (kept and len(quote.text) > room):
            break
        kept.append(quote)
    return kept
