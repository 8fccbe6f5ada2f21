"""A draft's words count as far as what was found bears them out."""

import pytest

from crew.team import Claim, Draft, Quote, arranged, shown
from crew.team.summariser import Statement, phrased

TEXT = "When its node dies, Ray runs the task again on another node, up to `max_retries` times."
FOUND = Claim(text=TEXT, quotes=[Quote(text=TEXT, source="tasks.md")])
NUMBER = Claim(text="170 Ray actors", code="print(8 * 1000 // 47)", printed="170")
QUESTION = "What happens to a running task when its node dies?"


def draft(*statements):
    return Draft(claims=[Statement(quote=number, text=text) for number, text in statements])


def test_a_statement_in_other_words_is_kept():
    said = "Ray runs the task again on another node."
    assert phrased(said, FOUND, QUESTION) == said


@pytest.mark.parametrize(
    "said",
    [
        "The task is terminated when its node dies.",
        "Ray runs the task again, up to 7 times.",
        "KubeRay runs the task again on another node.",
        "What happens to a running task when its node dies?",
        'Ray runs the task again."},{"quote":2.',
        "Ray runs the task again. Ray runs the task again.",
        "Ray runs the task again on anoth",
        "",
    ],
)
def test_a_statement_that_is_not_borne_out_gives_way_to_the_quote(said):
    assert phrased(said, FOUND, QUESTION) == TEXT


def test_words_of_two_sentences_are_not_joined_by_a_weak_model():
    quote = "The HPA scales pods by metrics. The Ray autoscaler scales nodes by resources."
    spliced = "The HPA scales pods by resources."
    assert phrased(spliced, Claim(text=quote), "How?", literal=True) == quote
    said = "The HPA scales pods by metrics."
    assert phrased(said, Claim(text=quote), "How?", literal=True) == said


def test_a_worked_out_number_must_be_in_the_words_about_it():
    assert phrased("Ray actors fit in there.", NUMBER, "How many fit?") == "170 Ray actors"


def test_a_statement_without_a_finding_is_dropped():
    claims = arranged(draft((2, "Everything is fine."), (1, TEXT)), [FOUND], QUESTION)
    assert [claim.text for claim in claims] == [TEXT]


def test_a_number_the_draft_forgot_comes_first():
    claims = arranged(draft((2, TEXT)), [NUMBER, FOUND], QUESTION)
    assert [claim.text for claim in claims] == ["170 Ray actors", TEXT]


def test_an_empty_draft_leaves_the_quotes():
    assert arranged(draft(), [FOUND], QUESTION) == [FOUND]


def test_a_quote_is_shown_once():
    claims = [NUMBER.model_copy(update={"quotes": FOUND.quotes}), FOUND]
    assert arranged(draft((1, "170 Ray actors."), (2, TEXT)), claims, "How many?")[1:] == []


def test_two_claims_may_stand_on_one_quote():
    said = ["Ray runs the task again.", "Ray runs the task on another node."]
    claims = arranged(draft((1, said[0]), (1, said[1]), (1, said[0])), [FOUND], QUESTION)
    assert [claim.text for claim in claims] == said


def test_a_claim_is_shown_with_its_quote_its_source_and_its_code():
    text = shown(NUMBER.model_copy(update={"quotes": FOUND.quotes}))
    assert text.startswith("170 Ray actors\n```python\nprint(8 * 1000 // 47)")
    assert f"> {TEXT}\n> (tasks.md)" in text
