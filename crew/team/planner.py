"""The planner: turns the last question of a conversation into searches and a calculation."""

import re
from collections.abc import Sequence
from typing import Annotated

from pydantic import BaseModel, Field

from crew.agent import Agent
from crew.message import Message
from crew.team.charter import CHARTER
from crew.team.figures import figures, multipliers, standing_values
from crew.team.words import asks_number, content_words, coverage

_POINTS_BACK = re.compile(
    r"^\W*(and|but|or|also|then|so|what about|how about|why|那|还|而)\b"
    r"|\b(it|its|they|them|their|that|those|this|these|there|same|one|ones|he|she)\b|[它他她这那]",
    re.IGNORECASE,
)
_OLD_QUESTIONS = 3
MOST_SEARCHES = 3


class Plan(BaseModel):
    """What the planner answers.

    `question` is the last question in words that need no conversation; `calculation` says what
    is to be worked out of figures, and is empty where words answer.
    """

    question: str = Field(max_length=240)
    searches: list[Annotated[str, Field(max_length=60)]] = Field(
        min_length=1, max_length=MOST_SEARCHES
    )
    calculation: str = Field(max_length=120)


planner = Agent(
    "planner",
    instructions=CHARTER
    + """You plan. Say the user's last question in full, what to search for, and what to calculate \
if a number is asked for.
Why do lamps break? {"question":"Why do lamps break?","searches":["why lamps break"],\
"calculation":""}
How much power do 40 lamps take? {"question":"How much power do 40 lamps take?",\
"searches":["power of a lamp"],"calculation":"power of 40 lamps"}
And twice as many? {"question":"How much power do twice 40 lamps take?",\
"searches":["power of a lamp"],"calculation":"power of twice 40 lamps"}
What is a lamp, and who makes it? {"question":"What is a lamp, and who makes it?",\
"searches":["what is a lamp","who makes lamps"],"calculation":""}""",
    output=Plan,
    max_tokens=400,
    temperature=0.0,
    history=True,
)


def settled(plan: Plan, question: str, earlier: Sequence[Message] = ()) -> Plan:
    """Return the plan with everything taken out that the conversation does not bear out.

    Args:
        plan: what the planner answered.
        question: the user's last message.
        earlier: the thread before it, the user's messages and the answers.
    """
    restated = plan.question.strip()
    if not _restates(restated, question, [message.text for message in earlier]):
        restated = standalone(
            question, [message.text for message in earlier if message.role == "user"]
        )
    searches = _searches(plan.searches, restated)
    everything = " ".join([question, *(message.text for message in earlier)])
    calculation = _calculation(plan.calculation, restated, everything)
    # Not validated: the limits bound what a model writes, and a user's question may be longer.
    return Plan.model_construct(question=restated, searches=searches, calculation=calculation)


def unplanned(question: str) -> Plan:
    """Return the plan that asks nothing of a model: look for the question, calculate if it asks."""
    return Plan.model_construct(question=question, searches=[question], calculation=question)


def standalone(question: str, earlier: Sequence[str]) -> str:
    """Join a question that points back with those before it; one that stands alone stays alone."""
    parts = [question]
    for text in reversed(earlier):
        if not _points_back(parts[0]) or len(parts) > _OLD_QUESTIONS:
            break
        parts.insert(0, text)
    return " ".join(
        part if part.endswith(("?", "\uff1f", ".", "!")) else f"{part}." for part in parts
    )


def _points_back(question: str) -> bool:
    return bool(_POINTS_BACK.search(question)) or len(content_words(question)) < 2


def _restates(restated: str, question: str, earlier: Sequence[str]) -> bool:
    """Tell whether `restated` says the question, and the earlier words it points back to, only.

    Its figures must all have been said, and so must most of its words; it must keep the
    question's figures and words, and where the question points back it must hold an older word.
    """
    texts = [question, *earlier]
    known_figures = {value for text in texts for value in standing_values(text)}
    if not standing_values(question) <= standing_values(restated) <= known_figures:
        return False
    if coverage(content_words(question), restated) < 0.6:
        return False
    if coverage(content_words(restated), " ".join(texts)) < 0.7:
        return False
    if not earlier or not _points_back(question):
        return True
    older = set(content_words(" ".join(earlier))) - set(content_words(question))
    return bool(older & set(content_words(restated)))


def _searches(asked: Sequence[str], question: str) -> list[str]:
    """Keep the searches that are about the question, and see to it that all of it is searched."""
    words = frozenset(content_words(question))
    kept: dict[frozenset[str], str] = {}
    for text in asked:
        key = frozenset(content_words(text))
        fresh = all(len(key & other) < 0.75 * len(key | other) for other in kept)
        if fresh and coverage(key, question) > 0.5:
            kept[key] = text
    if len(frozenset[str]().union(*kept) & words) < 0.8 * len(words) or not kept:
        further = {key: text for key, text in kept.items() if not key < words}
        kept = {words: question} | further
    return list(kept.values())[:MOST_SEARCHES]


def _calculation(asked: str, question: str, everything: str) -> str:
    """Return what to calculate: "" if nothing, the question where `asked` strays from it.

    A question for a number that gives one itself is taken to want arithmetic, whatever was planned.
    """
    if not (asks_number(question) or multipliers(question)):
        return ""
    if not asked.strip():
        return question if figures(question) else ""
    strays = coverage(content_words(asked), question) < 0.6
    sound = standing_values(question) <= standing_values(asked) <= standing_values(everything)
    return asked if sound and not strays else question
