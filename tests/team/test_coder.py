"""Code runs only if every figure in it stands somewhere."""

import pytest

from crew.team import Code, Quote, Ran, runnable, worked_out
from crew.team.coder import refusal

QUESTION = "How many Ray actors fit in 8 GB of memory?"
ACTOR = "A Ray actor is one process of about 47 MB."
TEXTS = [QUESTION, ACTOR]


@pytest.mark.parametrize(
    "code",
    [
        "print(8 * 1000 // 47)",
        "total = 8 * 10**9\neach = 47 * 10**6\nprint(round(total / each, 2))",
        "print(f'{8 * 1000 / 47:.1f} actors')",
        "print(8e9 // 47e6)",
        "print(8000 // 47)",
    ],
)
def test_code_whose_figures_stand_may_run(code):
    assert refusal(code, TEXTS) == ""


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("print(8 * 1000 // 50)", "the figure 50 stands neither"),
        ("print('174 actors', 8 * 1000 // 47)", "the figure 174 stands neither"),
        ("print(8 // 47)", "GB and MB meet in it unconverted"),
        ("print(170)", "it calculates nothing"),
        ("", "it calculates nothing"),
        ("print(8 *", "it is no Python"),
    ],
)
def test_code_that_makes_figures_up_is_refused(code, reason):
    assert reason in refusal(code, TEXTS)


def test_a_figure_of_the_earlier_conversation_may_be_used():
    assert "340" in refusal("print(340 * 2)", ["twice that"])
    assert refusal("print(340 * 2)", ["twice that", "340 Ray actors"]) == ""


def test_refused_code_gives_way_to_the_suggestion():
    options, why = runnable(Code(code="print(99 * 5)"), QUESTION, [], [ACTOR])
    assert [option.code for option in options] == ["print(8 * 1000 // 47)"]
    assert "99" in why


def test_code_that_forgets_to_double_gives_way():
    options, why = runnable(
        Code(code="print(8 * 1000 // 47)"), f"{QUESTION} And in twice that?", [], [ACTOR]
    )
    assert [option.code for option in options] == ["print(2 * 8 * 1000 // 47)"]
    assert "leaves out the 2" in why


def test_code_that_leaves_out_a_figure_of_the_question_is_refused():
    chance = "A node has 2 disks."
    _, why = runnable(Code(code="print(2 * 1000 // 47)"), QUESTION, [], [ACTOR, chance])
    assert why == "it leaves out the 8 GB of the question"


def test_code_that_only_converts_is_refused():
    _, why = runnable(Code(code="print(8 * 1000)"), QUESTION, [], [ACTOR])
    assert why == "it joins no two figures of the question or a source"


def test_half_may_be_written_as_a_division():
    options, why = runnable(
        Code(code="print(8 * 1000 / 2 / 47)"), f"{QUESTION} And in half of it?", [], [ACTOR]
    )
    assert (len(options), why) == (2, "")


def test_without_a_suggestion_refused_code_leaves_nothing():
    options, why = runnable(Code(code="print(99 * 5)"), "How many are there?", [], [])
    assert options == []
    assert why


def test_a_unit_nobody_spoke_of_is_dropped():
    own, _ = runnable(
        Code(code="print(8 * 10**9 // (47 * 10**6))", unit="lamps"), *TEXTS[:1], [], [ACTOR]
    )
    assert own[0].unit == ""


def test_the_result_carries_the_quotes_its_figures_come_from():
    quotes = [Quote(text="Pods are cheap.", source="a.md"), Quote(text=ACTOR, source="b.md")]
    code = Code(code="print(8 * 1000 / 47)", unit="actors")
    claim = worked_out(code, Ran(printed="170.21276595744682"), QUESTION, quotes)
    assert claim.text == "170.213 actors"
    assert [quote.source for quote in claim.quotes] == ["b.md"]
