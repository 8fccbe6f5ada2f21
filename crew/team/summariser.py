"""The summariser: puts what was found into claims, each of which a numbered finding bears out."""

import re
from collections.abc import Sequence
from itertools import pairwise

from pydantic import BaseModel, Field

from crew.agent import Agent
from crew.team.charter import CHARTER
from crew.team.figures import standing_values, stands
from crew.team.searcher import Quote
from crew.team.words import content_words, coverage, sentences

_NAME = re.compile(r"`[^`]+`|\b\w*(?:[a-z0-9][A-Z]|_)\w*\b|(?<=[a-z,;] )[A-Z]\w+")
_LEAST_COVERAGE = 0.7
_LEAST_ORDER = 0.7
_DEBRIS = ('"', "{", "}")  # of a reply that a weak model went on with inside its own string
_UNASKED = 2


class Claim(BaseModel):
    """A sentence of an answer with what proves it: quotes, or code that ran."""

    text: str
    quotes: list[Quote] = []
    code: str = ""
    printed: str = ""


class Statement(BaseModel):
    """One sentence of the answer, and the number of the finding it is taken from."""

    quote: int = Field(ge=1)
    text: str = Field(max_length=200)


class Draft(BaseModel):
    """What the summariser answers, in the order in which it should be read."""

    claims: list[Statement] = Field(max_length=4)


summariser = Agent(
    "summariser",
    instructions=CHARTER
    + """You summarise. Answer the question in one-sentence claims, each in the words of one \
numbered quote.
1 Lamps are made of glass.
2 A lamp takes 5 W.
Question: What are lamps made of, and what do they take?
{"claims":[{"quote":1,"text":"Lamps are made of glass."},\
{"quote":2,"text":"A lamp takes 5 W."}]}""",
    output=Draft,
    max_tokens=300,
    temperature=0.0,
)


def summariser_prompt(question: str, claims: Sequence[Claim]) -> str:
    """Number what was found, as the draft's statements will name it."""
    texts = [f"Worked out: {claim.text}" if claim.code else claim.text for claim in claims]
    lines = [f"{number} {text}" for number, text in enumerate(texts, 1)]
    return "\n".join([*lines, f"Question: {question}"])


def arranged(
    draft: Draft, claims: Sequence[Claim], question: str, *, literal: bool = False
) -> list[Claim]:
    """Return the claims of the answer in the draft's order and, where it may, in its words.

    A statement that names no claim is dropped: nothing proves it. Worked out numbers that the
    draft forgot come first; if it kept nothing, the best claims stand as they are. `literal` is
    for a model that recombines words into what nobody said: see `phrased`.
    """
    named = {statement.quote for statement in draft.claims}
    kept = [claim for n, claim in enumerate(claims, 1) if claim.code and n not in named]
    for statement in draft.claims:
        if 1 <= statement.quote <= len(claims):
            claim = claims[statement.quote - 1]
            words = phrased(statement.text, claim, question, literal=literal)
            kept.append(claim.model_copy(update={"text": words}))
    return _unrepeated(kept or claims[:_UNASKED])


def quoted(quote: Quote) -> Claim:
    """Return the claim that says a quote's own words."""
    return Claim(text=quote.text, quotes=[quote])


def shown(claim: Claim) -> str:
    """Lay a claim out in Markdown: its words, the code behind it, and its quotes with sources."""
    lines = []
    if _bare(claim.text) not in map(_bare, _texts(claim)):
        lines.append(claim.text)
    if claim.code:
        lines.append(f"```python\n{claim.code}\n# prints {claim.printed}\n```")
    return "\n".join([*lines, *map(cited, claim.quotes)])


def cited(quote: Quote) -> str:
    """Lay a quote out in Markdown, with its source and the heading it stands under."""
    heading = quote.heading.rpartition(" > ")[2]
    place = f"{quote.source}: {heading}" if heading else quote.source
    return f"> {quote.text}\n> ({place})"


def phrased(text: str, claim: Claim, question: str, *, literal: bool = False) -> str:
    """Return a statement as far as its claim bears it out, or the claim's own words.

    Borne out means: every figure and every name stands in the claim or the question; the words
    that the question does not have are nearly all the claim's; a number that was worked out is
    there; nothing is said twice; and, if it must be `literal`, one sentence of the claim has all
    of it, mostly in its order. This cannot see a wrong "not"; hence a reader is always shown the
    quote beside the claim.
    """
    parts = [part for part in sentences(text.strip()) if part.endswith((".", "!", "\u3002"))]
    whole = " ".join(parts)
    if not whole or len(set(parts)) < len(parts) or any(mark in whole for mark in _DEBRIS):
        return claim.text
    known = f"{claim.text} {question}"
    results = standing_values(claim.text) if claim.code else set()
    new = set(content_words(whole)) - set(content_words(question))
    borne_out = (
        results <= standing_values(whole)
        and all(stands(value, [known]) for value in standing_values(whole))
        and all(name.strip("`").lower() in known.lower() for name in _NAME.findall(whole))
        and bool(new)
        and coverage(new, claim.text) >= _LEAST_COVERAGE
        and (not literal or any(_repeats(whole, one) for one in sentences(claim.text)))
    )
    return whole if borne_out else claim.text


def _repeats(text: str, sentence: str) -> bool:
    """Tell whether `text` has only words of `sentence`, most of them neighbours there, too."""
    pairs, known = (set(pairwise(content_words(one))) for one in (text, sentence))
    in_order = len(pairs & known) / len(pairs) if pairs else 0.0
    return coverage(content_words(text), sentence) == 1 and in_order >= _LEAST_ORDER


def _unrepeated(claims: Sequence[Claim]) -> list[Claim]:
    """Drop claims that say what was said before: the same words, or a quote that was shown."""
    kept: list[Claim] = []
    for claim in claims:
        shown = {_bare(text) for earlier in kept for text in (earlier.text, *_texts(earlier))}
        if _bare(claim.text) not in shown:
            kept.append(claim)
    return kept


def _texts(claim: Claim) -> list[str]:
    return [quote.text for quote in claim.quotes]


def _bare(text: str) -> str:
    return text.lower().strip(" .")
